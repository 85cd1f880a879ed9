//! What is wanted, and what happened, kept in one SQLite file.
//!
//! ```text
//! {state}/par.db            agents, releases, workers of this life, events          0600
//! {state}/par.db-wal        its log, while it is open
//! {state}/par.db.last-good  a copy of what is wanted, from when it was last opened
//! {state}/secrets/          one sealed file a release                               0700, files 0600
//! {state}/secret.key        what secrets are sealed with, unless it is elsewhere    0600
//! ```
//!
//! Nobody outside sees SQL: one reads, commits against the revision that was read, and records events. A commit holds
//! when it returns; after a power cut at any moment the file is as it was after some commit, and no earlier one than the
//! last that returned. Nothing depends on the clock. All calls block.

mod allowances;
mod commit;
mod error;
mod file;
mod kept;
mod rows;
mod schema;
mod seal;
mod secrets;
mod tokens;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use par_model::AgentId;
use par_model::event::NewEvent;
use rusqlite::{Connection, TransactionBehavior, params_from_iter};

pub use error::{Cause, StoreError, WayBack};
pub use kept::{
    Canary, Change, EventFilter, Incarnation, KeptAgent, KeptAllowance, KeptEvent, KeptRelease,
    KeptSecret, KeptToken, NewRelease, Outcome, Revision, Wanted, Wish,
};
pub use seal::{KEY_LENGTH, KeyError, KeySource};
pub use secrets::{KeptSecrets, Secrets, SecretsUnusable};

pub use tokens::Tokens;

use file::Place;
use seal::Key;
use secrets::SecretsFolder;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The oldest go first.
    pub events: u64,
    /// Of one agent; those in use stay in any case.
    pub releases: u32,
    /// Of the state file.
    pub bytes: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            events: 100_000,
            releases: 20,
            bytes: 4 << 30,
        }
    }
}

/// An open state file; nobody else can open it meanwhile.
pub struct Store {
    place: Place,
    secrets: SecretsFolder,
    bounds: Bounds,
    life: AtomicU64,
    /// None while another process may have the file.
    connection: Mutex<Option<Connection>>,
}

/// The file, for as long as nobody else needs it.
struct Open<'a>(MutexGuard<'a, Option<Connection>>);

impl std::ops::Deref for Open<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0.as_ref().expect("looked at when it was locked")
    }
}

impl std::ops::DerefMut for Open<'_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.0.as_mut().expect("looked at when it was locked")
    }
}

impl Store {
    /// Opens the state file of a folder, or makes it. Whatever is wrong with it is found before anything is changed.
    pub fn open(folder: &Path, bounds: Bounds) -> Result<Self, StoreError> {
        Self::open_with(folder, bounds, &KeySource::StateFolder)
    }

    /// With the key of its secrets from elsewhere.
    pub fn open_with(
        folder: &Path,
        bounds: Bounds,
        source: &KeySource,
    ) -> Result<Self, StoreError> {
        let place = Place::within(folder);
        let connection = place.connect()?;
        let failed = place.failed("prepare");
        bound_pages(&connection, bounds.bytes).map_err(failed)?;
        let key = match allowances::proof(&connection).map_err(failed)? {
            Some(proof) => Key::known(source, folder, &proof)?,
            None => {
                let (key, proof) = Key::first(source, folder)?;
                allowances::set_proof(&connection, &proof).map_err(failed)?;
                key
            }
        };
        let life = rows::count(&connection, "life").map_err(failed)?;
        let secrets = SecretsFolder::open(place.secrets(), key)
            .map_err(|error| place.io_failed("keep secrets beside", error))?;
        secrets.seal_plain(&connection).map_err(failed)?;
        let in_use = rows::secrets_files(&connection, None).map_err(failed)?;
        if let Err(error) = secrets.sweep(&in_use) {
            tracing::warn!(%error, "failed to sweep the secrets of releases that are gone");
        }
        let store = Self {
            place,
            secrets,
            bounds,
            life: AtomicU64::new(life),
            connection: Mutex::new(Some(connection)),
        };
        if let Err(error) = store.keep_copy() {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "failed to copy the state file; it is open all the same"
            );
        }
        Ok(store)
    }

    /// How often the file was opened, this time included.
    pub fn life(&self) -> u64 {
        self.life.load(Ordering::Relaxed)
    }

    /// Lets another process have the file. From now on every call fails, until it is opened again.
    pub fn close(&self) {
        drop(self.slot().take());
    }

    /// After another process had it, or might have.
    pub fn reopen(&self) -> Result<(), StoreError> {
        let connection = self.place.connect()?;
        let failed = self.place.failed("prepare");
        bound_pages(&connection, self.bounds.bytes).map_err(failed)?;
        let life = rows::count(&connection, "life").map_err(failed)?;
        self.life.store(life, Ordering::Relaxed);
        self.slot().replace(connection);
        Ok(())
    }

    pub fn revision(&self) -> Result<Revision, StoreError> {
        rows::revision(&*self.connection()?).map_err(self.place.failed("read"))
    }

    /// All that is wanted, by name.
    pub fn agents(&self) -> Result<Vec<KeptAgent>, StoreError> {
        let connection = self.connection()?;
        let read = || {
            let mut releases = rows::all_releases(&connection, &self.secrets)?;
            let mut agents = rows::agents(&connection)?;
            for agent in &mut agents {
                agent.releases = releases.remove(&agent.agent).unwrap_or_default();
            }
            Ok(agents)
        };
        read().map_err(self.place.failed("read"))
    }

    pub fn agent(&self, name: &AgentId) -> Result<Option<KeptAgent>, StoreError> {
        let connection = self.connection()?;
        let read = || {
            let Some(mut agent) = rows::agent_named(&connection, name)? else {
                return Ok(None);
            };
            agent.releases = rows::releases(&connection, &self.secrets, name)?;
            Ok(Some(agent))
        };
        read().map_err(self.place.failed("read"))
    }

    /// Where agents may go, and their secrets, by name; some of them may not be there any more, or not yet.
    pub fn allowances(&self) -> Result<BTreeMap<AgentId, KeptAllowance>, StoreError> {
        let connection = self.connection()?;
        allowances::all(&connection, self.secrets.key()).map_err(self.place.failed("read"))
    }

    /// The workers that this life, or an earlier one, has started and not yet seen ending; oldest first.
    pub fn incarnations(&self) -> Result<Vec<Incarnation>, StoreError> {
        rows::incarnations(&*self.connection()?).map_err(self.place.failed("read"))
    }

    /// Makes all changes, or none if one of them cannot be or somebody else has made changes since `expected`.
    pub fn commit(&self, expected: Revision, changes: &[Change]) -> Result<Revision, StoreError> {
        let mut connection = self.connection()?;
        commit::commit(
            &self.place,
            &self.secrets,
            self.bounds.releases,
            &mut connection,
            expected,
            changes,
        )
    }

    /// Keeps events, in this order; the oldest of too many go. Answers with their numbers.
    pub fn record(&self, events: &[NewEvent]) -> Result<Vec<u64>, StoreError> {
        let failed = self.place.failed("write events to");
        let mut connection = self.connection()?;
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(failed)?;
        let ids: Vec<u64> = events
            .iter()
            .map(|event| rows::add_event(&transaction, event))
            .collect::<Result<_, _>>()
            .map_err(failed)?;
        if let Some(last) = ids.last() {
            let gone = last.saturating_sub(self.bounds.events);
            transaction
                .execute("DELETE FROM events WHERE id <= ?1", [gone])
                .map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(ids)
    }

    /// The oldest `limit` events that are meant, oldest first: those who read on ask for those after the last.
    pub fn oldest_events(
        &self,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        self.events(filter, limit, "ASC")
    }

    /// The newest `limit` events that are meant, newest first.
    pub fn newest_events(
        &self,
        filter: &EventFilter,
        limit: usize,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        self.events(filter, limit, "DESC")
    }

    fn events(
        &self,
        filter: &EventFilter,
        limit: usize,
        order: &str,
    ) -> Result<Vec<KeptEvent>, StoreError> {
        let agents = vec!["?"; filter.agents.len()].join(", ");
        let meant = match filter.agents.is_empty() {
            true => String::new(),
            false => format!("AND agent IN ({agents})"),
        };
        let query = format!(
            "SELECT * FROM events WHERE id > ? AND at_ms >= ? {meant} ORDER BY id {order} LIMIT ?"
        );
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).into();
        let mut values: Vec<rusqlite::types::Value> = vec![
            number(filter.after.unwrap_or(0)),
            number(filter.since_ms.unwrap_or(0)),
        ];
        values.extend(filter.agents.iter().map(|agent| agent.to_string().into()));
        values.push(number(limit as u64));
        let connection = self.connection()?;
        let read = || {
            connection
                .prepare(&query)?
                .query_map(params_from_iter(values), rows::event)?
                .collect::<Result<_, _>>()
        };
        read().map_err(self.place.failed("read events of"))
    }

    /// The number of the last event that this reader is done with, if it has ever said so.
    pub fn position(&self, reader: &str) -> Result<Option<u64>, StoreError> {
        let query = "SELECT (SELECT event FROM positions WHERE reader = ?1)";
        self.connection()?
            .query_row(query, [reader], |row| row.get(0))
            .map_err(self.place.failed("read"))
    }

    /// Notes how far a reader has come.
    pub fn set_position(&self, reader: &str, event: u64) -> Result<(), StoreError> {
        self.connection()?
            .execute(
                "INSERT OR REPLACE INTO positions (reader, event) VALUES (?1, ?2)",
                (reader, event),
            )
            .map(drop)
            .map_err(self.place.failed("write"))
    }

    /// Forgets the positions of all readers whose names begin like this, except these.
    pub fn forget_positions(&self, prefix: &str, except: &[String]) -> Result<(), StoreError> {
        let failed = self.place.failed("write");
        let connection = self.connection()?;
        let known: Vec<String> = connection
            .prepare("SELECT reader FROM positions")
            .and_then(|mut known| known.query_map([], |row| row.get(0))?.collect())
            .map_err(failed)?;
        for reader in known {
            if reader.starts_with(prefix) && !except.contains(&reader) {
                connection
                    .execute("DELETE FROM positions WHERE reader = ?1", [reader])
                    .map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Copies what is wanted to `par.db.last-good`. Happens when a store is opened; after much has changed, again.
    pub fn keep_copy(&self) -> Result<(), StoreError> {
        self.place.keep_copy(&*self.connection()?)
    }

    fn connection(&self) -> Result<Open<'_>, StoreError> {
        let slot = self.slot();
        match *slot {
            Some(_) => Ok(Open(slot)),
            None => Err(StoreError::Closed(self.place.file.clone())),
        }
    }

    fn slot(&self) -> MutexGuard<'_, Option<Connection>> {
        // A thread that panicked has taken its transaction with it: the connection is whole.
        self.connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn bound_pages(connection: &Connection, bytes: u64) -> rusqlite::Result<()> {
    let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
    let most = (bytes / page).clamp(1, u64::from(u32::MAX - 1));
    connection.pragma_update_and_check(None, "max_page_count", most, |_| Ok(()))
}
