//! What this process is to its operating system, under the names that every Prometheus knows.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use super::page::{Kind, Page};

/// What cannot be read is left out.
pub fn write_process(page: &mut Page) {
    let Some(seen) = look() else { return };
    let cpu = "Time on processors, of user and system together.";
    page.single(Kind::Counter, "process_cpu_seconds", cpu, seen.cpu);
    let resident = "Memory that is resident.";
    page.single(
        Kind::Gauge,
        "process_resident_memory_bytes",
        resident,
        seen.resident,
    );
    let address_space = "Address space.";
    page.single(
        Kind::Gauge,
        "process_virtual_memory_bytes",
        address_space,
        seen.address_space,
    );
    page.single(Kind::Gauge, "process_threads", "Threads.", seen.threads);
    if let Some(fds) = seen.fds {
        page.single(Kind::Gauge, "process_open_fds", "Open files.", fds);
    }
    if let Some(limit) = rustix::process::getrlimit(rustix::process::Resource::Nofile).current {
        page.single(
            Kind::Gauge,
            "process_max_fds",
            "Files that may be open.",
            limit,
        );
    }
    if let Some(began) = seen.began {
        let help = "When the process began, since 1970.";
        page.single(Kind::Gauge, "process_start_time_seconds", help, began);
    }
}

struct Seen {
    cpu: f64,
    resident: u64,
    address_space: u64,
    threads: u64,
    fds: Option<u64>,
    began: Option<f64>,
}

fn look() -> Option<Seen> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..]
        .split_ascii_whitespace()
        .collect();
    // As proc(5) numbers them, where the state, the first after the name, is 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let fds = fs::read_dir("/proc/self/fd").ok();
    Some(Seen {
        cpu: (field(14)? + field(15)?) as f64 / ticks,
        resident: field(24)? * rustix::param::page_size() as u64,
        address_space: field(23)?,
        threads: field(20)?,
        fds: fds.map(|fds| fds.count() as u64),
        began: began(field(22)? as f64 / ticks),
    })
}

/// `after_boot` in seconds.
fn began(after_boot: f64) -> Option<f64> {
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_ascii_whitespace().next()?.parse().ok()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    Some((now.as_secs_f64() - uptime + after_boot).round())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Format;

    #[test]
    fn this_process_has_figures() {
        let mut page = Page::new(Format::Prometheus);
        write_process(&mut page);
        let text = page.finish();
        for name in [
            "process_cpu_seconds_total ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_start_time_seconds ",
        ] {
            assert!(text.contains(&format!("\n{name}")), "{text}");
        }
    }
}
