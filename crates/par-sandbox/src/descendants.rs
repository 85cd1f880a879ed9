//! Who is below one process, asked of the kernel about that process alone: with hundreds of processes on the machine,
//! a look at all of them takes long.

use std::fs;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::children::is_ours;
use crate::processes::process_table;
use crate::tree::{kill, reap};

/// Kills all below `root`, and not `root` itself, until none is left, for at most `limit`.
pub async fn end_descendants(root: u32, limit: Duration) {
    end(limit, || living(&descendants(root))).await;
}

/// Kills orphans of ours that come from `root`, which has ended, and all below them: they are in its session, or have
/// `mark`, `NAME=value`, in the environment they began with.
pub async fn end_orphans_of(root: u32, mark: &str, limit: Duration) {
    end(limit, || {
        let orphans = children_of(std::process::id()).into_iter();
        let orphans: Vec<u32> = orphans
            .filter(|pid| {
                !is_ours(*pid) && (session_of(*pid) == Some(root) || has_mark(*pid, mark))
            })
            .collect();
        let below = orphans.iter().flat_map(|pid| descendants(*pid));
        living(&orphans.iter().copied().chain(below).collect::<Vec<_>>())
    })
    .await;
}

/// Kills whatever has `mark`, `NAME=value`, in the environment that it began with, and all below it, whoever it is a
/// child of by now. A look at all processes of the machine: for what an earlier life may have left.
pub async fn end_marked(mark: &str, limit: Duration) {
    end(limit, || {
        let marked = process_table().into_iter().map(|process| process.pid);
        let marked: Vec<u32> = marked.filter(|pid| has_mark(*pid, mark)).collect();
        let below = marked.iter().flat_map(|pid| descendants(*pid));
        living(&marked.iter().copied().chain(below).collect::<Vec<_>>())
    })
    .await;
}

/// Bytes of memory that `root` and all below it have now, with a fair share of what they share. Slower.
pub fn proportional_bytes(root: u32) -> u64 {
    let all = descendants(root).into_iter().chain([root]);
    let page = rustix::param::page_size() as u64;
    // Of a process that does not let us look, all of it.
    let resident = |pid| resident_pages(pid).map(|pages| pages * page);
    all.filter_map(|pid| proportional_bytes_of(pid).or_else(|| resident(pid)))
        .sum()
}

/// Bytes of memory that `root` and all below it have now; what they share is counted for each.
pub fn resident_bytes(root: u32) -> u64 {
    let all = descendants(root).into_iter().chain([root]);
    all.filter_map(resident_pages).sum::<u64>() * rustix::param::page_size() as u64
}

/// Threads that `root` and all below it have now: a process has at least one.
pub fn threads(root: u32) -> u64 {
    let all = descendants(root).into_iter().chain([root]);
    all.map(|pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, |tasks| tasks.count() as u64))
        .sum()
}

async fn end(limit: Duration, find: impl Fn() -> Vec<u32>) {
    let give_up = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        let found = find();
        if found.is_empty() || Instant::now() >= give_up {
            return;
        }
        for pid in found {
            kill(pid, Signal::KILL);
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

pub(crate) fn descendants(root: u32) -> Vec<u32> {
    let mut found = children_of(root);
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let below = children_of(*pid);
        found.extend(below);
        next += 1;
    }
    found
}

/// Those that have not ended; of our own children, those that have are reaped.
fn living(all: &[u32]) -> Vec<u32> {
    let alive = |pid: &u32| match state_of(*pid) {
        Some('Z') => {
            if children_of(std::process::id()).contains(pid) && !is_ours(*pid) {
                reap(*pid);
            }
            false
        }
        state => state.is_some(),
    };
    all.iter().copied().filter(alive).collect()
}

/// Of one that has started one process.
pub(crate) fn first_below(pid: u32) -> Option<u32> {
    children_of(pid).first().copied()
}

/// Each thread has the children that it started.
fn children_of(pid: u32) -> Vec<u32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return vec![];
    };
    let lists =
        threads.filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok());
    let mut children = vec![];
    for list in lists {
        children.extend(
            list.split_ascii_whitespace()
                .filter_map(|pid| pid.parse::<u32>().ok()),
        );
    }
    children
}

pub(crate) fn state_of(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat[stat.rfind(')')? + 1..].trim_start().chars().next()
}

/// The session that it was started in, by the id of its leader.
fn session_of(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat[stat.rfind(')')? + 1..].split_ascii_whitespace();
    fields.nth(3)?.parse().ok()
}

pub(crate) fn proportional_bytes_of(pid: u32) -> Option<u64> {
    let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes << 10)
}

fn has_mark(pid: u32, mark: &str) -> bool {
    let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment
        .split(|byte| *byte == 0)
        .any(|variable| variable == mark.as_bytes())
}

fn resident_pages(pid: u32) -> Option<u64> {
    let statm = fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    statm.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[tokio::test]
    async fn descendants_are_ended_and_their_root_is_not() {
        let mut root = Command::new("/bin/sh")
            .args(["-c", "sleep 1000 & sleep 1000 & read nothing"])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("started");
        let give_up = Instant::now() + Duration::from_secs(10);
        while descendants(root.id()).len() < 2 && Instant::now() < give_up {
            tokio::task::yield_now().await;
        }
        assert_eq!(descendants(root.id()).len(), 2);
        assert!(resident_bytes(root.id()) > 0);
        end_descendants(root.id(), Duration::from_secs(10)).await;
        assert!(living(&descendants(root.id())).is_empty());
        assert!(matches!(root.try_wait(), Ok(None)), "the root lives");
        root.kill().expect("killed");
        root.wait().expect("waited for");
    }
}
