//! Where agents may go, and their secrets, between values and rows.

use std::collections::BTreeMap;
use std::io;

use par_model::AgentId;
use par_model::network::Destination;
use rusqlite::{Connection, Error, Result, Row, named_params, params};
use serde_json::json;

use crate::kept::{KeptAllowance, KeptSecret};
use crate::rows::{bits, from_json, json as written, parsed};
use crate::seal::Key;

pub(crate) fn proof(connection: &Connection) -> Result<Option<Vec<u8>>> {
    let mut all = connection.prepare("SELECT proof FROM sealing")?;
    let mut rows = all.query_map([], |row| row.get(0))?;
    rows.next().transpose()
}

pub(crate) fn set_proof(connection: &Connection, proof: &[u8]) -> Result<()> {
    let words = "INSERT INTO sealing (id, proof) VALUES (1, ?1)";
    connection.execute(words, [proof]).map(drop)
}

pub(crate) fn all(connection: &Connection, key: &Key) -> Result<BTreeMap<AgentId, KeptAllowance>> {
    let mut found: BTreeMap<AgentId, KeptAllowance> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT * FROM network_grants")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let granted = (parsed(row, "destination")?, bits(row, "granted_at_ms")?);
        found
            .entry(parsed(row, "agent")?)
            .or_default()
            .granted
            .extend([granted]);
    }
    let mut statement = connection.prepare("SELECT * FROM secrets ORDER BY agent, name")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let agent: AgentId = parsed(row, "agent")?;
        let secret = secret(row, &agent, key)?;
        let allowance = found.entry(agent).or_default();
        match secret {
            Some(secret) => allowance.secrets.push(secret),
            None => allowance.damaged.push(row.get("name")?),
        }
    }
    Ok(found)
}

/// `None` when it is not what was sealed.
fn secret(row: &Row<'_>, agent: &AgentId, key: &Key) -> Result<Option<KeptSecret>> {
    let mut secret = KeptSecret {
        name: parsed(row, "name")?,
        value: String::new(),
        placeholder: row.get("placeholder")?,
        hosts: from_json(row, "hosts")?,
        header: match row.get::<_, Option<String>>("header")? {
            Some(_) => Some(parsed(row, "header")?),
            None => None,
        },
        as_env: row.get("as_env")?,
        set_at_ms: bits(row, "set_at_ms")?,
    };
    let sealed: Vec<u8> = row.get("sealed")?;
    let plain = key.unseal(&purpose(agent, &secret), &sealed);
    let value = plain.and_then(|plain| String::from_utf8(plain.to_vec()).ok());
    Ok(value.map(|value| {
        secret.value = value;
        secret
    }))
}

/// Whoever can write to the file and has not the key cannot have a secret sent to anybody else.
fn purpose(agent: &AgentId, secret: &KeptSecret) -> String {
    let KeptSecret {
        name,
        placeholder,
        hosts,
        header,
        as_env,
        ..
    } = secret;
    json!([
        "par/secret",
        agent,
        name,
        placeholder,
        hosts,
        header,
        as_env
    ])
    .to_string()
}

pub(crate) fn grant(
    connection: &Connection,
    agent: &AgentId,
    to: &Destination,
    at_ms: u64,
) -> Result<()> {
    let words = "INSERT OR IGNORE INTO network_grants (agent, destination, granted_at_ms) VALUES (?1, ?2, ?3)";
    let values = params![agent.as_str(), to.to_string(), at_ms.cast_signed()];
    connection.execute(words, values).map(drop)
}

pub(crate) fn revoke(connection: &Connection, agent: &AgentId, to: &Destination) -> Result<()> {
    let words = "DELETE FROM network_grants WHERE agent = ?1 AND destination = ?2";
    connection
        .execute(words, params![agent.as_str(), to.to_string()])
        .map(drop)
}

pub(crate) fn set_secret(
    connection: &Connection,
    key: &Key,
    agent: &AgentId,
    secret: &KeptSecret,
) -> Result<()> {
    let failed = |error: io::Error| Error::ToSqlConversionFailure(error.into());
    let purpose = purpose(agent, secret);
    let sealed = key
        .seal(&purpose, secret.value.as_bytes())
        .map_err(failed)?;
    connection.execute(
        "INSERT OR REPLACE INTO secrets (agent, name, placeholder, hosts, header, as_env, set_at_ms, sealed)
         VALUES (:agent, :name, :placeholder, :hosts, :header, :as_env, :set_at_ms, :sealed)",
        named_params! {
            ":agent": agent.as_str(),
            ":name": secret.name.as_str(),
            ":placeholder": secret.placeholder,
            ":hosts": written(&secret.hosts)?,
            ":header": secret.header.as_ref().map(ToString::to_string),
            ":as_env": secret.as_env,
            ":set_at_ms": secret.set_at_ms.cast_signed(),
            ":sealed": sealed,
        },
    )?;
    Ok(())
}

pub(crate) fn remove_secret(connection: &Connection, agent: &AgentId, name: &str) -> Result<()> {
    let words = "DELETE FROM secrets WHERE agent = ?1 AND name = ?2";
    connection
        .execute(words, params![agent.as_str(), name])
        .map(drop)
}

/// All that an agent was allowed and given.
pub(crate) fn forget(connection: &Connection, agent: &AgentId) -> Result<()> {
    for table in ["network_grants", "secrets"] {
        let words = format!("DELETE FROM {table} WHERE agent = ?1");
        connection.execute(&words, [agent.as_str()])?;
    }
    Ok(())
}
