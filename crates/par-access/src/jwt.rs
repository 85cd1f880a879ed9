//! Verifies a JWT (RFC 7519, compact form): RS256, ES256 or EdDSA, by a key that belongs to that algorithm alone. What
//! a token leaves out or writes as another type is refused, never passed over.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use par_model::{Role, Scope};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::caller::Standing;
use crate::keys::Keys;

/// Clocks differ.
const LEEWAY_S: u64 = 60;

/// Longer ones name nobody.
const LONGEST_SUBJECT: usize = 256;

/// Of a claim; the rest is passed over.
const MOST_ROLES: usize = 200;

/// Who vouches for identities, and how its words are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    pub issuer: String,
    /// One of them has to be meant.
    pub audience: BTreeSet<String>,
    /// The claim with the roles, `.` between the names of nested ones.
    pub roles_claim: String,
    /// What everybody may do for whom it vouches.
    pub scopes: BTreeSet<Scope>,
}

/// Why a JWT says nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadJwt {
    #[error("the JWT is malformed")]
    Malformed,
    #[error("the JWT is signed by an algorithm other than RS256, ES256 and EdDSA")]
    Algorithm,
    /// New keys may have it.
    #[error("the JWT is signed by a key that the issuer does not publish")]
    UnknownKey,
    #[error("the signature of the JWT is wrong")]
    Signature,
    #[error("the JWT is of another issuer")]
    Issuer,
    #[error("the JWT is meant for another audience")]
    Audience,
    #[error("the JWT has expired")]
    Expired,
    #[error("the JWT is not valid yet")]
    NotYet,
}

/// What a JWT says that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Vouched {
    pub(crate) subject: String,
    pub(crate) standing: Standing,
    pub(crate) until_ms: u64,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    /// Whatever it is, we do not understand it (RFC 7515, 4.1.11).
    crit: Option<Value>,
}

/// A token taken apart; nothing in it is believed yet.
struct Parts<'a> {
    header: Header,
    claims: Map<String, Value>,
    signed: &'a str,
    signature: Vec<u8>,
}

fn split(jwt: &str) -> Option<Parts<'_>> {
    let (signed, signature) = jwt.rsplit_once('.')?;
    let (header, claims) = signed.split_once('.')?;
    if claims.contains('.') {
        return None;
    }
    let decoded = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    Some(Parts {
        header: serde_json::from_slice(&decoded(header)?).ok()?,
        claims: serde_json::from_slice(&decoded(claims)?).ok()?,
        signed,
        signature: decoded(signature)?,
    })
}

/// Whether a word is a JWT that says it is from there: then it is meant for us, whether it is right or wrong.
pub(crate) fn claims_to_be_from(word: &str, issuer: &str) -> bool {
    let parts = word.starts_with("ey").then(|| split(word)).flatten();
    parts.is_some_and(|parts| parts.claims.get("iss").and_then(Value::as_str) == Some(issuer))
}

impl Issuer {
    pub(crate) fn verify(&self, jwt: &str, keys: &Keys, now_ms: u64) -> Result<Vouched, BadJwt> {
        let parts = split(jwt).ok_or(BadJwt::Malformed)?;
        let typ = parts.header.typ.as_deref().unwrap_or("JWT");
        let is_access_token = ["JWT", "at+jwt", "application/at+jwt"]
            .iter()
            .any(|known| known.eq_ignore_ascii_case(typ));
        if parts.header.crit.is_some() || !is_access_token {
            return Err(BadJwt::Malformed);
        }
        let algorithm = parts.header.alg.as_str();
        if !["RS256", "ES256", "EdDSA"].contains(&algorithm) {
            return Err(BadJwt::Algorithm);
        }
        // Before the signature: nobody else's token makes us work, or look for new keys.
        if text(&parts.claims, "iss")? != self.issuer {
            return Err(BadJwt::Issuer);
        }
        let id = parts.header.kid.as_deref();
        let Some(key) = keys.find(algorithm, id) else {
            // A key of that name for another algorithm is no reason to look for another.
            let is_known = id.is_some_and(|id| keys.has(id));
            return Err(if is_known {
                BadJwt::Algorithm
            } else {
                BadJwt::UnknownKey
            });
        };
        if !key.verifies(parts.signed.as_bytes(), &parts.signature) {
            return Err(BadJwt::Signature);
        }
        self.read(&parts.claims, now_ms)
    }

    fn read(&self, claims: &Map<String, Value>, now_ms: u64) -> Result<Vouched, BadJwt> {
        if !self.is_meant(claims.get("aud")) {
            return Err(BadJwt::Audience);
        }
        let now_s = now_ms / 1000;
        let end_s = seconds(claims.get("exp"))?.ok_or(BadJwt::Malformed)?;
        let until_s = end_s.saturating_add(LEEWAY_S);
        if until_s <= now_s {
            return Err(BadJwt::Expired);
        }
        let begins_s = seconds(claims.get("nbf"))?.unwrap_or(0);
        if begins_s > now_s.saturating_add(LEEWAY_S) {
            return Err(BadJwt::NotYet);
        }
        let subject = text(claims, "sub")?;
        if subject.is_empty() || subject.len() > LONGEST_SUBJECT {
            return Err(BadJwt::Malformed);
        }
        Ok(Vouched {
            subject: subject.to_owned(),
            standing: Standing {
                scopes: self.scopes.clone(),
                roles: self.roles(claims),
            },
            until_ms: until_s.saturating_mul(1000),
        })
    }

    fn is_meant(&self, audience: Option<&Value>) -> bool {
        let meant = |value: &Value| {
            value
                .as_str()
                .is_some_and(|one| self.audience.contains(one))
        };
        match audience {
            Some(Value::Array(several)) => several.iter().any(meant),
            Some(one) => meant(one),
            None => false,
        }
    }

    /// A list, or words in one text. What is no role of ours is passed over: an issuer has its own reasons for words.
    fn roles(&self, claims: &Map<String, Value>) -> BTreeSet<Role> {
        let mut names = self.roles_claim.split('.');
        let first = names.next().and_then(|name| claims.get(name));
        let nested = || names.try_fold(first?, |value, name| value.get(name));
        // A name with dots of its own, such as a URL, is one name.
        let whole = claims.get(&self.roles_claim);
        let words: Vec<&str> = match whole.or_else(nested) {
            Some(Value::String(text)) => text.split_ascii_whitespace().collect(),
            Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
            _ => vec![],
        };
        let roles = words.into_iter().take(MOST_ROLES);
        roles.filter_map(|word| word.parse().ok()).collect()
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &str) -> Result<&'a str, BadJwt> {
    claims
        .get(name)
        .and_then(Value::as_str)
        .ok_or(BadJwt::Malformed)
}

/// A date as a number; one of another type is a mistake, not an absence.
fn seconds(value: Option<&Value>) -> Result<Option<u64>, BadJwt> {
    let Some(value) = value else {
        return Ok(None);
    };
    let whole = value.as_u64();
    let fraction = || {
        let number = value
            .as_f64()
            .filter(|number| (0.0..1e15).contains(number))?;
        Some(number as u64)
    };
    whole.or_else(fraction).map(Some).ok_or(BadJwt::Malformed)
}
