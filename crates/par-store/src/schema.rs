//! The tables, and the steps from each version of them to the next.

use rusqlite::{Connection, Transaction};

/// `PAR` and a one: says whose file it is.
pub(crate) const APPLICATION_ID: u32 = 0x5041_5201;

/// Step `n` leads from version `n` to version `n + 1`. A step that was released is never changed.
const STEPS: [&str; 3] = [FIRST, EGRESS, TOKENS];

/// The version that this program reads and writes.
pub(crate) const VERSION: u32 = STEPS.len() as u32;

const FIRST: &str = "
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO counters VALUES ('life', 0), ('revision', 0);

CREATE TABLE agents (
    agent TEXT PRIMARY KEY,
    wanted TEXT NOT NULL CHECK (wanted IN ('up', 'stopped')),
    replicas INTEGER NOT NULL,
    current INTEGER NOT NULL,
    canary INTEGER,
    permille INTEGER,
    homes TEXT NOT NULL DEFAULT '{}',
    last_number INTEGER NOT NULL,
    CHECK ((canary IS NULL) = (permille IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE releases (
    agent TEXT NOT NULL REFERENCES agents ON DELETE CASCADE,
    number INTEGER NOT NULL,
    package_id TEXT NOT NULL,
    digest TEXT NOT NULL,
    package BLOB NOT NULL,
    env TEXT NOT NULL,
    secret_names TEXT NOT NULL,
    secrets_file TEXT,
    options TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    note TEXT,
    outcome TEXT NOT NULL CHECK (outcome IN ('pending', 'live', 'superseded', 'failed')),
    reason TEXT,
    PRIMARY KEY (agent, number),
    CHECK ((reason IS NOT NULL) = (outcome = 'failed'))
) STRICT, WITHOUT ROWID;

-- A worker may outlive what is kept of its agent.
CREATE TABLE incarnations (
    replica INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    slot INTEGER NOT NULL,
    release INTEGER NOT NULL,
    port INTEGER NOT NULL,
    grpc_port INTEGER NOT NULL,
    pid INTEGER NOT NULL,
    pid_start_time INTEGER NOT NULL,
    boot_id TEXT NOT NULL,
    secret TEXT NOT NULL,
    made_at_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_ms INTEGER NOT NULL,
    kind TEXT NOT NULL,
    agent TEXT,
    replica INTEGER,
    release INTEGER,
    reason TEXT,
    details TEXT
) STRICT;
CREATE INDEX events_of_agent ON events (agent, id);

-- How far those have come who read all events.
CREATE TABLE positions (
    reader TEXT PRIMARY KEY,
    event INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
";

/// Where agents may go, and what is put into their requests. An agent need not be there yet.
const EGRESS: &str = "
-- Tells the key that everything was sealed with.
CREATE TABLE sealing (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    proof BLOB NOT NULL
) STRICT;

CREATE TABLE network_grants (
    agent TEXT NOT NULL,
    destination TEXT NOT NULL,
    granted_at_ms INTEGER NOT NULL,
    PRIMARY KEY (agent, destination)
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    placeholder TEXT NOT NULL,
    hosts TEXT NOT NULL,
    header TEXT,
    as_env INTEGER NOT NULL,
    set_at_ms INTEGER NOT NULL,
    sealed BLOB NOT NULL,
    PRIMARY KEY (agent, name)
) STRICT, WITHOUT ROWID;
";

const TOKENS: &str = "
-- The secrets themselves are kept nowhere.
CREATE TABLE tokens (
    name TEXT PRIMARY KEY,
    id INTEGER NOT NULL UNIQUE,
    hash BLOB NOT NULL CHECK (length(hash) = 32),
    scopes TEXT NOT NULL,
    roles TEXT NOT NULL,
    created_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER
) STRICT, WITHOUT ROWID;
";

/// Brings the tables from whatever version to ours.
pub(crate) fn migrate(transaction: &Transaction<'_>, from: u32) -> rusqlite::Result<()> {
    for step in STEPS.iter().skip(from as usize) {
        transaction.execute_batch(step)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
    transaction.pragma_update(None, "user_version", VERSION)
}

pub(crate) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Tables of what is wanted: all but the history, and the processes of one life.
pub(crate) fn worth_a_copy(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT IN ('events', 'incarnations')
             ORDER BY name = 'releases'",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}
