//! Keeps the keys of an issuer as it publishes them: looks again from time to time, and when a token names a key that is
//! not among them, but not as often as somebody may want to make us. A look that fails changes nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use par_access::{BadKeys, Keys};
use par_gateway::Gate;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::{info, warn};

use super::fetch::{FetchError, Fetcher};
use super::gatekeeper::publish_keys;
use super::settings::{KeySource, Oidc};
use crate::events::webhooks::Target;

/// Withdrawn keys are known for so long.
const EVERY: Duration = Duration::from_secs(600);
/// After a look that failed.
const RETRY: Duration = Duration::from_secs(30);

/// Looks that others may ask for: so many at once, and then one more after each pause.
const BURST: u32 = 4;
const PAUSE: Duration = Duration::from_secs(15);

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("failed to read the file of keys")]
    File(#[from] std::io::Error),
    #[error("what the issuer says of itself is not understood")]
    Discovery(#[source] serde_json::Error),
    #[error("the issuer says that it is `{0}`")]
    OtherIssuer(String),
    #[error("the issuer's `jwks_uri`: {0}")]
    Place(String),
    #[error("the keys cannot be used")]
    Keys(#[from] BadKeys),
}

/// Asked for a look by whoever meets an unknown key.
#[derive(Clone)]
pub(crate) struct KeyKeeper(Arc<Wanted>);

struct Wanted {
    bell: Notify,
    allowance: Mutex<Allowance>,
}

/// How many looks may be asked for. Pure.
struct Allowance {
    left: u32,
    since: Instant,
    under_way: bool,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            left: BURST,
            since: now,
            under_way: false,
        }
    }

    /// Whether a look is under way from now on.
    fn ask(&mut self, now: Instant) -> bool {
        if self.under_way {
            return true;
        }
        let earned = now.saturating_duration_since(self.since).as_secs() / PAUSE.as_secs();
        if earned > 0 {
            self.left = self
                .left
                .saturating_add(u32::try_from(earned).unwrap_or(u32::MAX))
                .min(BURST);
            self.since = now;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.under_way = true;
        true
    }
}

impl KeyKeeper {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Wanted {
            bell: Notify::new(),
            allowance: Mutex::new(Allowance::new(Instant::now())),
        }))
    }

    /// Whether keys are being looked for.
    pub(crate) fn ask(&self) -> bool {
        let asked = self.allowance().ask(Instant::now());
        if asked {
            self.0.bell.notify_one();
        }
        asked
    }

    fn allowance(&self) -> std::sync::MutexGuard<'_, Allowance> {
        // Plain numbers are whole whoever panicked.
        self.0
            .allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Until the end of the runtime.
    pub(crate) async fn run(self, oidc: Oidc, gate: Gate) {
        let fetcher = Fetcher::new(is_secure(&oidc)).await;
        let mut keys = Arc::<Keys>::default();
        loop {
            let next = match look(&oidc, &fetcher, keys.generation() + 1).await {
                Ok(found) => {
                    if !found.same_as(&keys) {
                        keys = Arc::new(found);
                        publish_keys(&gate, &keys);
                        info!(
                            issuer = oidc.issuer.issuer,
                            keys = keys.len(),
                            "the issuer's keys are known"
                        );
                    }
                    EVERY
                }
                Err(error) => {
                    let error = crate::chain(&error);
                    let kept = keys.len();
                    warn!(
                        issuer = oidc.issuer.issuer,
                        error, kept, "the issuer's keys cannot be read: those that are known hold"
                    );
                    RETRY
                }
            };
            self.allowance().under_way = false;
            gate.looked();
            // Either way it is time to look.
            let _either_way = timeout(next, self.0.bell.notified()).await;
        }
    }
}

fn is_secure(oidc: &Oidc) -> bool {
    match &oidc.keys {
        KeySource::File(_) => false,
        KeySource::Url(target) => target.is_secure(),
        // Keys may be elsewhere than what tells of them.
        KeySource::Discovery(_) => true,
    }
}

async fn look(oidc: &Oidc, fetcher: &Fetcher, generation: u64) -> Result<Keys, LookError> {
    let json = match &oidc.keys {
        KeySource::File(path) => tokio::fs::read(path).await?.into(),
        KeySource::Url(target) => fetcher.get(target).await?,
        KeySource::Discovery(target) => {
            let said = fetcher.get(target).await?;
            fetcher
                .get(&discovered(&said, &oidc.issuer.issuer)?)
                .await?
        }
    };
    Ok(Keys::parse(&json, generation)?)
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Where the keys are, in what an issuer says of itself (OpenID Connect Discovery, 4.3).
fn discovered(json: &[u8], issuer: &str) -> Result<Target, LookError> {
    let said: Discovered = serde_json::from_slice(json).map_err(LookError::Discovery)?;
    if said.issuer != issuer {
        let shown = said
            .issuer
            .chars()
            .take(200)
            .flat_map(char::escape_debug)
            .collect();
        return Err(LookError::OtherIssuer(shown));
    }
    crate::config::reachable(&said.jwks_uri).map_err(LookError::Place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_makes_us_look_for_keys_all_the_time() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        let mut ask = |after: u64| {
            let asked = allowance.ask(begin + Duration::from_secs(after));
            allowance.under_way = false;
            asked
        };
        assert!((0..BURST).all(|_| ask(0)));
        assert!(!ask(0) && !ask(14));
        assert!(ask(15) && !ask(15));
        let many = (0..100).filter(|_| ask(10_000)).count();
        assert_eq!(many, BURST as usize);
    }

    #[test]
    fn those_who_ask_while_we_look_wait_for_the_same_look() {
        let begin = Instant::now();
        let mut allowance = Allowance::new(begin);
        assert!((0..1000).all(|_| allowance.ask(begin)));
        assert_eq!(allowance.left, BURST - 1);
    }

    #[test]
    fn an_issuer_speaks_for_itself_alone_and_sends_us_nowhere_unsafe() {
        let said = |issuer: &str, keys: &str| {
            let json = serde_json::json!({ "issuer": issuer, "jwks_uri": keys }).to_string();
            discovered(json.as_bytes(), "https://me").map(|target| target.to_string())
        };
        assert!(said("https://me", "https://me/keys").is_ok());
        assert!(matches!(
            said("https://you", "https://me/keys"),
            Err(LookError::OtherIssuer(_))
        ));
        assert!(matches!(
            said("https://me", "http://me/keys"),
            Err(LookError::Place(_))
        ));
        assert!(matches!(
            discovered(b"[]", "https://me"),
            Err(LookError::Discovery(_))
        ));
    }
}
