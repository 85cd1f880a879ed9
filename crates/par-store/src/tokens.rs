//! Tokens, apart from what is wanted of agents: they have no releases and no revision.

use std::path::Path;

use par_model::TokenName;
use rusqlite::{Connection, Result, Row, named_params};

use crate::file::Place;
use crate::kept::KeptToken;
use crate::{Store, StoreError, rows};

/// The tokens of a state folder that nobody has open. Nothing of what is sealed is read, so no key is needed.
pub struct Tokens {
    place: Place,
    connection: Connection,
}

impl Tokens {
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let place = Place::within(folder);
        let connection = place.connect()?;
        Ok(Self { place, connection })
    }

    pub fn all(&self) -> Result<Vec<KeptToken>, StoreError> {
        all(&self.connection).map_err(self.place.failed("read tokens of"))
    }

    /// Whether it is kept now: a name is given once.
    pub fn add(&self, token: &KeptToken) -> Result<bool, StoreError> {
        add(&self.connection, token).map_err(self.place.failed("write a token to"))
    }
}

impl Store {
    /// By name.
    pub fn tokens(&self) -> Result<Vec<KeptToken>, StoreError> {
        let connection = self.connection()?;
        all(&connection).map_err(self.place.failed("read tokens of"))
    }

    /// Whether it is kept now: a name is given once.
    pub fn add_token(&self, token: &KeptToken) -> Result<bool, StoreError> {
        let connection = self.connection()?;
        add(&connection, token).map_err(self.place.failed("write a token to"))
    }

    /// Whether there was one.
    pub fn remove_token(&self, name: &TokenName) -> Result<bool, StoreError> {
        let removed = self
            .connection()?
            .execute("DELETE FROM tokens WHERE name = ?1", [name.as_str()])
            .map_err(self.place.failed("remove a token from"))?;
        Ok(removed > 0)
    }
}

fn all(connection: &Connection) -> Result<Vec<KeptToken>> {
    connection
        .prepare("SELECT * FROM tokens ORDER BY name")?
        .query_map([], token)?
        .collect()
}

fn token(row: &Row<'_>) -> Result<KeptToken> {
    let expires_at_ms: Option<i64> = row.get("expires_at_ms")?;
    Ok(KeptToken {
        name: rows::parsed(row, "name")?,
        id: rows::bits(row, "id")?,
        hash: row.get("hash")?,
        scopes: rows::from_json(row, "scopes")?,
        roles: rows::from_json(row, "roles")?,
        created_at_ms: rows::bits(row, "created_at_ms")?,
        expires_at_ms: expires_at_ms.map(i64::cast_unsigned),
    })
}

fn add(connection: &Connection, token: &KeptToken) -> Result<bool> {
    let added = connection.execute(
        "INSERT INTO tokens (name, id, hash, scopes, roles, created_at_ms, expires_at_ms)
         VALUES (:name, :id, :hash, :scopes, :roles, :created_at_ms, :expires_at_ms)
         ON CONFLICT (name) DO NOTHING",
        named_params! {
            ":name": token.name.as_str(),
            ":id": token.id.cast_signed(),
            ":hash": token.hash,
            ":scopes": rows::json(&token.scopes)?,
            ":roles": rows::json(&token.roles)?,
            ":created_at_ms": token.created_at_ms.cast_signed(),
            ":expires_at_ms": token.expires_at_ms.map(u64::cast_signed),
        },
    )?;
    Ok(added > 0)
}
