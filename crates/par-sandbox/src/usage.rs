//! What a tree of processes uses of the machine, read from `/proc`.

use std::fs;
use std::sync::OnceLock;

use crate::processes::ProcessEntry;
use crate::tree::below;

/// Sums over a process and all its descendants.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub rss_bytes: u64,
    pub vms_bytes: u64,
    /// Seconds.
    pub user_time: f64,
    /// Seconds.
    pub system_time: f64,
    pub threads: u64,
    /// Absent when the operating system does not let us look.
    pub fds: Option<u64>,
    pub io: Option<(u64, u64)>,
    /// State of the root process, such as `sleeping`.
    pub state: &'static str,
    /// Of the machine, in bytes.
    pub memory_total: u64,
    /// Seconds since the root process was started.
    pub age: f64,
}

/// What `root` and all below it use, by a [`crate::process_table`]; absent when the process is gone.
pub fn usage(table: &[ProcessEntry], root: u32) -> Option<Usage> {
    let mut sum = single(root)?;
    for pid in below(table, root) {
        if let Some(part) = single(pid) {
            sum.add(&part);
        }
    }
    sum.memory_total = memory_total().unwrap_or_default();
    Some(sum)
}

impl Usage {
    /// Of both together.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.add(&other);
        self
    }

    fn add(&mut self, part: &Self) {
        self.rss_bytes += part.rss_bytes;
        self.vms_bytes += part.vms_bytes;
        self.user_time += part.user_time;
        self.system_time += part.system_time;
        self.threads += part.threads;
        self.fds = self.fds.zip(part.fds).map(|(a, b)| a + b);
        self.io = self.io.zip(part.io).map(|(a, b)| (a.0 + b.0, a.1 + b.1));
    }
}

fn single(pid: u32) -> Option<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..]
        .split_ascii_whitespace()
        .collect();
    // Numbered from 1 with pid and name in proc(5); the state, field 3, is the first after the name.
    let field = |number: usize| {
        fields
            .get(number - 3)
            .and_then(|text| text.parse::<u64>().ok())
    };
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    Some(Usage {
        rss_bytes: field(24)? * rustix::param::page_size() as u64,
        vms_bytes: field(23)?,
        user_time: field(14)? as f64 / ticks,
        system_time: field(15)? as f64 / ticks,
        threads: field(20)?,
        fds: fs::read_dir(format!("/proc/{pid}/fd"))
            .ok()
            .map(|fds| fds.count() as u64),
        io: io(pid),
        state: state_name(fields.first().copied().unwrap_or_default()),
        memory_total: 0,
        age: (seconds_since_boot() - field(22)? as f64 / ticks).max(0.0),
    })
}

fn seconds_since_boot() -> f64 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap_or_default();
    let first = uptime.split_ascii_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Bytes read from and written to disks.
fn io(pid: u32) -> Option<(u64, u64)> {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).ok()?;
    let number = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    };
    Some((number("read_bytes:")?, number("write_bytes:")?))
}

/// Of the machine, in bytes, if it says so. Asked once: it stays what it is.
pub fn memory_total() -> Option<u64> {
    static TOTAL: OnceLock<Option<u64>> = OnceLock::new();
    *TOTAL.get_or_init(read_memory_total)
}

fn read_memory_total() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

fn state_name(letter: &str) -> &'static str {
    match letter {
        "R" => "running",
        "S" => "sleeping",
        "D" => "disk-sleep",
        "T" | "t" => "stopped",
        "Z" => "zombie",
        "I" => "idle",
        _ => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_usage_is_plausible() {
        let own = usage(&crate::process_table(), std::process::id()).expect("we are running");
        assert!(
            own.rss_bytes > 0 && own.threads > 0 && own.memory_total > own.rss_bytes,
            "{own:?}"
        );
    }
}
