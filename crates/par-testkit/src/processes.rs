//! Who is alive, read from `/proc`.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// A process that cannot be mistaken for a later one with the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    /// In clock ticks since boot.
    started: u64,
    parent: u32,
    name: String,
}

impl Process {
    pub(crate) fn read(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold any of them.
        let (head, tail) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        if *fields.first()? == "Z" {
            return None;
        }
        Some(Self {
            pid,
            started: fields.get(19)?.parse().ok()?,
            parent: fields.get(1)?.parse().ok()?,
            name: head.split_once('(')?.1.to_owned(),
        })
    }

    pub(crate) fn is_alive(&self) -> bool {
        Self::read(self.pid).is_some_and(|now| now.started == self.started)
    }
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return vec![];
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Process::read)
        .collect()
}

/// Ids of the processes below `root`.
pub fn descendants_of(root: u32) -> Vec<u32> {
    let below = descendants(root);
    below.iter().map(|process| process.pid).collect()
}

/// All that descend from `root`, without it.
pub(crate) fn descendants(root: u32) -> Vec<Process> {
    let all = all();
    let mut family = BTreeSet::from([root]);
    loop {
        let before = family.len();
        let children = all
            .iter()
            .filter(|p| family.contains(&p.parent))
            .map(|p| p.pid);
        family.extend(children.collect::<Vec<_>>());
        if family.len() == before {
            break;
        }
    }
    all.into_iter()
        .filter(|p| p.pid != root && family.contains(&p.pid))
        .collect()
}

/// Processes whose command line, environment or working folder names `folder`.
pub(crate) fn that_mention(folder: &Path) -> Vec<Process> {
    let needle = folder.as_os_str().as_encoded_bytes();
    let holds = |bytes: Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
    let mentions = |process: &Process| {
        let read = |file: &str| fs::read(format!("/proc/{}/{file}", process.pid));
        let works_there = fs::read_link(format!("/proc/{}/cwd", process.pid))
            .is_ok_and(|place| place.starts_with(folder));
        works_there
            || ["cmdline", "environ"]
                .into_iter()
                .any(|file| read(file).is_ok_and(holds))
    };
    let others = all()
        .into_iter()
        .filter(|process| process.pid != std::process::id());
    others.filter(mentions).collect()
}
