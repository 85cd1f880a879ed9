//! Processes that the benchmark starts, and what can be read about any process.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdout, Command};

const TIME_TO_END: Duration = Duration::from_secs(10);
const TIME_TO_ANSWER: Duration = Duration::from_secs(30);

/// Ends when dropped, politely first, so that it can end its own children.
pub(crate) struct Running {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with no input, and with its standard error in `{folder}/{name}.log`.
    pub(crate) fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Path,
    ) -> anyhow::Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        Ok(Self { name, child, log })
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        let ended = || format!("{} has ended; {}", self.name, self.last_words());
        self.child.id().with_context(ended)
    }

    pub(crate) fn take_stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// The end of what it wrote to standard error.
    pub(crate) fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_else(|error| error.to_string());
        let lines: Vec<&str> = log.lines().collect();
        let last = lines[lines.len().saturating_sub(5)..].join("\n");
        format!("{} wrote:\n{last}", self.name)
    }

    /// Waits until somebody listens at `address`.
    pub(crate) async fn listens(&mut self, address: SocketAddr) -> anyhow::Result<()> {
        let give_up = Instant::now() + TIME_TO_ANSWER;
        while tokio::net::TcpStream::connect(address).await.is_err() {
            if let Some(status) = self.child.try_wait()? {
                bail!("{} ended with {status}; {}", self.name, self.last_words());
            }
            if Instant::now() > give_up {
                let name = self.name;
                bail!("{name} does not listen on {address}; {}", self.last_words());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let give_up = Instant::now() + TIME_TO_END;
        // One that cannot be signalled or waited for has ended.
        let asked = self
            .child
            .id()
            .is_some_and(|pid| end(pid, Signal::TERM).is_ok());
        while asked && Instant::now() < give_up {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            sleep(Duration::from_millis(2));
        }
        drop(self.child.start_kill());
    }
}

/// A process that one of ours started and that outlives it. Ends when dropped, as [`Running`] does.
pub(crate) struct Stranger(pub(crate) u32);

impl Stranger {
    /// There is nothing to end.
    pub(crate) fn has_ended(self) {
        std::mem::forget(self);
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        let give_up = Instant::now() + TIME_TO_END;
        let asked = is_alive(self.0) && end(self.0, Signal::TERM).is_ok();
        while asked && is_alive(self.0) {
            if Instant::now() > give_up {
                let _it_ended_meanwhile = end(self.0, Signal::KILL);
                return;
            }
            sleep(Duration::from_millis(2));
        }
    }
}

/// Waits until a process has ended.
pub(crate) async fn end_of(pid: u32, within: Duration) -> anyhow::Result<()> {
    let give_up = Instant::now() + within;
    while is_alive(pid) {
        ensure!(Instant::now() < give_up, "{pid} runs on after {within:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// One that has ended and that nobody has waited for is none any more.
fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !after_name(&stat).trim_start().starts_with('Z'))
}

/// Sends a signal to a process that this benchmark caused to be.
pub(crate) fn end(pid: u32, signal: Signal) -> Result<(), Errno> {
    let pid = Pid::from_raw(pid.cast_signed()).ok_or(Errno::SRCH)?;
    kill_process(pid, signal)
}

/// For servers that cannot choose a port themselves.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Proportional set size: private memory and a fair share of what is shared, in bytes.
pub(crate) fn memory(pid: u32) -> anyhow::Result<u64> {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let kibibytes = text
        .lines()
        .find_map(|line| line.strip_prefix("Pss:")?.split_whitespace().next())
        .with_context(|| format!("{path} has no Pss"))?;
    Ok(kibibytes.parse::<u64>()? * 1024)
}

/// Children of a process, their children, and so on.
pub(crate) fn descendants(ancestor: u32) -> anyhow::Result<Vec<u32>> {
    let mut found = children(ancestor, "")?;
    let mut next = 0;
    while let Some(&pid) = found.get(next) {
        found.extend(children(pid, "")?);
        next += 1;
    }
    Ok(found)
}

/// Children of a process whose command line has this in it.
pub(crate) fn children(parent: u32, word: &str) -> anyhow::Result<Vec<u32>> {
    let mut children = vec![];
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // One that ends meanwhile is none.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if parent_in(&stat) == Some(parent) && String::from_utf8_lossy(&command).contains(word) {
            children.push(pid);
        }
    }
    Ok(children)
}

fn parent_in(stat: &str) -> Option<u32> {
    after_name(stat).split_whitespace().nth(1)?.parse().ok()
}

/// The name stands in parentheses and may hold any of them.
fn after_name(stat: &str) -> &str {
    stat.rsplit_once(')').map_or("", |(_, rest)| rest)
}

/// Processor time of all threads so far.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).with_context(|| format!("failed to read {path}"))?;
    let fields: Vec<&str> = after_name(&text).split_whitespace().collect();
    let (Some(user), Some(system)) = (fields.get(11), fields.get(12)) else {
        bail!("{path} is too short");
    };
    let ticks = user.parse::<u64>()? + system.parse::<u64>()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// What a short program wrote to standard output.
pub(crate) async fn output_of(
    program: impl AsRef<OsStr>,
    arguments: &[&OsStr],
) -> anyhow::Result<String> {
    let program = program.as_ref();
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("failed to start {}", program.display()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{} ended with {}: {}",
            program.display(),
            output.status,
            said.trim()
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_stands_after_the_name_whatever_that_is() {
        assert_eq!(parent_in("7 (a) b) (c) S 42 7 7 0"), Some(42));
        assert_eq!(parent_in(""), None);
    }
}
