//! Notices from the kernel that a group ran out of memory: nobody has to look again and again.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use par_model::limits::{Controller, GroupVersion};
use rustix::event::{EventfdFlags, eventfd};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::files::write;
use super::one::Group;

/// Hears of one group. There are no more notices once it is gone.
pub struct OutOfMemoryNotices {
    source: Source,
}

enum Source {
    /// `memory.events`, which the kernel marks as urgent when it changes.
    Two(AsyncFd<File>),
    /// A counter that the kernel adds to.
    One(AsyncFd<OwnedFd>),
}

impl Group {
    /// From now on.
    pub fn out_of_memory_notices(&self) -> io::Result<OutOfMemoryNotices> {
        let part = self.part_with(Controller::Memory);
        let part = part.map_err(|why| io::Error::new(io::ErrorKind::Unsupported, why))?;
        let source = match part.version {
            GroupVersion::Two => {
                let file = File::open(part.folder.join("memory.events"))?;
                let mut events = watched(file, Interest::PRIORITY)?;
                read_again(events.get_mut())?;
                Source::Two(events)
            }
            GroupVersion::One => {
                let counter = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
                let control = File::open(part.folder.join("memory.oom_control"))?;
                let asked = format!("{} {}", counter.as_raw_fd(), control.as_raw_fd());
                write(&part.folder, "cgroup.event_control", &asked)?;
                Source::One(watched(counter, Interest::READABLE)?)
            }
        };
        Ok(OutOfMemoryNotices { source })
    }
}

impl OutOfMemoryNotices {
    /// Waits for the next one. What happened before it is in [`Group::events`] by then, or a moment later.
    pub async fn next(&mut self) -> io::Result<()> {
        match &mut self.source {
            Source::Two(events) => {
                events.ready_mut(Interest::PRIORITY).await?.clear_ready();
                read_again(events.get_mut())
            }
            Source::One(counter) => {
                let mut ready = counter.ready_mut(Interest::READABLE).await?;
                ready.clear_ready();
                let mut count = [0; 8];
                match rustix::io::read(ready.get_inner(), &mut count) {
                    Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(()),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

#[expect(
    deprecated,
    reason = "what replaces it is unsafe to call; a file keeps its descriptor for as long as it lives"
)]
fn watched<T: AsRawFd>(file: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(file, interest)
}

/// What was read is not told again.
fn read_again(file: &mut File) -> io::Result<()> {
    use std::io::{Read as _, Seek as _};
    file.rewind()?;
    file.read_to_end(&mut vec![]).map(drop)
}
