//! `GET /supervisor/status`
#![expect(
    unused_qualifications,
    reason = "the macro that describes parameters writes them"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Query, State};
use par_model::ProcessId;
use par_model::api::{Cpu, Detail, Io, Memory, Resources, SupervisorStatus, TlsStatus};
use par_sandbox::{ProcessEntry, Usage};
use serde::Deserialize;
use utoipa::IntoParams;

use super::Shared;
use super::refusal::ApiError;
use crate::egress_tally::EgressTally;
use crate::snapshot::Snapshot;

const LONGEST_WAIT: f64 = 300.0;
/// To count what processes share takes the kernel long: agents that come later go without.
const LONGEST_COUNT: Duration = Duration::from_millis(100);

#[derive(Debug, Deserialize, IntoParams)]
pub(super) struct Wanted {
    /// Answer only when the generation is greater than this.
    after: Option<u64>,
    /// Seconds to wait for that, 300 at most; then answer anyway.
    wait: Option<f64>,
}

/// What every agent is and does, and what it uses of the machine.
#[utoipa::path(
    get, path = "/supervisor/status", params(Wanted),
    responses((status = 200, body = SupervisorStatus), (status = 400, description = "A parameter is wrong", body = Detail))
)]
pub(super) async fn status(
    State(api): Shared,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Result<Json<SupervisorStatus>, ApiError> {
    let Query(wanted) = wanted.map_err(|error| ApiError::bad_request(error.body_text()))?;
    if let Some(after) = wanted.after {
        let wait = Duration::try_from_secs_f64(
            wanted.wait.unwrap_or(LONGEST_WAIT).clamp(0.0, LONGEST_WAIT),
        );
        let mut snapshots = api.control.snapshots.clone();
        let newer = snapshots.wait_for(|snapshot| snapshot.generation > after);
        // Nothing new is an answer too.
        let _either_way = tokio::time::timeout(wait.unwrap_or_default(), newer)
            .await
            .is_ok();
    }
    let snapshot = api.control.snapshot();
    let egress = Arc::clone(&api.control.egress);
    let tls = api.tls.as_ref().map(|tls| tls.borrow().clone());
    let body = tokio::task::spawn_blocking(move || describe(&snapshot, tls, &egress)).await;
    body.map(Json).map_err(|error| ApiError::internal(&error))
}

fn describe(snapshot: &Snapshot, tls: Option<TlsStatus>, egress: &EgressTally) -> SupervisorStatus {
    let now = Instant::now();
    let table = par_sandbox::process_table();
    let give_up = now + LONGEST_COUNT;
    let processes = snapshot.agents.iter().map(|(agent, known)| {
        let mut status = known.to_api(agent, now);
        status.egress = egress.of(agent);
        status.resources = status.pid.and_then(|pid| resources(&table, pid));
        if let Some(resources) = &mut status.resources {
            let memory = &mut resources.memory;
            let limits = known.limits();
            memory.limit_bytes = limits.memory;
            memory.limited_bytes = limits.used(status.agent_pid);
            let in_time = Instant::now() < give_up;
            memory.pss_bytes = in_time.then(|| par_sandbox::proportional_bytes(resources.pid));
        }
        (ProcessId::of(agent.clone()).to_string(), status)
    });
    SupervisorStatus {
        supervisor: "running".to_owned(),
        generation: snapshot.generation,
        processes: processes.collect(),
        routes: snapshot.routes(),
        tls,
        unsaved: snapshot.unsaved.clone(),
    }
}

fn resources(table: &[ProcessEntry], pid: u32) -> Option<Resources> {
    let usage: Usage = par_sandbox::usage(table, pid)?;
    let cpu_time = usage.user_time + usage.system_time;
    let percent = |part: f64, whole: f64| {
        if whole > 0.0 {
            (1000.0 * part / whole).round() / 10.0
        } else {
            0.0
        }
    };
    Some(Resources {
        pid,
        status: usage.state.to_owned(),
        memory: Memory {
            rss_bytes: usage.rss_bytes,
            vms_bytes: usage.vms_bytes,
            pss_bytes: None,
            limited_bytes: None,
            limit_bytes: None,
            percent: percent(usage.rss_bytes as f64, usage.memory_total as f64),
        },
        cpu: Cpu {
            percent: percent(cpu_time, usage.age),
            user_time: usage.user_time,
            system_time: usage.system_time,
        },
        io: usage.io.map(|(read_bytes, write_bytes)| Io {
            read_bytes,
            write_bytes,
        }),
        num_threads: usage.threads,
        num_fds: usage.fds,
    })
}
