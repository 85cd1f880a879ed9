//! Several changes, in one transaction.

use std::collections::BTreeSet;
use std::io;

use par_model::AgentId;
use rusqlite::{Connection, TransactionBehavior};

use crate::allowances;
use crate::error::StoreError;
use crate::file::Place;
use crate::kept::{Change, NewRelease, Revision};
use crate::rows;
use crate::secrets::{Secrets, SecretsFolder};

pub(crate) fn commit(
    place: &Place,
    secrets: &SecretsFolder,
    most_releases: u32,
    connection: &mut Connection,
    expected: Revision,
    changes: &[Change],
) -> Result<Revision, StoreError> {
    let failed = place.failed("write");
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(failed)?;
    let found = rows::revision(&transaction).map_err(failed)?;
    if found != expected {
        return Err(StoreError::Conflict { expected, found });
    }
    let mut written = Written {
        secrets,
        files: vec![],
    };
    let mut commit = Commit {
        place,
        connection: &transaction,
        touched: BTreeSet::new(),
        written: &mut written,
        unneeded: vec![],
    };
    for change in changes {
        commit.apply(change)?;
    }
    let unneeded = commit.conclude(most_releases)?;
    let revision = rows::count(&transaction, "revision").map_err(failed)?;
    // From here on the files may be spoken of, even if this commit seems to fail.
    written.keep();
    transaction.commit().map_err(failed)?;
    for name in unneeded {
        secrets.remove(&name);
    }
    Ok(Revision(revision))
}

struct Commit<'a, 'w> {
    place: &'a Place,
    connection: &'a Connection,
    /// Agents whose wish or releases have changed.
    touched: BTreeSet<AgentId>,
    written: &'a mut Written<'w>,
    /// Files of secrets that nobody speaks of any more once this has happened.
    unneeded: Vec<String>,
}

/// Files of secrets, removed again unless they are kept.
struct Written<'a> {
    secrets: &'a SecretsFolder,
    files: Vec<String>,
}

impl Written<'_> {
    fn write(&mut self, agent: &AgentId, number: u32, secrets: &Secrets) -> io::Result<String> {
        let name = self.secrets.write(agent, number, secrets)?;
        self.files.push(name.clone());
        Ok(name)
    }

    fn keep(mut self) {
        self.files.clear();
    }
}

impl Drop for Written<'_> {
    fn drop(&mut self) {
        for name in &self.files {
            self.secrets.remove(name);
        }
    }
}

impl Commit<'_, '_> {
    fn apply(&mut self, change: &Change) -> Result<(), StoreError> {
        let failed = self.place.failed("write");
        match change {
            Change::AddRelease(agent, release) => self.add_release(agent, release),
            Change::SetWish(agent, wish) => {
                if rows::set_wish(self.connection, agent, wish).map_err(failed)? {
                    self.touched.insert(agent.clone());
                }
                Ok(())
            }
            Change::SetOutcome(agent, number, outcome) => {
                rows::set_outcome(self.connection, agent, *number, outcome).map_err(failed)
            }
            Change::RemoveAgent(agent) => {
                let unneeded = rows::remove_agent(self.connection, agent).map_err(failed)?;
                self.unneeded.extend(unneeded);
                Ok(())
            }
            Change::AddIncarnation(incarnation) => {
                rows::add_incarnation(self.connection, incarnation).map_err(failed)
            }
            Change::RemoveIncarnation(replica) => {
                rows::remove_incarnation(self.connection, *replica).map_err(failed)
            }
            Change::Grant(agent, to, at_ms) => {
                allowances::grant(self.connection, agent, to, *at_ms).map_err(failed)
            }
            Change::Revoke(agent, to) => {
                allowances::revoke(self.connection, agent, to).map_err(failed)
            }
            Change::SetSecret(agent, secret) => {
                let key = self.written.secrets.key();
                allowances::set_secret(self.connection, key, agent, secret).map_err(failed)
            }
            Change::RemoveSecret(agent, name) => {
                allowances::remove_secret(self.connection, agent, name.as_str()).map_err(failed)
            }
        }
    }

    fn add_release(&mut self, agent: &AgentId, release: &NewRelease) -> Result<(), StoreError> {
        let failed = self.place.failed("write");
        let known = rows::agent_named(self.connection, agent).map_err(failed)?;
        let last = known.map_or(0, |known| known.last_number);
        let number = release.number;
        if number <= last {
            return Err(StoreError::NumberTaken {
                agent: agent.clone(),
                number,
                last,
            });
        }
        let file = self.write_secrets(agent, release)?;
        rows::take_number(self.connection, agent, number)
            .and_then(|()| rows::add_release(self.connection, agent, release, file.as_deref()))
            .map_err(failed)?;
        self.touched.insert(agent.clone());
        Ok(())
    }

    fn write_secrets(
        &mut self,
        agent: &AgentId,
        release: &NewRelease,
    ) -> Result<Option<String>, StoreError> {
        if release.secrets.0.is_empty() {
            return Ok(None);
        }
        let name = self
            .written
            .write(agent, release.number, &release.secrets)
            .map_err(|source| self.place.secrets_failed(source))?;
        Ok(Some(name))
    }

    /// What no single change can tell: that what serves is there, and what is too much. Answers with the files of
    /// secrets that nobody needs any more.
    fn conclude(mut self, most_releases: u32) -> Result<Vec<String>, StoreError> {
        let failed = self.place.failed("write");
        for name in &self.touched {
            let Some(agent) = rows::agent_named(self.connection, name).map_err(failed)? else {
                continue;
            };
            let canary = agent.wish.canary.map(|canary| canary.release);
            for number in [Some(agent.wish.current), canary].into_iter().flatten() {
                if !rows::has_release(self.connection, name, number).map_err(failed)? {
                    let agent = name.clone();
                    return Err(StoreError::NoSuchRelease { agent, number });
                }
            }
            let unneeded = rows::prune(self.connection, name, most_releases).map_err(failed)?;
            self.unneeded.extend(unneeded);
        }
        Ok(self.unneeded)
    }
}
