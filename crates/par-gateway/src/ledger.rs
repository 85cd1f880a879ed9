//! Who calls how much: the accounts of all callers, and the bounds that they are held to.

use std::sync::Arc;
use std::time::Instant;

use par_door::{Account, Accounts, Exceeded, Key, Quota, Turn};
use par_model::CallError;

/// Callers that are told apart: some megabytes at most.
const MOST_CALLERS: usize = 1 << 16;

/// One for all threads. The accounts are looked up for connections, the bounds hold for calls.
pub(crate) struct Ledger {
    accounts: Accounts,
    per_caller: Quota,
    per_agent: Quota,
    begin: Instant,
}

/// What a call takes from its caller and from its agent, until dropped.
#[derive(Default)]
pub(crate) struct Turns {
    of_caller: Option<Turn>,
    of_agent: Option<Turn>,
}

impl Ledger {
    pub(crate) fn new(per_caller: Quota, per_agent: Quota) -> Self {
        Self {
            accounts: Accounts::new(MOST_CALLERS),
            per_caller,
            per_agent,
            // So that no bucket is full in the future.
            begin: Instant::now(),
        }
    }

    pub(crate) fn account(&self, key: &Key) -> Arc<Account> {
        self.accounts.of(key, self.now())
    }

    /// A request of a caller, whatever it asks for.
    pub(crate) fn admit(&self, caller: &Arc<Account>, turns: &mut Turns) -> Result<(), CallError> {
        if self.per_caller.is_none() {
            return Ok(());
        }
        let turn = caller.call(&self.per_caller, self.now_for(&self.per_caller));
        let turn = turn.map_err(|exceeded| match exceeded {
            Exceeded::Calls { limit } => CallError::CallerBusy { limit },
            Exceeded::Rate { rate, wait } => CallError::CallerTooFast { rate, wait },
        })?;
        turns.of_caller = Some(turn);
        Ok(())
    }

    /// A call of an agent, whoever calls.
    pub(crate) fn admit_to(
        &self,
        agent: impl FnOnce() -> Arc<Account>,
        turns: &mut Turns,
    ) -> Result<(), CallError> {
        if self.per_agent.is_none() {
            return Ok(());
        }
        let turn = agent().call(&self.per_agent, self.now_for(&self.per_agent));
        let turn = turn.map_err(|exceeded| match exceeded {
            Exceeded::Calls { limit } => CallError::AgentBusy { limit },
            Exceeded::Rate { rate, wait } => CallError::AgentTooBusy { rate, wait },
        })?;
        turns.of_agent = Some(turn);
        Ok(())
    }

    /// The clock is read only where it is needed.
    fn now_for(&self, quota: &Quota) -> u64 {
        quota.rate.map_or(0, |_| self.now())
    }

    fn now(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}
