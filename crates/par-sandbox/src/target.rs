//! A process that can be signalled without hitting another one that got its number later.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::process::Child;
use tracing::warn;

use crate::birth::Birth;

#[derive(Debug)]
pub struct Target(OwnedFd);

impl Target {
    /// Of a child that has not been waited for yet.
    pub fn of(child: &Child) -> io::Result<Self> {
        let pid = child
            .id()
            .and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
        let pid = pid.ok_or_else(|| io::Error::other("the process has ended already"))?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Of a process that lives, and cannot end before its parent, who waits for us, has seen it end.
    pub fn at(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("there is no such process"))?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    /// Of a process that somebody else has started; none when it has ended, whoever has its number now.
    pub fn born(pid: u32, birth: &Birth) -> Option<Self> {
        let raw = i32::try_from(pid).ok().and_then(Pid::from_raw)?;
        let target = Self(pidfd_open(raw, PidfdFlags::empty()).ok()?);
        // Looked at after it was opened: from here on the number is of no matter.
        (Birth::of(pid).as_ref() == Some(birth)).then_some(target)
    }

    /// Waits until it has ended.
    #[expect(
        deprecated,
        reason = "unsound only for a type that lets go of its descriptor; an `OwnedFd` does not"
    )]
    pub async fn ended(&self) -> io::Result<()> {
        let watched = AsyncFd::with_interest(self.0.try_clone()?, Interest::READABLE)?;
        watched.readable().await?.retain_ready();
        Ok(())
    }

    /// That it is gone already is fine.
    pub fn signal(&self, signal: Signal) {
        match pidfd_send_signal(&self.0, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(error) => warn!(%error, "failed to signal a process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::process::Command;

    #[tokio::test]
    async fn the_end_of_a_stranger_is_seen() {
        let mut child = Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .expect("started");
        let pid = child.id().expect("alive");
        let birth = Birth::of(pid).expect("alive");
        let target = Target::born(pid, &birth).expect("alive");
        let other = Birth {
            ticks: birth.ticks + 1,
            ..birth.clone()
        };
        assert!(Target::born(pid, &other).is_none());
        target.signal(Signal::KILL);
        target.ended().await.expect("watched");
        child.wait().await.expect("waited for");
        assert!(Target::born(pid, &birth).is_none());
    }

    #[tokio::test]
    async fn a_process_that_is_gone_is_not_mistaken_for_another() {
        let mut child = Command::new("/bin/sleep")
            .arg("1000")
            .spawn()
            .expect("started");
        let target = Target::of(&child).expect("alive");
        target.signal(Signal::KILL);
        let status = child.wait().await.expect("waited for");
        assert!(!status.success());
        target.signal(Signal::KILL);
        assert!(Target::of(&child).is_err());
    }
}
