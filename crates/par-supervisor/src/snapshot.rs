//! What is known of all agents at one moment, as the driver publishes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use par_lifecycle::{AgentStatus, FleetStatus, Release};
use par_model::api::ProcessStatus;
use par_model::control::EndCause;
use par_model::{AgentId, ProcessId, ProcessState, ReplicaId};

use crate::catalog::Made;
use crate::limits::ToldLimits;

#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) agents: BTreeMap<AgentId, Known>,
    /// By the process id of the worker.
    pub(crate) workers: HashMap<u32, AgentId>,
}

/// One agent.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) status: AgentStatus,
    pub(crate) made: Arc<Made>,
    pub(crate) progress: Option<String>,
    pub(crate) agent_pid: Option<u32>,
    pub(crate) limits: ToldLimits,
}

/// What incarnations told about themselves.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) progress: HashMap<ReplicaId, String>,
    pub(crate) agent_pids: HashMap<ReplicaId, u32>,
    pub(crate) limits: HashMap<ReplicaId, ToldLimits>,
}

impl Snapshot {
    pub(crate) fn of(
        generation: u64,
        fleet: &FleetStatus,
        made: impl Fn(Release) -> Option<Arc<Made>>,
        told: &Told,
    ) -> Self {
        let known = |(agent, status): (&AgentId, &AgentStatus)| {
            let replica = status.incarnation.map(|it| it.replica);
            let known = Known {
                status: status.clone(),
                made: made(status.release)?,
                progress: replica.and_then(|replica| told.progress.get(&replica).cloned()),
                agent_pid: replica.and_then(|replica| told.agent_pids.get(&replica).copied()),
                limits: replica
                    .and_then(|replica| told.limits.get(&replica).cloned())
                    .unwrap_or_default(),
            };
            Some((agent.clone(), known))
        };
        let worker = |(agent, status): (&AgentId, &AgentStatus)| {
            Some((status.incarnation?.pid?, agent.clone()))
        };
        Self {
            generation,
            agents: fleet.iter().filter_map(known).collect(),
            workers: fleet.iter().filter_map(worker).collect(),
        }
    }

    /// Agents that take calls now.
    pub(crate) fn routes(&self) -> Vec<String> {
        let ready = self
            .agents
            .iter()
            .filter(|(_, known)| known.status.state == ProcessState::Running);
        ready.map(|(agent, _)| agent.to_string()).collect()
    }

    /// Whether nothing of any agent lives.
    pub(crate) fn is_empty(&self) -> bool {
        self.agents
            .values()
            .all(|known| known.status.incarnation.is_none())
    }

    /// The agent that a word such as `par-hello` or `hello` means.
    pub(crate) fn find(&self, word: &str) -> Option<(&AgentId, &Known)> {
        let process = ProcessId::parse(word, |agent| self.agents.contains_key(agent)).ok()?;
        self.agents.get_key_value(process.agent())
    }
}

impl Known {
    pub(crate) fn to_api(&self, agent: &AgentId, now: Instant) -> ProcessStatus {
        let status = &self.status;
        let starting = status.state == ProcessState::Starting;
        ProcessStatus {
            agent_id: agent.to_string(),
            package_id: self.made.package_id.clone(),
            package_digest: self.made.digest.to_string(),
            port: status.incarnation.map(|it| it.port),
            grpc_port: status.incarnation.map(|it| it.grpc_port),
            state: status.state,
            progress: self.progress.clone().filter(|_| starting),
            pid: status.incarnation.and_then(|it| it.pid),
            agent_pid: self.agent_pid,
            uptime: status
                .ready_since
                .map(|since| now.saturating_duration_since(since).as_secs_f64()),
            restart_count: status.restart_count,
            error: status.error.as_ref().map(ToString::to_string),
            traceback: status.error.as_ref().and_then(traceback),
            restart_in: status
                .restart_at
                .map(|at| at.saturating_duration_since(now).as_secs_f64()),
            resources: None,
            limits: self.limits.limits.clone(),
        }
    }
}

pub(crate) fn traceback(cause: &EndCause) -> Option<String> {
    match cause {
        EndCause::LoadFailed { traceback, .. } => traceback.clone(),
        _ => None,
    }
}
