//! The public keys of an issuer, as it publishes them (JWKS, RFC 7517).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents,
    UnparsedPublicKey,
};
use serde::Deserialize;

/// More than any issuer has in use.
const MOST: usize = 100;

/// Keys of one moment. An empty set vouches for nobody.
#[derive(Clone, Default)]
pub struct Keys {
    pub(crate) generation: u64,
    all: Vec<Key>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Key {
    id: Option<String>,
    kind: Kind,
}

/// A key belongs to one algorithm, so that no token can choose another for it.
#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Rs256 { n: Vec<u8>, e: Vec<u8> },
    Es256 { point: Vec<u8> },
    EdDsa { point: Vec<u8> },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeys {
    #[error("it is no JWKS: {0}")]
    NoJwks(String),
    #[error("it has {0} keys, more than {MOST}")]
    TooMany(usize),
    #[error("it has no key for RS256, ES256 or EdDSA")]
    NoneUsable,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Keys that we cannot use are left out; `generation` grows with every set.
    pub fn parse(json: &[u8], generation: u64) -> Result<Self, BadKeys> {
        let jwks: Jwks =
            serde_json::from_slice(json).map_err(|error| BadKeys::NoJwks(error.to_string()))?;
        if jwks.keys.len() > MOST {
            return Err(BadKeys::TooMany(jwks.keys.len()));
        }
        let all: Vec<Key> = jwks.keys.into_iter().filter_map(usable).collect();
        match all.is_empty() {
            true => Err(BadKeys::NoneUsable),
            false => Ok(Self { generation, all }),
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether both hold the same keys.
    pub fn same_as(&self, other: &Self) -> bool {
        self.all == other.all
    }

    /// The key that is named; without a name, the only one of the algorithm.
    pub(crate) fn find(&self, algorithm: &str, id: Option<&str>) -> Option<&Key> {
        let mut of_algorithm = self
            .all
            .iter()
            .filter(|key| key.kind.algorithm() == algorithm);
        match id {
            Some(id) => of_algorithm.find(|key| key.id.as_deref() == Some(id)),
            None => of_algorithm
                .next()
                .filter(|_| of_algorithm.next().is_none()),
        }
    }

    pub(crate) fn has(&self, id: &str) -> bool {
        self.all.iter().any(|key| key.id.as_deref() == Some(id))
    }
}

impl Kind {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rs256 { .. } => "RS256",
            Self::Es256 { .. } => "ES256",
            Self::EdDsa { .. } => "EdDSA",
        }
    }
}

impl Key {
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.kind {
            Kind::Rs256 { n, e } => RsaPublicKeyComponents { n, e }.verify(
                &RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            Kind::Es256 { point } => {
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message, signature)
            }
            Kind::EdDsa { point } => {
                UnparsedPublicKey::new(&ED25519, point).verify(message, signature)
            }
        };
        verified.is_ok()
    }
}

fn usable(json: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(json).ok()?;
    let kind = kind(&jwk)?;
    let for_signatures = jwk.usage.is_none_or(|usage| usage == "sig");
    let for_this = jwk
        .alg
        .is_none_or(|algorithm| algorithm == kind.algorithm());
    (for_signatures && for_this).then_some(Key { id: jwk.kid, kind })
}

fn kind(jwk: &Jwk) -> Option<Kind> {
    match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", None) => Some(Kind::Rs256 {
            n: number(&jwk.n)?,
            e: number(&jwk.e)?,
        }),
        ("EC", Some("P-256")) => {
            let (x, y) = (bytes(&jwk.x)?, bytes(&jwk.y)?);
            let is_point = x.len() == 32 && y.len() == 32;
            is_point.then(|| Kind::Es256 {
                point: [&[4], &x[..], &y[..]].concat(),
            })
        }
        ("OKP", Some("Ed25519")) => {
            let point = bytes(&jwk.x)?;
            (point.len() == 32).then_some(Kind::EdDsa { point })
        }
        _ => None,
    }
}

fn bytes(text: &Option<String>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text.as_deref()?).ok()
}

/// Without leading zeros, which ring refuses and some issuers write.
fn number(text: &Option<String>) -> Option<Vec<u8>> {
    let bytes = bytes(text)?;
    let first = bytes.iter().position(|byte| *byte != 0)?;
    Some(bytes[first..].to_vec())
}
