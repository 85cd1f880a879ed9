//! One control group: made, limited, joined, frozen, ended.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use par_model::limits::{Controller, GroupPart, GroupPlace, GroupVersion};
use rustix::process::Signal;

use super::files::{keyed, number, read, reason, write};
use crate::tree::kill;

/// For processes to stop; usually it takes less than two milliseconds.
const LONGEST_FREEZE: Duration = Duration::from_millis(20);
const FREEZE_PAUSE: Duration = Duration::from_micros(100);
/// Between two looks at a group that ends.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(20);

/// A handle on a group. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Group {
    place: GroupPlace,
}

/// What the kernel has noted of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupEvents {
    /// Processes that were killed because the group had too much memory.
    pub oom_kills: u64,
    /// The most memory that it had, in bytes, if that is known.
    pub memory_peak: Option<u64>,
    /// Forks that were refused because it had too many processes.
    pub forks_refused: u64,
}

/// What a group uses now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupUsage {
    pub memory: Option<u64>,
    pub pids: Option<u64>,
}

impl Group {
    pub fn at(place: GroupPlace) -> Self {
        Self { place }
    }

    pub fn place(&self) -> &GroupPlace {
        &self.place
    }

    /// Where a group below this one is, or would be.
    pub fn below(&self, name: &str) -> Self {
        let below = |part: &GroupPart| GroupPart {
            folder: part.folder.join(name),
            ..part.clone()
        };
        Self::at(GroupPlace {
            parts: self.place.parts.iter().map(below).collect(),
            missing: self.place.missing.clone(),
        })
    }

    /// The same group, but for a hierarchy that only shares out processors: who is in it takes its turns with the whole
    /// group, and not as a process among processes.
    pub fn without_cpu(&self) -> Self {
        let shares_only = |part: &GroupPart| {
            part.version == GroupVersion::One && part.controllers == [Controller::Cpu]
        };
        let parts = self.place.parts.iter().filter(|part| !shares_only(part));
        let why = "nobody asked for it".to_owned();
        let missing = self.place.missing.iter().cloned();
        Self::at(GroupPlace {
            parts: parts.cloned().collect(),
            missing: missing.chain([(Controller::Cpu, why)]).collect(),
        })
    }

    /// Makes a group below this one, unless it is there.
    pub fn make(&self, name: &str) -> Result<Self, String> {
        let made = self.below(name);
        for part in &made.place.parts {
            make_folder(&part.folder).map_err(|error| reason(&error, "make", &part.folder))?;
        }
        Ok(made)
    }

    /// Lets groups below this one be limited; only version 2 wants to be told.
    pub(super) fn pass_on(&self) -> Result<(), String> {
        for part in self.parts_of(GroupVersion::Two) {
            let words = part.controllers.iter();
            let words: Vec<String> = words.map(|it| format!("+{}", it.name())).collect();
            if words.is_empty() {
                continue;
            }
            write(&part.folder, "cgroup.subtree_control", &words.join(" "))
                .map_err(|error| reason(&error, "pass controllers on below", &part.folder))?;
        }
        Ok(())
    }

    /// Files that take the number of a process that joins, or 0 for the one that writes it.
    pub fn doors(&self) -> Vec<PathBuf> {
        let folders = self.place.parts.iter().map(|part| &part.folder);
        folders.map(|folder| folder.join("cgroup.procs")).collect()
    }

    /// The part in which a controller limits, or why there is none.
    pub(super) fn part_with(&self, controller: Controller) -> Result<&GroupPart, String> {
        let has = |part: &&GroupPart| part.controllers.contains(&controller);
        let missing = || {
            let known = self.place.missing.iter();
            let known = known
                .clone()
                .find(|(missing, _)| *missing == controller)
                .map(|(_, why)| why.clone());
            known.unwrap_or_else(|| format!("there is no {} controller", controller.name()))
        };
        self.place.parts.iter().find(has).ok_or_else(missing)
    }

    fn parts_of(&self, version: GroupVersion) -> impl Iterator<Item = &GroupPart> {
        let parts = self.place.parts.iter();
        parts.filter(move |part| part.version == version)
    }

    pub fn events(&self) -> GroupEvents {
        let mut events = GroupEvents::default();
        if let Ok(part) = self.part_with(Controller::Memory) {
            let (kills, peak) = match part.version {
                GroupVersion::Two => ("memory.events", "memory.peak"),
                GroupVersion::One => ("memory.oom_control", "memory.max_usage_in_bytes"),
            };
            events.oom_kills = keyed(&part.folder, kills, "oom_kill").unwrap_or_default();
            events.memory_peak = number(&part.folder, peak);
        }
        if let Ok(part) = self.part_with(Controller::Pids) {
            events.forks_refused = keyed(&part.folder, "pids.events", "max").unwrap_or_default();
        }
        events
    }

    pub fn usage(&self) -> GroupUsage {
        let memory = self.part_with(Controller::Memory).ok().and_then(|part| {
            let file = match part.version {
                GroupVersion::Two => "memory.current",
                GroupVersion::One => "memory.usage_in_bytes",
            };
            number(&part.folder, file)
        });
        let pids = self.part_with(Controller::Pids).ok();
        GroupUsage {
            memory,
            pids: pids.and_then(|part| number(&part.folder, "pids.current")),
        }
    }

    /// Stops all that is in it, and returns when it has stopped, or would not within milliseconds: then it stops as soon
    /// as the kernel lets it.
    pub fn freeze(&self) -> io::Result<()> {
        let freezer = self.freezer()?;
        let give_up = Instant::now() + LONGEST_FREEZE;
        freezer.set(true)?;
        while !freezer.is_frozen() && Instant::now() < give_up {
            std::thread::sleep(FREEZE_PAUSE);
        }
        Ok(())
    }

    pub fn thaw(&self) -> io::Result<()> {
        self.freezer()?.set(false)
    }

    /// Whether there is a hand that can stop what is in it.
    pub fn can_freeze(&self) -> bool {
        self.freezer().is_ok()
    }

    fn freezer(&self) -> io::Result<Freezer<'_>> {
        let two = self.parts_of(GroupVersion::Two);
        let mut two = two.filter(|part| part.folder.join("cgroup.freeze").exists());
        if let Some(part) = two.next() {
            return Ok(Freezer::Two(&part.folder));
        }
        let one = self.part_with(Controller::Freezer);
        let one = one.map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
        Ok(Freezer::One(&one.folder))
    }

    /// Kills all that is in it and below it, frozen or not; they are gone a moment later.
    pub fn kill(&self) {
        let at_once = self
            .parts_of(GroupVersion::Two)
            .any(|part| write(&part.folder, "cgroup.kill", "1").is_ok());
        if at_once {
            return;
        }
        // Who is stopped does not fork away from the kill. Version 1 delivers it only to those who are not.
        let _as_far_as_it_goes = self.freeze();
        for pid in self.pids() {
            kill(pid, Signal::KILL);
        }
        self.thaw_all();
    }

    /// Groups below may have been frozen by themselves.
    fn thaw_all(&self) {
        let Ok(Freezer::One(folder)) = self.freezer() else {
            return; // version 2 kills who is frozen too
        };
        for folder in with_folders_below(folder) {
            // One that is gone has nobody to thaw.
            let _as_far_as_it_is_there = Freezer::One(&folder).set(false);
        }
    }

    /// Those that are in it, or in a group below it, now.
    pub fn pids(&self) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        for part in &self.place.parts {
            for folder in with_folders_below(&part.folder) {
                let text = read(&folder, "cgroup.procs").unwrap_or_default();
                // One that is seen from another pid namespace is 0.
                let pids = text.lines().filter_map(|line| line.parse::<u32>().ok());
                found.extend(pids.filter(|pid| *pid != 0));
            }
        }
        found
    }

    /// Kills all that is in it and removes it with all groups below, for at most `limit`. Whether it is gone.
    pub async fn end(&self, limit: Duration) -> bool {
        let give_up = Instant::now() + limit;
        let mut pause = SHORTEST_PAUSE;
        loop {
            if !self.pids().is_empty() {
                self.kill();
            } else if self.remove() {
                return true;
            }
            if Instant::now() >= give_up {
                return false;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Removes it with all groups below, if they are empty. Whether it is gone.
    pub fn remove(&self) -> bool {
        let mut gone = true;
        for part in &self.place.parts {
            let folders = with_folders_below(&part.folder);
            for folder in folders.iter().rev() {
                gone &= match std::fs::remove_dir(folder) {
                    Ok(()) => true,
                    Err(error) => error.kind() == io::ErrorKind::NotFound,
                };
            }
        }
        gone
    }

    /// Removes the group that it is in, should that be empty: the last one of a supervisor that is gone does.
    pub fn remove_empty_above(&self) {
        for above in self
            .place
            .parts
            .iter()
            .filter_map(|part| part.folder.parent())
        {
            // It belongs to others too, or somebody was faster.
            let _stays = std::fs::remove_dir(above);
        }
    }

    /// Names of the groups below.
    pub(super) fn names_below(&self) -> BTreeSet<String> {
        let folders = self.place.parts.iter().map(|part| &part.folder);
        folders.flat_map(|folder| names_in(folder)).collect()
    }
}

enum Freezer<'a> {
    Two(&'a Path),
    One(&'a Path),
}

impl Freezer<'_> {
    fn set(&self, frozen: bool) -> io::Result<()> {
        match (self, frozen) {
            (Self::Two(folder), true) => write(folder, "cgroup.freeze", "1"),
            (Self::Two(folder), false) => write(folder, "cgroup.freeze", "0"),
            (Self::One(folder), true) => write(folder, "freezer.state", "FROZEN"),
            (Self::One(folder), false) => write(folder, "freezer.state", "THAWED"),
        }
    }

    fn is_frozen(&self) -> bool {
        match self {
            Self::Two(folder) => keyed(folder, "cgroup.events", "frozen") == Some(1),
            Self::One(folder) => {
                read(folder, "freezer.state").is_some_and(|state| state.trim() == "FROZEN")
            }
        }
    }
}

pub(super) fn make_folder(folder: &Path) -> io::Result<()> {
    match std::fs::create_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

pub(super) fn names_in(folder: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return vec![];
    };
    let folders = entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    folders
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect()
}

/// Parents come before what is below them.
fn with_folders_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![folder.to_owned()];
    let mut next = 0;
    while let Some(folder) = found.get(next) {
        let below: Vec<PathBuf> = names_in(folder)
            .iter()
            .map(|name| folder.join(name))
            .collect();
        found.extend(below);
        next += 1;
    }
    found
}
