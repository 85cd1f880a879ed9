//! Between values and rows.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::PathBuf;
use std::str::FromStr;

use par_model::event::{EventKind, NewEvent};
use par_model::{AgentId, ReplicaId};
use rusqlite::types::Type;
use rusqlite::{Connection, Error, Result, Row, named_params, params};

use crate::allowances;
use crate::kept::{
    Canary, Incarnation, KeptAgent, KeptEvent, KeptRelease, NewRelease, Outcome, Revision, Wanted,
    Wish,
};
use crate::secrets::{KeptSecrets, SecretsFolder};

pub(crate) fn counter(connection: &Connection, name: &str) -> Result<u64> {
    connection.query_row(
        "SELECT value FROM counters WHERE name = ?1",
        [name],
        |row| row.get(0),
    )
}

pub(crate) fn count(connection: &Connection, name: &str) -> Result<u64> {
    connection.query_row(
        "UPDATE counters SET value = value + 1 WHERE name = ?1 RETURNING value",
        [name],
        |row| row.get(0),
    )
}

pub(crate) fn revision(connection: &Connection) -> Result<Revision> {
    counter(connection, "revision").map(Revision)
}

const AGENT: &str = "agent, wanted, replicas, current, canary, permille, homes, last_number";

/// Without their releases.
pub(crate) fn agents(connection: &Connection) -> Result<Vec<KeptAgent>> {
    connection
        .prepare(&format!("SELECT {AGENT} FROM agents ORDER BY agent"))?
        .query_map([], agent)?
        .collect()
}

pub(crate) fn agent_named(connection: &Connection, name: &AgentId) -> Result<Option<KeptAgent>> {
    connection
        .prepare(&format!("SELECT {AGENT} FROM agents WHERE agent = ?1"))?
        .query_map([name.as_str()], agent)?
        .next()
        .transpose()
}

fn agent(row: &Row<'_>) -> Result<KeptAgent> {
    let canary = match (row.get("canary")?, row.get("permille")?) {
        (Some(release), Some(permille)) => Some(Canary { release, permille }),
        _ => None,
    };
    Ok(KeptAgent {
        agent: parsed(row, "agent")?,
        wish: Wish {
            wanted: match row.get_ref("wanted")?.as_str()? {
                "up" => Wanted::Up,
                _ => Wanted::Stopped,
            },
            replicas: row.get("replicas")?,
            current: row.get("current")?,
            canary,
            homes: from_json(row, "homes")?,
        },
        last_number: row.get("last_number")?,
        releases: vec![],
    })
}

pub(crate) fn set_wish(connection: &Connection, name: &AgentId, wish: &Wish) -> Result<bool> {
    let changed = connection.execute(
        "UPDATE agents SET wanted = :wanted, replicas = :replicas, current = :current, canary = :canary,
             permille = :permille, homes = :homes
         WHERE agent = :agent",
        named_params! {
            ":agent": name.as_str(),
            ":wanted": match wish.wanted {
                Wanted::Up => "up",
                Wanted::Stopped => "stopped",
            },
            ":replicas": wish.replicas,
            ":current": wish.current,
            ":canary": wish.canary.map(|canary| canary.release),
            ":permille": wish.canary.map(|canary| canary.permille),
            ":homes": json(&wish.homes)?,
        },
    )?;
    Ok(changed > 0)
}

/// Makes the agent with its first release.
pub(crate) fn take_number(connection: &Connection, name: &AgentId, number: u32) -> Result<()> {
    connection.execute(
        "INSERT INTO agents (agent, wanted, replicas, current, last_number) VALUES (?1, 'up', 1, ?2, ?2)
         ON CONFLICT (agent) DO UPDATE SET last_number = ?2",
        params![name.as_str(), number],
    )?;
    Ok(())
}

pub(crate) fn add_release(
    connection: &Connection,
    name: &AgentId,
    release: &NewRelease,
    secrets_file: Option<&str>,
) -> Result<()> {
    let names: BTreeSet<&String> = release.secrets.0.keys().collect();
    connection.execute(
        "INSERT INTO releases (agent, number, package_id, digest, package, env, secret_names, secrets_file, options,
             created_at_ms, note, outcome)
         VALUES (:agent, :number, :package_id, :digest, :package, :env, :secret_names, :secrets_file, :options,
             :created_at_ms, :note, 'pending')",
        named_params! {
            ":agent": name.as_str(),
            ":number": release.number,
            ":package_id": release.package_id,
            ":digest": release.digest.as_str(),
            ":package": release.package.as_os_str().as_bytes(),
            ":env": json(&release.env)?,
            ":secret_names": json(&names)?,
            ":secrets_file": secrets_file,
            ":options": json(&release.options)?,
            ":created_at_ms": release.created_at_ms.cast_signed(),
            ":note": release.note,
        },
    )?;
    Ok(())
}

pub(crate) fn has_release(connection: &Connection, name: &AgentId, number: u32) -> Result<bool> {
    connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM releases WHERE agent = ?1 AND number = ?2)",
        params![name.as_str(), number],
        |row| row.get(0),
    )
}

/// Of one agent, oldest first.
pub(crate) fn releases(
    connection: &Connection,
    secrets: &SecretsFolder,
    name: &AgentId,
) -> Result<Vec<KeptRelease>> {
    connection
        .prepare("SELECT * FROM releases WHERE agent = ?1 ORDER BY number")?
        .query_map([name.as_str()], |row| release(row, secrets))?
        .collect()
}

/// Of all agents, with their names; those of one agent stand together, oldest first.
pub(crate) fn all_releases(
    connection: &Connection,
    secrets: &SecretsFolder,
) -> Result<BTreeMap<AgentId, Vec<KeptRelease>>> {
    let mut found: BTreeMap<AgentId, Vec<KeptRelease>> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT * FROM releases ORDER BY agent, number")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let name = parsed(row, "agent")?;
        found.entry(name).or_default().push(release(row, secrets)?);
    }
    Ok(found)
}

fn release(row: &Row<'_>, secrets: &SecretsFolder) -> Result<KeptRelease> {
    let file: Option<String> = row.get("secrets_file")?;
    let outcome = match row.get_ref("outcome")?.as_str()? {
        "live" => Outcome::Live,
        "superseded" => Outcome::Superseded,
        "failed" => Outcome::Failed {
            reason: row.get("reason")?,
        },
        _ => Outcome::Pending,
    };
    let package: Vec<u8> = row.get("package")?;
    let number = row.get("number")?;
    let agent = parsed(row, "agent")?;
    Ok(KeptRelease {
        number,
        package_id: row.get("package_id")?,
        digest: parsed(row, "digest")?,
        package: PathBuf::from(OsStr::from_bytes(&package)),
        env: from_json(row, "env")?,
        secrets: KeptSecrets {
            names: from_json(row, "secret_names")?,
            file: file.map(|name| secrets.sealed(&name, &agent, number)),
        },
        options: from_json(row, "options")?,
        created_at_ms: bits(row, "created_at_ms")?,
        note: row.get("note")?,
        outcome,
    })
}

pub(crate) fn set_outcome(
    connection: &Connection,
    name: &AgentId,
    number: u32,
    outcome: &Outcome,
) -> Result<()> {
    let (word, reason) = match outcome {
        Outcome::Pending => ("pending", None),
        Outcome::Live => ("live", None),
        Outcome::Superseded => ("superseded", None),
        Outcome::Failed { reason } => ("failed", Some(reason)),
    };
    connection.execute(
        "UPDATE releases SET outcome = ?3, reason = ?4 WHERE agent = ?1 AND number = ?2",
        params![name.as_str(), number, word, reason],
    )?;
    Ok(())
}

/// Removes all but the newest `most` releases and those in use. Answers with the files of their secrets.
pub(crate) fn prune(connection: &Connection, name: &AgentId, most: u32) -> Result<Vec<String>> {
    let gone = connection
        .prepare(
            "DELETE FROM releases WHERE agent = ?1
             AND number NOT IN (SELECT number FROM releases WHERE agent = ?1 ORDER BY number DESC LIMIT ?2)
             AND number NOT IN (SELECT current FROM agents WHERE agent = ?1)
             AND number NOT IN (SELECT canary FROM agents WHERE agent = ?1 AND canary IS NOT NULL)
             RETURNING secrets_file",
        )?
        .query_map(params![name.as_str(), most], |row| row.get(0))?
        .collect::<Result<Vec<Option<String>>>>()?;
    Ok(gone.into_iter().flatten().collect())
}

/// Removes an agent and all its releases. Answers with the files of their secrets.
pub(crate) fn remove_agent(connection: &Connection, name: &AgentId) -> Result<Vec<String>> {
    let gone = secrets_files(connection, Some(name))?;
    allowances::forget(connection, name)?;
    connection.execute("DELETE FROM agents WHERE agent = ?1", [name.as_str()])?;
    Ok(gone.into_iter().collect())
}

/// Of one agent, or of all.
pub(crate) fn secrets_files(
    connection: &Connection,
    name: Option<&AgentId>,
) -> Result<BTreeSet<String>> {
    connection
        .prepare(
            "SELECT secrets_file FROM releases WHERE secrets_file IS NOT NULL AND agent = ifnull(?1, agent)",
        )?
        .query_map([name.map(AgentId::as_str)], |row| row.get(0))?
        .collect()
}

/// Those that were written before secrets were sealed: of which release, and their names.
pub(crate) fn plain_secrets_files(connection: &Connection) -> Result<Vec<(AgentId, u32, String)>> {
    connection
        .prepare(
            "SELECT agent, number, secrets_file FROM releases WHERE secrets_file LIKE '%.json'",
        )?
        .query_map([], |row| {
            Ok((
                parsed(row, "agent")?,
                row.get("number")?,
                row.get("secrets_file")?,
            ))
        })?
        .collect()
}

pub(crate) fn set_secrets_file(
    connection: &Connection,
    name: &AgentId,
    number: u32,
    file: &str,
) -> Result<()> {
    let words = "UPDATE releases SET secrets_file = ?3 WHERE agent = ?1 AND number = ?2";
    connection
        .execute(words, params![name.as_str(), number, file])
        .map(drop)
}

pub(crate) fn add_incarnation(connection: &Connection, made: &Incarnation) -> Result<()> {
    connection.execute(
        "INSERT OR REPLACE INTO incarnations
             (replica, agent, slot, release, port, grpc_port, pid, pid_start_time, boot_id, secret, made_at_ms)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)",
        params![
            made.replica.0.cast_signed(),
            made.agent.as_str(),
            made.slot,
            made.release,
            made.port,
            made.grpc_port,
            made.pid,
            made.pid_start_time.cast_signed(),
            made.boot_id,
            made.secret,
            made.made_at_ms.cast_signed(),
        ],
    )?;
    Ok(())
}

pub(crate) fn remove_incarnation(connection: &Connection, replica: ReplicaId) -> Result<()> {
    connection.execute(
        "DELETE FROM incarnations WHERE replica = ?1",
        [replica.0.cast_signed()],
    )?;
    Ok(())
}

/// Oldest first.
pub(crate) fn incarnations(connection: &Connection) -> Result<Vec<Incarnation>> {
    let incarnation = |row: &Row<'_>| {
        Ok(Incarnation {
            replica: ReplicaId(bits(row, "replica")?),
            agent: parsed(row, "agent")?,
            slot: row.get("slot")?,
            release: row.get("release")?,
            port: row.get("port")?,
            grpc_port: row.get("grpc_port")?,
            pid: row.get("pid")?,
            pid_start_time: bits(row, "pid_start_time")?,
            boot_id: row.get("boot_id")?,
            secret: row.get("secret")?,
            made_at_ms: bits(row, "made_at_ms")?,
        })
    };
    let mut found: Vec<_> = connection
        .prepare("SELECT * FROM incarnations")?
        .query_map([], incarnation)?
        .collect::<Result<_>>()?;
    found.sort_by_key(|made| made.replica);
    Ok(found)
}

/// Answers with its number.
pub(crate) fn add_event(connection: &Connection, event: &NewEvent) -> Result<u64> {
    connection.execute(
        "INSERT INTO events (at_ms, kind, agent, replica, release, reason, details) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        params![
            event.at_ms.cast_signed(),
            event.kind.word(),
            event.agent.as_ref().map(AgentId::as_str),
            event.replica.map(|replica| replica.0.cast_signed()),
            event.release,
            event.reason,
            event.details.as_ref().map(json).transpose()?,
        ],
    )?;
    Ok(connection.last_insert_rowid().cast_unsigned())
}

pub(crate) fn event(row: &Row<'_>) -> Result<KeptEvent> {
    let agent: Option<String> = row.get("agent")?;
    let replica: Option<i64> = row.get("replica")?;
    let details: Option<String> = row.get("details")?;
    let kind = row.get_ref("kind")?.as_str()?.parse();
    Ok(KeptEvent {
        id: bits(row, "id")?,
        event: NewEvent {
            at_ms: bits(row, "at_ms")?,
            kind: kind.unwrap_or(EventKind::Unknown),
            agent: agent.map(|_| parsed(row, "agent")).transpose()?,
            replica: replica.map(|bits| ReplicaId(bits.cast_unsigned())),
            release: row.get("release")?,
            reason: row.get("reason")?,
            details: details.map(|_| from_json(row, "details")).transpose()?,
        },
    })
}

/// All 64 bits of a number that SQLite takes for a signed one.
pub(crate) fn bits(row: &Row<'_>, column: &str) -> Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::ToSqlConversionFailure(error.into()))
}

/// The parser's own words are left out: they could repeat a value.
pub(crate) fn from_json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &str) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text).map_err(|_| unreadable(row, column))
}

pub(crate) fn parsed<T: FromStr>(row: &Row<'_>, column: &str) -> Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    text.parse().map_err(|_| unreadable(row, column))
}

fn unreadable(row: &Row<'_>, column: &str) -> Error {
    let names: &rusqlite::Statement<'_> = row.as_ref();
    let index = names.column_index(column).unwrap_or_default();
    Error::InvalidColumnType(index, column.to_owned(), Type::Text)
}
