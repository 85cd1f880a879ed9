//! Looks at what no kernel holds for us, and listens to what the kernel has to say.
//!
//! A look at memory comes the sooner the less is left: a process can take about two gigabytes in a second.

use std::rc::Rc;
use std::time::Duration;

use par_model::control::EndCause;
use par_model::limits::{How, LimitName, amount};
use par_model::log::Level;
use par_sandbox::Group;
use tokio::time::{Instant, sleep};

use super::Guard;
use super::workspace::{self, MOST_FILES};

/// Bytes that a process may take of memory in a second.
const FASTEST_MEMORY: f64 = (2_u64 << 30) as f64;
const MEMORY_PAUSES: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));
/// Bytes that may be written in a second, to memory first.
const FASTEST_DISK: f64 = (2_u64 << 30) as f64;
const WORKSPACE_PAUSES: (Duration, Duration) =
    (Duration::from_millis(100), Duration::from_secs(30));
/// Looking takes this part of the time at most.
const SHARE_OF_LOOKING: u32 = 20;
/// Between two looks at the number of processes: while there are many, and while there are not.
const PIDS_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(2));
/// The kernel takes its time to take back what a killed process had.
const SURELY_GONE: Duration = Duration::from_secs(5);
/// A storm of notices makes one line in so much time.
const STORM: Duration = Duration::from_secs(1);

pub(super) fn start(guard: &Rc<Guard>) {
    let mut tasks = guard.watching.borrow_mut();
    let mut watch = |task: std::pin::Pin<Box<dyn Future<Output = ()>>>| {
        tasks.push(tokio::task::spawn_local(task).abort_handle());
    };
    match (guard.wanted.memory, guard.how(LimitName::Memory)) {
        (Some(most), Some(How::Watchdog)) => {
            watch(Box::pin(memory(Rc::clone(guard), most)));
        }
        (Some(_), Some(_)) => watch(Box::pin(kills(Rc::clone(guard)))),
        _ => {}
    }
    if let Some(most) = guard.wanted.pids {
        watch(Box::pin(pids(Rc::clone(guard), most)));
    }
    if let Some(most) = guard.wanted.workspace {
        watch(Box::pin(disk(Rc::clone(guard), most)));
    }
}

impl Guard {
    /// The first reason stays.
    fn end_for(&self, cause: EndCause) {
        self.verdict.borrow_mut().get_or_insert(cause);
        self.agent.kill();
    }
}

async fn memory(guard: Rc<Guard>, most: u64) {
    while let Some(pid) = guard.pid.get() {
        let began = Instant::now();
        // What processes share is counted for each of them first, because that is quick, and then fairly.
        let mut used = par_sandbox::resident_bytes(pid);
        if used > most {
            used = par_sandbox::proportional_bytes(pid);
        }
        if used > most {
            guard.end_for(EndCause::OutOfMemory {
                limit_bytes: most,
                peak_bytes: used,
                kills: 0,
                by: How::Watchdog,
            });
        }
        let left = most.saturating_sub(used) as f64;
        let soon = Duration::from_secs_f64(left / FASTEST_MEMORY);
        let soon = soon.clamp(MEMORY_PAUSES.0, MEMORY_PAUSES.1);
        sleep(soon.max(began.elapsed() * SHARE_OF_LOOKING)).await;
        guard.agent.until_thawed().await;
    }
}

/// Says that the kernel has killed something of the agent's. When it was the agent itself, that is its end and is told
/// as such.
async fn kills(guard: Rc<Guard>) {
    let Some(group) = guard.agent.group() else {
        return;
    };
    let Ok(mut notices) = group.out_of_memory_notices() else {
        return; // the end of the agent is explained all the same
    };
    while notices.next().await.is_ok() {
        // The notice comes before the kill.
        sleep(Duration::from_millis(20)).await;
        let kills = group.events().oom_kills;
        let new = kills.saturating_sub(guard.outlived.get());
        if new > 0 {
            let most = amount(guard.wanted.memory.unwrap_or_default());
            let message = format!(
                "out of memory: the kernel killed {new} of the agent's processes, {most} are allowed"
            );
            guard.reporter.say(Level::Warning, message);
        }
        sleep(SURELY_GONE).await;
        // Were it the agent, that would be known by now.
        guard.outlived.set(kills);
    }
}

async fn pids(guard: Rc<Guard>, most: u64) {
    let by_watchdog = guard.how(LimitName::Pids) == Some(How::Watchdog);
    let mut refused = 0;
    while let Some(pid) = guard.pid.get() {
        let began = Instant::now();
        let found = if by_watchdog {
            par_sandbox::threads(pid)
        } else {
            guard
                .agent
                .group()
                .and_then(|group| group.usage().pids)
                .unwrap_or_default()
        };
        if by_watchdog && found > most {
            guard.end_for(EndCause::TooManyProcesses { limit: most, found });
        }
        if !by_watchdog {
            let events = guard.agent.group().map(Group::events).unwrap_or_default();
            if events.forks_refused > refused {
                let message = format!(
                    "too many processes: {} forks were refused, {most} processes and threads are allowed",
                    events.forks_refused - refused
                );
                guard.reporter.say(Level::Warning, message);
                refused = events.forks_refused;
                sleep(STORM).await;
            }
        }
        let (soon, late) = PIDS_PAUSES;
        let pause = if found > most / 2 || by_watchdog {
            soon
        } else {
            late
        };
        sleep(pause.max(began.elapsed() * SHARE_OF_LOOKING)).await;
        guard.agent.until_thawed().await;
    }
}

async fn disk(guard: Rc<Guard>, most: u64) {
    loop {
        let began = Instant::now();
        let folder = guard.workspace.clone();
        let counting = tokio::task::spawn_blocking(move || workspace::count(&folder, MOST_FILES));
        let Ok(found) = counting.await else { return };
        if found.bytes > most {
            guard.end_for(EndCause::WorkspaceFull {
                limit_bytes: most,
                used_bytes: found.bytes,
            });
        } else if found.files > MOST_FILES {
            guard.end_for(EndCause::TooManyFiles { limit: MOST_FILES });
        }
        let left = most.saturating_sub(found.bytes) as f64;
        let soon = Duration::from_secs_f64(left / FASTEST_DISK);
        let soon = soon.clamp(WORKSPACE_PAUSES.0, WORKSPACE_PAUSES.1);
        sleep(soon.max(began.elapsed() * SHARE_OF_LOOKING)).await;
        guard.agent.until_thawed().await;
    }
}
