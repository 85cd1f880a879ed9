//! Which session a call belongs to, and which of them a replica has. Both are told by a number that the session's
//! name leads to: the same in every process, so that a supervisor that takes over sends a session where the one
//! before it did. Two names that lead to one number only share their replica.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use http::{HeaderMap, HeaderName};
use par_model::headers::SESSION_ID;

use crate::path::decode;

const X_SESSION_ID: HeaderName = HeaderName::from_static(SESSION_ID);
const SESSIONS: &str = "/sessions";

/// Whoever has the session "", which no caller can name, answers for all that is not said to belong to one.
const HOME: SessionKey = SessionKey::of(b"");

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionKey(u64);

impl SessionKey {
    pub(crate) const fn of(name: &[u8]) -> Self {
        // FNV-1a, and a last stir: its high bits know little of the last letters.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut at = 0;
        while at < name.len() {
            hash = (hash ^ name[at] as u64).wrapping_mul(0x0100_0000_01b3);
            at += 1;
        }
        Self(stirred(hash))
    }

    /// For calls of sessions that do not say which.
    pub(crate) const fn home() -> Self {
        HOME
    }

    /// The session that a path below an agent or a header names; the path is what the worker goes by. The list of all
    /// sessions is asked where those are that nobody named.
    pub(crate) fn asked(path: &str, headers: &HeaderMap) -> Option<Self> {
        match path.strip_prefix(SESSIONS) {
            Some("" | "/") => return Some(HOME),
            Some(below) if below.starts_with('/') => {
                let name = below.trim_start_matches('/').split('/').next()?;
                return Some(Self::of(decode(name).as_bytes()));
            }
            _ => {}
        }
        Self::in_headers(headers)
    }

    pub(crate) fn in_headers(headers: &HeaderMap) -> Option<Self> {
        let named = headers.get(X_SESSION_ID)?.as_bytes().trim_ascii();
        (!named.is_empty()).then(|| Self::of(named))
    }

    /// How well a replica suits the session (rendezvous hashing): of any set of replicas it goes to the best one, and
    /// one that comes or goes moves only those sessions that are its own.
    pub(crate) fn suits(self, replica: par_model::ReplicaId) -> u64 {
        stirred(self.0 ^ stirred(replica.0))
    }

    /// Below `total`, the same for every call of the session.
    pub(crate) fn point(self, total: u32) -> u32 {
        u32::try_from(stirred(self.0) % u64::from(total.max(1))).unwrap_or_default()
    }
}

/// The finalizer of SplitMix64.
const fn stirred(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Callers of different sessions seldom meet at one lock.
const SHARDS: usize = 4;

/// The sessions of one generation of a shard. A worker keeps 1,000 sessions: all of them are remembered here.
const GENERATION: usize = 512;

/// The sessions that a replica was given, as many as are worth remembering: those that nobody called for the longest
/// time are forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Known([Mutex<Generations>; SHARDS]);

/// Two sets instead of a list of who came last: what is called again moves to the young ones, and when these are full,
/// the old ones are forgotten and the young are the old.
#[derive(Debug, Default)]
struct Generations {
    young: HashSet<SessionKey>,
    old: HashSet<SessionKey>,
}

impl Known {
    pub(crate) fn has(&self, session: SessionKey) -> bool {
        self.with(session, |known| {
            known.young.contains(&session) || known.old.contains(&session)
        })
    }

    pub(crate) fn keep(&self, session: SessionKey) {
        self.with(session, |known| {
            if !known.young.insert(session) {
                return;
            }
            known.old.remove(&session);
            if known.young.len() >= GENERATION {
                known.old = std::mem::take(&mut known.young);
            }
        });
    }

    pub(crate) fn all(&self) -> Vec<u64> {
        let shards = self.0.iter().map(|shard| {
            let known = shard.lock().unwrap_or_else(PoisonError::into_inner);
            // The old ones first: whoever keeps them in this order forgets them first.
            let keys = known.old.iter().chain(&known.young).map(|key| key.0);
            keys.collect::<Vec<_>>()
        });
        shards.flatten().collect()
    }

    pub(crate) fn adopt(&self, sessions: impl IntoIterator<Item = u64>) {
        for session in sessions {
            self.keep(SessionKey(session));
        }
    }

    fn with<T>(&self, session: SessionKey, work: impl FnOnce(&mut Generations) -> T) -> T {
        let shard = usize::try_from(session.0 % SHARDS as u64).unwrap_or_default();
        let mut known = self.0[shard].lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use par_model::ReplicaId;

    fn asked(path: &str, header: Option<&'static str>) -> Option<SessionKey> {
        let value = header.map(|value| (X_SESSION_ID, HeaderValue::from_static(value)));
        SessionKey::asked(path, &value.into_iter().collect())
    }

    #[test]
    fn the_path_names_the_session_else_the_header_does() {
        let s = Some(SessionKey::of(b"s 1"));
        for (path, header, expected) in [
            ("/sessions/s%201", None, s),
            ("/sessions/s%201/execute", Some("other"), s),
            ("/sessions//s%201", None, s),
            ("/invoke", Some(" s 1 "), s),
            ("/invoke", Some(""), None),
            ("/invoke", None, None),
            ("/sessionsx/s%201", None, None),
            ("/sessions", Some("s 1"), Some(HOME)),
            ("/sessions/", None, Some(HOME)),
        ] {
            assert_eq!(asked(path, header), expected, "{path} {header:?}");
        }
    }

    #[test]
    fn a_session_leads_to_the_same_number_in_every_version_of_this_program() {
        assert_eq!(SessionKey::of(b"s1").0, 5_587_161_986_507_088_899);
    }

    #[test]
    fn a_thousand_sessions_are_remembered_and_a_flood_is_not() {
        let known = Known::default();
        let key = |number: u64| SessionKey::of(&number.to_le_bytes());
        for number in 0..1000 {
            known.keep(key(number));
        }
        assert!((0..1000).all(|number| known.has(key(number))));
        for number in 1000..100_000 {
            known.keep(key(number));
            known.keep(key(7));
        }
        assert!(known.has(key(7)) && !known.has(key(8)));
        assert!(known.all().len() <= 2 * GENERATION * SHARDS);
    }

    #[test]
    fn what_was_known_can_be_told_to_another() {
        let (known, other) = (Known::default(), Known::default());
        known.keep(SessionKey::of(b"a"));
        other.adopt(known.all());
        assert!(other.has(SessionKey::of(b"a")));
    }

    #[test]
    fn a_replica_that_comes_takes_its_share_and_moves_nothing_else() {
        let best = |session: SessionKey, replicas: u64| {
            (0..replicas).max_by_key(|replica| session.suits(ReplicaId(*replica)))
        };
        let sessions = (0..3000_u64).map(|number| SessionKey::of(&number.to_le_bytes()));
        let mut moved = 0;
        for session in sessions {
            let (before, after) = (best(session, 2), best(session, 3));
            assert!(after == before || after == Some(2));
            moved += usize::from(after != before);
        }
        assert!((850..1150).contains(&moved), "{moved}");
    }
}
