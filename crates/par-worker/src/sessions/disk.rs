//! How much of the disk the files of one session have. The kernel bounds a single file; all of them together are
//! counted, beside the work, and as often as counting is cheap.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::limits::workspace::{self, Found};

/// Counting takes this part of the time at most.
const SHARE_OF_COUNTING: u32 = 10;
const LONGEST_REST: Duration = Duration::from_secs(5);

pub(super) struct Disk {
    folder: PathBuf,
    /// Bytes; without a bound nothing is counted.
    most: Option<u64>,
    counting: Option<oneshot::Receiver<(Found, Duration)>>,
    again_at: Instant,
    full: bool,
}

impl Disk {
    pub(super) fn of(folder: PathBuf, most: Option<u64>) -> Self {
        Self {
            folder,
            most,
            counting: None,
            again_at: Instant::now(),
            full: false,
        }
    }

    /// Looks at what was counted, and has it counted again if it is time. The bound, if the files have more than that.
    pub(super) fn look(&mut self) -> Option<u64> {
        let most = self.most?;
        let Some(counting) = &mut self.counting else {
            if Instant::now() >= self.again_at {
                self.counting = Some(count(self.folder.clone()));
            }
            return None;
        };
        let (found, took) = counting.try_recv().ok()?;
        self.counting = None;
        self.again_at = Instant::now() + (took * SHARE_OF_COUNTING).min(LONGEST_REST);
        self.full |= found.bytes > most || found.files > workspace::MOST_FILES;
        self.full.then_some(most)
    }

    /// There was too much: the files cannot stay.
    pub(super) fn is_full(&self) -> bool {
        self.full
    }
}

fn count(folder: PathBuf) -> oneshot::Receiver<(Found, Duration)> {
    let (counted, counting) = oneshot::channel();
    tokio::task::spawn_blocking(move || {
        let began = std::time::Instant::now();
        let found = workspace::count(&folder, workspace::MOST_FILES);
        let _nobody_asks_any_more = counted.send((found, began.elapsed()));
    });
    counting
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn looked(disk: &mut Disk) -> Option<u64> {
        assert_eq!(disk.look(), None, "it is only begun");
        loop {
            let found = disk.look();
            if disk.counting.is_none() {
                return found;
            }
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn files_that_have_more_than_the_bound_together_are_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let disk = || Disk::of(folder.path().to_owned(), Some(100_000));
        assert_eq!(looked(&mut disk()).await, None);
        for name in ["a", "b", "c"] {
            std::fs::write(folder.path().join(name), vec![1; 50_000]).expect("written");
        }
        assert_eq!(looked(&mut disk()).await, Some(100_000));
        let mut unbounded = Disk::of(folder.path().to_owned(), None);
        assert_eq!(unbounded.look(), None);
        assert!(unbounded.counting.is_none());
    }
}
