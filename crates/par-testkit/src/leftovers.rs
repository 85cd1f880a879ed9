//! What a supervisor must not leave behind.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use par_model::limits::group_name;

use crate::PortRange;
use crate::processes::{Process, that_mention};

const LIMIT: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until all that were `below` are gone, nobody works in `state`, and nobody listens on `ports`.
///
/// # Panics
/// With what is left after some time.
#[track_caller]
pub(crate) fn wait_until_nothing_is_left(below: &[Process], state: &Path, ports: &PortRange) {
    let give_up = Instant::now() + LIMIT;
    loop {
        let alive: Vec<&Process> = below.iter().filter(|process| process.is_alive()).collect();
        let strangers = that_mention(state);
        let taken = ports.taken();
        let groups = control_groups(state);
        if alive.is_empty() && strangers.is_empty() && taken.is_empty() && groups.is_empty() {
            return;
        }
        let patient = Instant::now() < give_up;
        assert!(
            patient,
            "left behind: {alive:?}, {strangers:?}, ports {taken:?}, {groups:?}"
        );
        thread::sleep(PAUSE);
    }
}

/// Control groups of the supervisor that used `state`, in any hierarchy.
pub fn control_groups(state: &Path) -> Vec<PathBuf> {
    let Ok(state) = state.canonicalize() else {
        return vec![];
    };
    let name = group_name(&state);
    let mut found = vec![];
    let mut waiting = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = waiting.pop() {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name() == name.as_str() {
                found.push(entry.path());
            } else {
                waiting.push(entry.path());
            }
        }
    }
    found
}

/// For a test that has failed: as far as nobody is in them any more.
pub(crate) fn remove_control_groups(state: &Path) {
    let mut waiting = control_groups(state);
    let mut next = 0;
    while let Some(folder) = waiting.get(next) {
        let entries = std::fs::read_dir(folder).into_iter().flatten();
        let below: Vec<PathBuf> = entries
            .filter_map(Result::ok)
            .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
            .map(|entry| entry.path())
            .collect();
        waiting.extend(below);
        next += 1;
    }
    for folder in waiting.iter().rev() {
        // The test has its own failure to tell of.
        drop(std::fs::remove_dir(folder));
    }
}
