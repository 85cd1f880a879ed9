//! JWTs that were verified lately: a signature takes longer to check than most calls take.

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::caller::Caller;

/// Beyond that, those that are remembered are forgotten.
const MOST: usize = 4096;

/// Of one thread. Holds no JWT, only hashes.
#[derive(Default)]
pub struct Verified {
    /// Of the keys that have verified these.
    generation: u64,
    known: HashMap<[u8; 32], Entry>,
}

struct Entry {
    caller: Arc<Caller>,
    until_ms: u64,
}

impl Verified {
    pub(crate) fn get(&mut self, jwt: &str, generation: u64, now_ms: u64) -> Option<Arc<Caller>> {
        if self.generation != generation {
            // A key that has gone vouches for nobody.
            self.known.clear();
            self.generation = generation;
        }
        if self.known.is_empty() {
            return None;
        }
        let entry = self.known.get(&digest(jwt))?;
        (now_ms < entry.until_ms).then(|| Arc::clone(&entry.caller))
    }

    pub(crate) fn keep(&mut self, jwt: &str, caller: &Arc<Caller>, until_ms: u64, now_ms: u64) {
        if self.known.len() >= MOST {
            self.known.retain(|_, entry| now_ms < entry.until_ms);
        }
        if self.known.len() >= MOST {
            self.known.clear();
        }
        let caller = Arc::clone(caller);
        self.known.insert(digest(jwt), Entry { caller, until_ms });
    }
}

fn digest(jwt: &str) -> [u8; 32] {
    Sha256::digest(jwt).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_verified_is_known_until_it_expires_or_keys_change() {
        let caller = Arc::new(Caller::Local);
        let mut verified = Verified::default();
        assert!(verified.get("a", 1, 0).is_none());
        verified.keep("a", &caller, 10, 0);
        assert!(verified.get("a", 1, 9).is_some());
        assert!(verified.get("b", 1, 9).is_none());
        assert!(verified.get("a", 1, 10).is_none());
        assert!(verified.get("a", 2, 0).is_none());
        assert!(verified.get("a", 1, 0).is_none());
    }

    #[test]
    fn no_flood_of_identities_makes_it_grow() {
        let caller = Arc::new(Caller::Local);
        let mut verified = Verified::default();
        for number in 0..2 * MOST {
            verified.keep(&number.to_string(), &caller, u64::MAX, 0);
            assert!(verified.known.len() <= MOST);
        }
    }
}
