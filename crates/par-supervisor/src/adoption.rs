//! Workers of an earlier life: those that go on are found again, and of the others nothing is left.

use std::io;
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use par_model::ReplicaId;
use par_model::control::{Adoption, MAX_LINE, OwnPorts, Report, Resumed, Secret};
use par_sandbox::{Birth, Target};
use par_store::Incarnation as Kept;
use rustix::net::sockopt::socket_peercred;
use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use crate::incarnation::Link;
use crate::orders::write_line;
use crate::secret;
use crate::state::StateFolder;

/// For a worker to say that it is there.
const PATIENCE: Duration = Duration::from_secs(2);
/// For one that is ended.
const LAST: Duration = Duration::from_secs(5);

/// A worker that goes on.
pub(crate) struct Found {
    pub(crate) kept: Kept,
    pub(crate) pid: u32,
    pub(crate) target: Target,
    pub(crate) link: Link,
    pub(crate) resumed: Resumed,
    pub(crate) mark: String,
}

/// Looks for all of them at the same time. Those that do not go on are ended first, with all that they started.
/// `is_wanted` says whose agent and release are still known.
pub(crate) async fn find_all(
    kept: Vec<Kept>,
    state: &StateFolder,
    own_ports: OwnPorts,
    is_wanted: impl Fn(&Kept) -> bool,
) -> Vec<Found> {
    let begun = Instant::now();
    let found = kept.into_iter().map(|kept| {
        let wanted = is_wanted(&kept);
        find_or_end(kept, state, own_ports, wanted)
    });
    let found: Vec<Found> = futures_util::future::join_all(found)
        .await
        .into_iter()
        .flatten()
        .collect();
    if !found.is_empty() {
        info!(workers = found.len(), took = ?begun.elapsed(), "workers of an earlier supervisor go on");
    }
    found
}

async fn find_or_end(
    kept: Kept,
    state: &StateFolder,
    own_ports: OwnPorts,
    wanted: bool,
) -> Option<Found> {
    let birth = Birth {
        boot: kept.boot_id.clone(),
        ticks: kept.pid_start_time,
    };
    let adoption = Adoption {
        secret: Secret(kept.secret.clone()),
        own_ports,
    };
    let mark = secret::mark(&adoption.secret);
    let Some(target) = Target::born(kept.pid, &birth) else {
        clean_up(&kept, &birth, &mark, state).await;
        return None;
    };
    match timeout(PATIENCE, take_up(&kept, &adoption, state)).await {
        Ok(Ok((link, resumed))) if resumed.agent_pid.is_some() && wanted => {
            return Some(Found {
                pid: kept.pid,
                target,
                link,
                resumed,
                mark,
                kept,
            });
        }
        Ok(Ok(_)) => {
            debug!(replica = %kept.replica, "a worker of an earlier supervisor was not serving, or is not wanted")
        }
        Ok(Err(error)) => warn!(replica = %kept.replica, %error, "failed to adopt a worker"),
        Err(_) => {
            warn!(replica = %kept.replica, "a worker of an earlier supervisor does not answer")
        }
    }
    info!(agent = %kept.agent, pid = kept.pid, "a worker of an earlier supervisor is ended");
    par_sandbox::kill_descendants(kept.pid);
    target.signal(Signal::KILL);
    if timeout(LAST, target.ended()).await.is_err() {
        warn!(agent = %kept.agent, pid = kept.pid, "a worker of an earlier supervisor cannot be ended");
    }
    clean_up(&kept, &birth, &mark, state).await;
    None
}

/// What a worker that has ended left behind.
async fn clean_up(kept: &Kept, birth: &Birth, mark: &str, state: &StateFolder) {
    let this_boot = Birth::of(std::process::id()).map(|own| own.boot);
    if this_boot.as_ref() == Some(&birth.boot) {
        par_sandbox::end_marked(mark, LAST).await;
    }
    if let Err(error) = state.remove_leftovers(kept.replica) {
        warn!(replica = %kept.replica, %error, "failed to remove the sockets of a worker");
    }
}

/// Both sides make sure of each other: we by its process, it by our secret.
async fn take_up(
    kept: &Kept,
    adoption: &Adoption,
    state: &StateFolder,
) -> io::Result<(Link, Resumed)> {
    let stream = UnixStream::connect(state.control_socket(kept.replica)).await?;
    let peer = socket_peercred(stream.as_fd())?;
    if u32::try_from(peer.pid.as_raw_nonzero().get()) != Ok(kept.pid) {
        return Err(io::Error::other("another process listens at its socket"));
    }
    let mut link = Link::new(stream);
    write_line(&mut link.write, adoption).await?;
    let mut line = vec![];
    (&mut link.lines)
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await?;
    match serde_json::from_slice(&line)? {
        Report::Resumed(resumed) => Ok((link, resumed)),
        _ => Err(io::Error::other("it did not say how it is")),
    }
}

/// Those that go on.
pub(crate) fn replicas(found: &[Found]) -> Vec<ReplicaId> {
    found.iter().map(|found| found.kept.replica).collect()
}
