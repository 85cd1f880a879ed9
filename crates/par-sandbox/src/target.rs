//! A process that can be signalled without hitting another one that got its number later.

use std::io;
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::process::Child;
use tracing::warn;

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
