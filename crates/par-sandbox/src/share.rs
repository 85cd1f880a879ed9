//! How much of the machine a process that runs already may have.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use tracing::warn;

/// Limits the private memory of `pid`, in bytes, and the number of processors that its main thread, and all that it
/// starts from now on, run on. The second is manners, not a wall: a process may change it again.
pub fn limit_process(pid: u32, memory: u64, processors: usize) {
    let Some(target) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return;
    };
    let limit = Rlimit {
        current: Some(memory),
        maximum: Some(memory),
    };
    if let Err(error) = prlimit(Some(target), Resource::Data, limit) {
        warn!(pid, %error, "failed to limit the memory of a process");
    }
    if let Err(error) = keep_to(target, processors) {
        warn!(pid, %error, "failed to limit the processors of a process");
    }
}

fn keep_to(target: Pid, processors: usize) -> rustix::io::Result<()> {
    let all = sched_getaffinity(None)?;
    let usable: Vec<usize> = (0..CpuSet::MAX_CPU)
        .filter(|cpu| all.is_set(*cpu))
        .collect();
    if processors >= usable.len() {
        return Ok(());
    }
    // Spread by the number of the process, which nobody chooses.
    let first = usize::try_from(target.as_raw_nonzero().get()).unwrap_or_default();
    let mut chosen = CpuSet::new();
    for step in 0..processors {
        chosen.set(usable[(first + step) % usable.len()]);
    }
    sched_setaffinity(Some(target), &chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_process_is_kept_to_its_share() {
        let mut child = Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .expect("started");
        limit_process(child.id(), 64 << 20, 1);
        let read = |file: &str| {
            std::fs::read_to_string(format!("/proc/{}/{file}", child.id())).expect("it is alive")
        };
        let limits = read("limits");
        let data = limits
            .lines()
            .find(|line| line.starts_with("Max data size"))
            .expect("a line");
        assert_eq!(data.split_whitespace().nth(3), Some("67108864"));
        let target = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("not zero");
        assert_eq!(
            sched_getaffinity(Some(target))
                .expect("it is alive")
                .count(),
            1
        );
        child.kill().expect("killed");
        child.wait().expect("waited for");
    }
}
