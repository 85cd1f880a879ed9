//! The table `[access]` of `par.toml`: who may call.
//!
//! ```toml
//! [access]
//! anonymous_loopback = true     # false: on loopback, too, everything needs a token
//! agents = "open"               # or granted: agents call only those that their `calls` name
//! audit_calls = false           # true: the audit log has calls that were allowed, too
//!
//! [access.roles]                # what a role may do
//! operator = ["admin"]
//!
//! [access.certificates]         # roles by the name in a client's certificate
//! "node-1" = ["operator"]
//!
//! [access.oidc]
//! issuer = "https://login.example.com"
//! audience = "par"              # or a list
//! jwks_url = "https://…"        # without it and jwks_file, the issuer is asked where they are
//! jwks_file = "keys.json"
//! roles_claim = "roles"
//! scopes = ["call"]             # what everybody may do for whom the issuer vouches
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;

use par_access::{AgentsMay, Issuer, Keys};
use par_model::Scope;
use toml::de::DeValue;

use super::table::{Notes, Value};
use crate::access::{AccessSettings, KeySource, Oidc};
use crate::events::webhooks::Target;

const KNOWN: [&str; 6] = [
    "anonymous_loopback",
    "agents",
    "audit_calls",
    "roles",
    "certificates",
    "oidc",
];

const OIDC: [&str; 6] = [
    "issuer",
    "audience",
    "jwks_url",
    "jwks_file",
    "roles_claim",
    "scopes",
];

pub(super) fn read(value: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> AccessSettings {
    let mut settings = AccessSettings::default();
    for (key, value) in notes.table("access", value).into_iter().flatten() {
        let name = key.get_ref().as_ref();
        match name {
            "anonymous_loopback" => {
                settings.anonymous_loopback = notes.truth(name, value).unwrap_or(true);
            }
            "agents" => settings.agents = agents(value, notes),
            "audit_calls" => settings.audit_calls = notes.truth(name, value).unwrap_or(false),
            "roles" => settings.roles = table_of(name, value, notes),
            "certificates" => settings.certificates = table_of(name, value, notes),
            "oidc" => settings.oidc = oidc(value, folder, notes),
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    settings
}

fn agents(value: &Value<'_>, notes: &mut Notes<'_>) -> AgentsMay {
    match notes.text("agents", value).as_deref() {
        Some("open") | None => AgentsMay::CallEachOther,
        Some("granted") => AgentsMay::CallNobody,
        Some(_) => {
            notes.note(&value.span(), "`agents` is open or granted");
            AgentsMay::default()
        }
    }
}

fn oidc(value: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Option<Oidc> {
    let table = notes.table("oidc", value)?;
    let (mut issuer, mut audience, mut scopes) = (None, BTreeSet::new(), BTreeSet::new());
    let mut roles_claim = "roles".to_owned();
    let mut sources = vec![];
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        match name {
            "issuer" => issuer = issuer_of(value, notes),
            "audience" => audience = words(name, value, notes),
            "jwks_url" => sources.push(target(name, value, notes).map(KeySource::Url)),
            "jwks_file" => sources.push(key_file(value, folder, notes)),
            "roles_claim" => roles_claim = notes.text(name, value).unwrap_or_default(),
            "scopes" => scopes = words::<Scope>(name, value, notes),
            unknown => notes.unknown(unknown, &key.span(), &OIDC),
        }
    }
    for needed in ["issuer", "audience"] {
        if !table.contains_key(needed) {
            notes.note(&value.span(), format!("`oidc` needs `{needed}`"));
        }
    }
    if sources.len() > 1 {
        notes.note(&value.span(), "either `jwks_url` or `jwks_file`, not both");
    }
    let (issuer, at) = issuer?;
    let keys = sources.pop().unwrap_or(Some(KeySource::Discovery(at)))?;
    Some(Oidc {
        issuer: Issuer {
            issuer,
            audience,
            roles_claim,
            scopes,
        },
        keys,
    })
}

/// Its name as it stands in tokens, and where it says more of itself.
fn issuer_of(value: &Value<'_>, notes: &mut Notes<'_>) -> Option<(String, Target)> {
    let name = notes.text("issuer", value)?;
    let place = format!(
        "{}/.well-known/openid-configuration",
        name.trim_end_matches('/')
    );
    let target =
        reachable(&place).map_err(|why| notes.note(&value.span(), format!("`issuer`: {why}")));
    Some((name, target.ok()?))
}

fn target(key: &str, value: &Value<'_>, notes: &mut Notes<'_>) -> Option<Target> {
    let text = notes.text(key, value)?;
    let target = reachable(&text);
    target
        .map_err(|why| notes.note(&value.span(), format!("`{key}`: {why}")))
        .ok()
}

/// Whoever can change keys on their way to us can be anybody here.
pub(crate) fn reachable(url: &str) -> Result<Target, String> {
    let target: Target = url.parse().map_err(|error| format!("{error}"))?;
    match target.is_trustworthy() {
        true => Ok(target),
        false => Err("keys come by https, or from this machine".to_owned()),
    }
}

fn key_file(value: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Option<KeySource> {
    let path = folder.join(notes.path("jwks_file", value)?);
    let read = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
    let keys = read.and_then(|json| Keys::parse(&json, 1).map_err(|error| error.to_string()));
    match keys {
        Ok(_) => Some(KeySource::File(path)),
        Err(why) => {
            let message = format!("`jwks_file`: `{}` {why}", path.display());
            notes.note(&value.span(), message);
            None
        }
    }
}

/// A list of words, which may be empty.
pub(super) fn listed<T: FromStr<Err: Display> + Ord>(
    key: &str,
    value: &Value<'_>,
    notes: &mut Notes<'_>,
) -> Vec<T> {
    let is_empty = matches!(value.get_ref(), DeValue::Array(words) if words.is_empty());
    match is_empty {
        true => vec![],
        false => words(key, value, notes).into_iter().collect(),
    }
}

/// Lists of words, by name.
fn table_of<K, T>(key: &str, value: &Value<'_>, notes: &mut Notes<'_>) -> BTreeMap<K, BTreeSet<T>>
where
    K: FromStr<Err: Display> + Ord,
    T: FromStr<Err: Display> + Ord,
{
    let mut found = BTreeMap::new();
    for (key, value) in notes.table(key, value).into_iter().flatten() {
        let name = key.get_ref().as_ref();
        match name.parse::<K>() {
            Ok(parsed) => drop(found.insert(parsed, words(name, value, notes))),
            Err(error) => notes.note(&key.span(), error.to_string()),
        }
    }
    found
}

/// One word, or a list of them; none at all is a mistake.
fn words<T: FromStr<Err: Display> + Ord>(
    key: &str,
    value: &Value<'_>,
    notes: &mut Notes<'_>,
) -> BTreeSet<T> {
    let one = std::slice::from_ref(value);
    let several = match value.get_ref() {
        DeValue::Array(several) => &several[..],
        _ => one,
    };
    if several.is_empty() {
        notes.note(&value.span(), format!("`{key}` is empty"));
    }
    let mut found = BTreeSet::new();
    for value in several {
        let Some(text) = notes.text(key, value) else {
            continue;
        };
        match text.parse() {
            Ok(parsed) => drop(found.insert(parsed)),
            Err(error) => notes.note(&value.span(), format!("`{key}`: {error}")),
        }
    }
    found
}
