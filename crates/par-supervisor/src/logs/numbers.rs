//! Numbers of lines that are never used again, whatever the clock or the machine does.
//!
//! They begin with the time. A file says which ones may have been used, in portions: after a crash the next life begins
//! behind them, even if its clock was turned back.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::warn;

/// No agent is called so.
const FILE: &str = ".next";
const PORTION: u64 = 1 << 20;

pub(super) struct Numbers {
    path: PathBuf,
    /// Numbers below are reserved.
    reserved: u64,
}

impl Numbers {
    /// Also the first number that may be used.
    pub(super) fn open(root: &Path) -> (Self, u64) {
        let path = root.join(FILE);
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let by_clock = u64::try_from(since.as_micros()).unwrap_or_default();
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let first = text.trim().parse().unwrap_or(0).max(by_clock);
        let mut numbers = Self { path, reserved: 0 };
        if let Err(error) = numbers.reserve(first) {
            warn!(%error, "failed to reserve numbers for lines of logs");
        }
        (numbers, first)
    }

    /// Makes sure that `number` and a good many after it are reserved.
    pub(super) fn reserve(&mut self, number: u64) -> io::Result<()> {
        if number + PORTION / 2 < self.reserved {
            return Ok(());
        }
        let reserved = number + PORTION;
        let beside = self.path.with_extension("new");
        std::fs::write(&beside, reserved.to_string())?;
        std::fs::rename(&beside, &self.path)?;
        self.reserved = reserved;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_life_begins_behind_an_earlier_one_whatever_the_clock_says() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (mut numbers, first) = Numbers::open(folder.path());
        assert_eq!(numbers.reserved, first + PORTION);
        numbers.reserve(first + 1).expect("reserved already");
        assert_eq!(numbers.reserved, first + PORTION);
        let far = first + 100 * PORTION;
        numbers.reserve(far).expect("written");
        assert_eq!(Numbers::open(folder.path()).1, far + PORTION);
    }

    #[test]
    fn nonsense_in_the_file_is_as_good_as_none() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::write(folder.path().join(FILE), "many").expect("written");
        assert!(Numbers::open(folder.path()).1 > 1 << 40);
    }
}
