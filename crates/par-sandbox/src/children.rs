//! The children that we started, and the orphans that came to us.
//!
//! Somebody here waits for every child that we started. Nobody waits for an orphan: it is reaped when it has ended,
//! else it would stay a zombie for as long as we live.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{WaitId, WaitIdOptions, waitid};
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::processes::{ProcessEntry, process_table};
use crate::tree::reap;

/// Between two looks, however many children end: a look costs as much as there are processes.
const BREATH: Duration = Duration::from_millis(20);

static STARTED: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

fn started() -> MutexGuard<'static, BTreeSet<u32>> {
    // A set is whole after every step: a thread that panicked left nothing half done.
    STARTED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a child that somebody here waits for.
pub(crate) fn start(command: &mut Command) -> io::Result<Child> {
    // Held over the start: no look ever sees a child that is not in the set yet.
    let mut started = started();
    let child = command.spawn()?;
    started.extend(child.id());
    Ok(child)
}

/// Whether somebody here started this process and waits for it.
pub(crate) fn is_ours(pid: u32) -> bool {
    started().contains(&pid)
}

/// Reaps orphans that have ended, for as long as it is polled. For a process that adopts them.
pub fn reap_orphans() -> io::Result<impl Future<Output = ()>> {
    let mut children = signal(SignalKind::child())?;
    Ok(async move {
        while children.recv().await.is_some() {
            if somebody_has_ended() {
                reap_the_ended();
            }
            tokio::time::sleep(BREATH).await;
        }
    })
}

/// Whether any child waits to be reaped: usually it was one of ours, and is reaped already.
fn somebody_has_ended() -> bool {
    let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    matches!(waitid(WaitId::All, look), Ok(Some(_)))
}

fn reap_the_ended() {
    let mut started = started();
    let table = process_table();
    let own = std::process::id();
    started.retain(|pid| is_child(&table, own, *pid));
    for orphan in ended_orphans(&table, own, &started) {
        reap(orphan);
    }
}

fn is_child(table: &[ProcessEntry], own: u32, pid: u32) -> bool {
    table
        .iter()
        .any(|process| process.pid == pid && process.parent == own)
}

fn ended_orphans<'a>(
    table: &'a [ProcessEntry],
    own: u32,
    started: &'a BTreeSet<u32>,
) -> impl Iterator<Item = u32> + 'a {
    table
        .iter()
        .filter(move |process| process.parent == own && process.state == 'Z')
        .map(|process| process.pid)
        .filter(|pid| !started.contains(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_that_have_ended_and_that_we_did_not_start_are_reaped() {
        let process = |pid, parent, state| ProcessEntry { pid, parent, state };
        let table = [
            process(2, 1, 'Z'),
            process(3, 1, 'Z'),
            process(4, 1, 'S'),
            process(5, 4, 'Z'),
        ];
        let started = BTreeSet::from([2]);
        assert_eq!(ended_orphans(&table, 1, &started).collect::<Vec<_>>(), [3]);
    }

    #[tokio::test]
    async fn a_child_is_known_from_its_start_until_it_was_waited_for() {
        let mut command = Command::new("/bin/true");
        let mut child = start(&mut command).expect("started");
        let pid = child.id().expect("not waited for yet");
        assert!(started().contains(&pid));
        assert!(is_child(&process_table(), std::process::id(), pid));
        child.wait().await.expect("waited for");
        assert!(!is_child(&process_table(), std::process::id(), pid));
    }
}
