//! Tokens: `par_` and an id, then a secret of 256 bits. Only a hash of the secret is kept: what is random throughout
//! needs no slow hash, and every request pays for it.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use par_model::TokenName;
use sha2::{Digest as _, Sha256};

use crate::caller::{Caller, Standing};

const PREFIX: &str = "par_";
const ID_DIGITS: usize = 16;
const SECRET_DIGITS: usize = 64;

/// How many tokens may be kept: all of them are in memory.
pub const MOST_TOKENS: usize = 10_000;

/// The part of a token that is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenId(u64);

impl From<u64> for TokenId {
    fn from(id: u64) -> Self {
        Self(id)
    }
}

impl From<TokenId> for u64 {
    fn from(id: TokenId) -> Self {
        id.0
    }
}

/// The SHA-256 of a secret.
#[derive(Clone, Copy)]
pub struct TokenHash(pub [u8; 32]);

impl PartialEq for TokenHash {
    /// Takes as long for a wrong one as for the right one.
    fn eq(&self, other: &Self) -> bool {
        let differences = self
            .0
            .iter()
            .zip(&other.0)
            .fold(0, |all, (a, b)| all | (a ^ b));
        differences == 0
    }
}

impl Eq for TokenHash {}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 16 lowercase hexadecimal digits")]
pub struct BadTokenId;

impl FromStr for TokenId {
    type Err = BadTokenId;

    fn from_str(digits: &str) -> Result<Self, BadTokenId> {
        let bytes: [u8; ID_DIGITS / 2] = from_hex(digits).ok_or(BadTokenId)?;
        Ok(Self(u64::from_be_bytes(bytes)))
    }
}

/// A token, as it is given to whoever shall have it. Has no `Debug`.
pub struct NewToken {
    pub id: TokenId,
    secret: [u8; SECRET_DIGITS / 2],
}

impl NewToken {
    /// `random`: that many bytes that nobody can guess.
    pub fn from_random(random: [u8; 40]) -> Self {
        let (id, secret) = random.split_at(8);
        Self {
            id: TokenId(u64::from_be_bytes(id.try_into().expect("eight bytes"))),
            secret: secret.try_into().expect("the other 32"),
        }
    }

    pub fn hash(&self) -> TokenHash {
        TokenHash(Sha256::digest(self.secret).into())
    }

    /// The words that a caller sends.
    pub fn expose(&self) -> String {
        let secret: String = self
            .secret
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{PREFIX}{}_{secret}", self.id)
    }

    /// What a caller sent, if it has the form of a token.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        Some(Self {
            id: id.parse().ok()?,
            secret: from_hex(secret)?,
        })
    }
}

/// Exactly so many lowercase digits.
fn from_hex<const BYTES: usize>(digits: &str) -> Option<[u8; BYTES]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let digits = digits.as_bytes();
    if digits.len() != 2 * BYTES {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

/// Whether a word is meant for us, even if it is no whole token: it is passed on to nobody.
pub(crate) fn has_our_form(word: &str) -> bool {
    word.starts_with(PREFIX)
}

/// A token as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptToken {
    pub id: TokenId,
    pub name: TokenName,
    pub hash: TokenHash,
    pub standing: Standing,
    pub created_at_ms: u64,
    pub expires_at_ms: Option<u64>,
}

impl KeptToken {
    pub fn has_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|end| end <= now_ms)
    }
}

/// All tokens, by id.
#[derive(Clone, Default)]
pub struct Tokens(HashMap<TokenId, Known>);

#[derive(Clone)]
struct Known {
    hash: TokenHash,
    expires_at_ms: Option<u64>,
    caller: Arc<Caller>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadToken {
    /// No token, one that was revoked, or one with a wrong secret.
    NotValid,
    Expired,
}

impl Tokens {
    /// `widen` adds what a standing implies.
    pub fn new(
        kept: impl IntoIterator<Item = KeptToken>,
        widen: impl Fn(Standing) -> Standing,
    ) -> Self {
        let known = |token: KeptToken| {
            let caller = Caller::Token(token.name, widen(token.standing));
            let known = Known {
                hash: token.hash,
                expires_at_ms: token.expires_at_ms,
                caller: Arc::new(caller),
            };
            (token.id, known)
        };
        Self(kept.into_iter().map(known).collect())
    }

    pub(crate) fn find(&self, text: &str, now_ms: u64) -> Result<Arc<Caller>, BadToken> {
        let presented = NewToken::parse(text).ok_or(BadToken::NotValid)?;
        let known = self.0.get(&presented.id).ok_or(BadToken::NotValid)?;
        if known.hash != presented.hash() {
            return Err(BadToken::NotValid);
        }
        if known.expires_at_ms.is_some_and(|end| end <= now_ms) {
            return Err(BadToken::Expired);
        }
        Ok(Arc::clone(&known.caller))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn random(seed: u8) -> [u8; 40] {
        std::array::from_fn(|index| seed.wrapping_add(index as u8).wrapping_mul(37))
    }

    fn kept(token: &NewToken, expires_at_ms: Option<u64>) -> KeptToken {
        KeptToken {
            id: token.id,
            name: "ci".parse().expect("a name"),
            hash: token.hash(),
            standing: Standing::default(),
            created_at_ms: 0,
            expires_at_ms,
        }
    }

    #[test]
    fn a_token_is_found_until_it_expires_or_is_revoked() {
        let token = NewToken::from_random(random(1));
        let tokens = Tokens::new([kept(&token, Some(1000))], |standing| standing);
        assert!(tokens.find(&token.expose(), 999).is_ok());
        assert_eq!(tokens.find(&token.expose(), 1000), Err(BadToken::Expired));
        assert_eq!(
            Tokens::default().find(&token.expose(), 0),
            Err(BadToken::NotValid)
        );
    }

    #[test]
    fn the_right_id_with_another_secret_is_no_token() {
        let token = NewToken::from_random(random(1));
        let tokens = Tokens::new([kept(&token, None)], |standing| standing);
        let right = token.expose();
        for at in 0..right.len() {
            let mut wrong = right.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).expect("text");
            assert_eq!(tokens.find(&wrong, 0), Err(BadToken::NotValid), "{at}");
        }
        for wrong in [
            &right[..right.len() - 1],
            &format!("{right}0"),
            &right.to_uppercase(),
            "",
        ] {
            assert_eq!(tokens.find(wrong, 0), Err(BadToken::NotValid), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_and_nothing_else_is(bytes in proptest::collection::vec(any::<u8>(), 40), noise in "(par_)?[0-9a-f_]{0,90}") {
            let token = NewToken::from_random(bytes.try_into().expect("forty"));
            let read = NewToken::parse(&token.expose()).expect("a token");
            prop_assert!(read.id == token.id && read.secret == token.secret);
            if let Some(read) = NewToken::parse(&noise) {
                prop_assert_eq!(read.expose(), noise);
            }
        }
    }
}
