//! Ends processes with everything that they started.
//!
//! A worker, and the supervisor above it, adopt the orphans below them. What was started by an agent and has moved
//! into a session of its own thus comes back to us as a child that we did not start: a stray.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, kill_process, set_child_subreaper, waitid,
};
use tracing::warn;

use crate::processes::{ProcessEntry, process_table};

/// From now on orphans below us become our children.
pub fn adopt_orphans() -> io::Result<()> {
    Ok(set_child_subreaper(Some(getpid()))?)
}

/// Signals one process that was just seen; that it is gone already is fine.
pub(crate) fn kill(pid: u32, signal: Signal) {
    let Some(target) = pid_of(pid) else { return };
    match kill_process(target, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => {}
        Err(error) => warn!(pid, %error, "failed to signal a process"),
    }
}

/// Kills all children of this process that are not among `known`, their descendants first seen with them, and
/// waits until they are gone, for at most `limit`. Returns how many are left.
///
/// `known` is asked anew, without a pause, before each look: a child just started is never taken for a stray.
pub async fn end_strays(known: impl Fn() -> Vec<u32>, limit: Duration) -> usize {
    let give_up = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        let left = strike(&known());
        if left == 0 || Instant::now() >= give_up {
            return left;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// One look, one blow: signals every stray and reaps those that have ended. Returns how many there were.
fn strike(known: &[u32]) -> usize {
    let table = process_table();
    let own = std::process::id();
    let strays: Vec<&ProcessEntry> = table
        .iter()
        .filter(|process| process.parent == own && !known.contains(&process.pid))
        .collect();
    for stray in &strays {
        for pid in below(&table, stray.pid) {
            kill(pid, Signal::KILL);
        }
        kill(stray.pid, Signal::KILL);
        reap(stray.pid);
    }
    strays.len()
}

/// Takes the exit status of a child that nobody waits for.
pub(crate) fn reap(pid: u32) {
    let Some(target) = pid_of(pid) else { return };
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    if let Err(error) = waitid(WaitId::Pid(target), options)
        && error != rustix::io::Errno::CHILD
    {
        warn!(pid, %error, "failed to reap a stray process");
    }
}

/// Kills everything below `root`, and not `root` itself.
pub fn kill_descendants(root: u32) {
    for pid in below(&process_table(), root) {
        kill(pid, Signal::KILL);
    }
}

pub(crate) fn below(table: &[ProcessEntry], root: u32) -> Vec<u32> {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for process in table {
        children
            .entry(process.parent)
            .or_default()
            .push(process.pid);
    }
    let mut found = vec![];
    let mut next = vec![root];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            found.push(child);
            next.push(child);
        }
    }
    found
}

fn pid_of(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_at_any_depth() {
        let process = |pid, parent| ProcessEntry {
            pid,
            parent,
            state: 'S',
        };
        let table = [
            process(2, 1),
            process(3, 2),
            process(4, 3),
            process(9, 1),
            process(5, 2),
        ];
        let mut found = below(&table, 2);
        found.sort_unstable();
        assert_eq!(found, [3, 4, 5]);
    }
}
