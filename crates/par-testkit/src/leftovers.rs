//! What a supervisor must not leave behind.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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
        if alive.is_empty() && strangers.is_empty() && taken.is_empty() {
            return;
        }
        let patient = Instant::now() < give_up;
        assert!(
            patient,
            "left behind: {alive:?}, {strangers:?}, ports {taken:?}"
        );
        thread::sleep(PAUSE);
    }
}
