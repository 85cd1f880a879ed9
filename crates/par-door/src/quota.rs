//! What one caller, or all callers of one agent, may have: numbers that threads share without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::rate::Rate;

/// Bounds; zero and none are no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Calls at one time.
    pub calls: u32,
    pub rate: Option<Rate>,
}

/// What somebody has now.
#[derive(Debug, Default)]
pub struct Account {
    calls: AtomicU32,
    connections: AtomicU32,
    /// See [`Rate::admit`].
    full_at: AtomicU64,
}

/// Which bound was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exceeded {
    Calls { limit: u32 },
    Rate { rate: u32, wait: Duration },
}

impl Quota {
    pub fn is_none(&self) -> bool {
        self.calls == 0 && self.rate.is_none()
    }
}

impl Account {
    /// One call more, or the bound that it meets. What is refused counts for nothing.
    pub fn call(self: &Arc<Self>, quota: &Quota, now: u64) -> Result<Turn, Exceeded> {
        let turn = self.one_more_call(quota.calls)?;
        if let Some(rate) = quota.rate {
            self.keep_to(rate, now)?;
        }
        Ok(turn)
    }

    fn one_more_call(self: &Arc<Self>, limit: u32) -> Result<Turn, Exceeded> {
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        let turn = Turn(Arc::clone(self)); // takes it back when dropped
        match limit {
            1.. if before >= limit => Err(Exceeded::Calls { limit }),
            _ => Ok(turn),
        }
    }

    fn keep_to(&self, rate: Rate, now: u64) -> Result<(), Exceeded> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = rate.admit(full_at, now).map_err(|wait| Exceeded::Rate {
                rate: rate.per_second(),
                wait,
            })?;
            let swapped = self.full_at.compare_exchange_weak(
                full_at,
                next,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            match swapped {
                Ok(_) => return Ok(()),
                Err(now_there) => full_at = now_there,
            }
        }
    }

    /// One connection more; none if there are `limit` already.
    pub fn connect(self: &Arc<Self>, limit: u32) -> Option<Connected> {
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        let connected = Connected(Arc::clone(self));
        (limit == 0 || before < limit).then_some(connected)
    }

    /// Whether nothing would be forgotten with it.
    pub(crate) fn is_blank(&self, now: u64) -> bool {
        self.calls.load(Ordering::Relaxed) == 0
            && self.connections.load(Ordering::Relaxed) == 0
            && self.full_at.load(Ordering::Relaxed) <= now
    }
}

/// A call that counts, until dropped.
#[derive(Debug)]
pub struct Turn(Arc<Account>);

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that counts, until dropped.
#[derive(Debug)]
pub struct Connected(Arc<Account>);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_call_counts_until_it_is_over_and_a_refused_one_never() {
        let (account, quota) = (
            Arc::new(Account::default()),
            Quota {
                calls: 2,
                rate: None,
            },
        );
        let first = account.call(&quota, 0).expect("the first");
        let _second = account.call(&quota, 0).expect("the second");
        for _ in 0..3 {
            assert_eq!(
                account.call(&quota, 0).err(),
                Some(Exceeded::Calls { limit: 2 })
            );
        }
        drop(first);
        let _third = account.call(&quota, 0).expect("in the place of the first");
    }

    #[test]
    fn what_the_rate_refuses_holds_no_place() {
        let quota = Quota {
            calls: 1,
            rate: Rate::new(1, 1),
        };
        let account = Arc::new(Account::default());
        drop(account.call(&quota, SECOND).expect("the first"));
        let refused = account.call(&quota, SECOND).err();
        assert!(
            matches!(refused, Some(Exceeded::Rate { rate: 1, .. })),
            "{refused:?}"
        );
        assert!(account.call(&quota, 2 * SECOND).is_ok());
    }

    #[test]
    fn many_threads_together_get_what_the_rate_gives() {
        let quota = Quota {
            calls: 0,
            rate: Rate::new(1000, 100),
        };
        let account = Arc::new(Account::default());
        let admitted = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let got = account.call(&quota, SECOND).is_ok();
                        admitted.fetch_add(u32::from(got), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(admitted.into_inner(), 100);
    }

    #[test]
    fn a_connection_beyond_the_limit_counts_for_nothing() {
        let account = Arc::new(Account::default());
        let first = account.connect(1).expect("the first");
        assert!(account.connect(1).is_none());
        drop(first);
        assert!(account.connect(1).is_some());
    }
}
