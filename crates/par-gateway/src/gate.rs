//! Who may pass, as published: a snapshot that every request is held against before anything is looked up for it.

use std::cell::RefCell;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, HeaderValue};
use par_access::{Access, Action, BadJwt, Caller, Unidentified, Verified};
use par_model::{CallError, headers};
use tokio::sync::watch;
use tokio::time::timeout;

use crate::control::Peer;

const OWN: HeaderName = HeaderName::from_static(headers::AUTHORIZATION);
const X_REQUEST_ID: HeaderName = HeaderName::from_static(headers::REQUEST_ID);

/// How long a call waits for keys that may have its own among them.
const KEYS_PATIENCE: Duration = Duration::from_secs(6);

/// Longest name of a request, or of what it asked for, that is told on.
const LONGEST_TOLD: usize = 200;

/// A handle on the published snapshot; its clones are the same one.
#[derive(Clone)]
pub struct Gate {
    access: Arc<ArcSwap<Access>>,
    /// How often keys were looked for, with or without success.
    looked: watch::Sender<u64>,
    hooks: Arc<Hooks>,
}

/// What the gate does not do itself. Neither may block.
struct Hooks {
    told: Box<dyn Fn(Decided) + Send + Sync>,
    want_keys: Box<dyn Fn() -> bool + Send + Sync>,
}

/// A decision that may be worth to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub caller: String,
    pub address: Option<IpAddr>,
    pub action: &'static str,
    /// An agent as it was asked for, or method and path.
    pub target: String,
    pub allowed: bool,
    /// Of an action that changes something.
    pub is_change: bool,
    pub reason: String,
    pub request_id: Option<String>,
}

impl Gate {
    /// Everything is allowed, and nobody hears of it.
    pub fn open() -> Self {
        Self::new(Access::open(), |_| {}, || false)
    }

    /// `told` hears of decisions. `want_keys` is asked for new keys of the issuer, and says whether they are being
    /// looked for; [`Gate::looked`] says when that is over.
    pub fn new(
        access: Access,
        told: impl Fn(Decided) + Send + Sync + 'static,
        want_keys: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        Self {
            access: Arc::new(ArcSwap::from_pointee(access)),
            looked: watch::Sender::new(0),
            hooks: Arc::new(Hooks {
                told: Box::new(told),
                want_keys: Box::new(want_keys),
            }),
        }
    }

    /// Publishes a changed copy: every request that begins after this returns is held against it.
    pub fn change(&self, change: impl Fn(&mut Access)) {
        self.access.rcu(|before| {
            let mut access = Access::clone(before);
            change(&mut access);
            access
        });
    }

    pub fn load(&self) -> Arc<Access> {
        self.access.load_full()
    }

    /// Calls that wait for keys look again.
    pub fn looked(&self) {
        self.looked.send_modify(|rounds| *rounds += 1);
    }

    /// Whether the caller may; what of the headers was for us is gone afterwards.
    pub(crate) async fn admit(
        &self,
        asker: &Asker<'_>,
        asked: &Asked<'_>,
        headers: &mut HeaderMap,
    ) -> Result<(), CallError> {
        let found = match has_credentials(headers) {
            false => self.look(asker, None),
            true => self.read(asker, asked, headers).await,
        };
        if asked.action == Action::CheckLiveness {
            return Ok(());
        }
        let caller = found.map_err(|unknown| {
            self.tell(
                asker,
                asked,
                headers,
                "nobody".to_owned(),
                Err(unknown.reason()),
            );
            unknown.to_error()
        })?;
        match self.access.load().decide(&caller, asked.action) {
            Ok(()) if asked.is_kept_if_allowed(asker) => {
                self.tell(asker, asked, headers, caller.to_string(), Ok(()));
                Ok(())
            }
            Ok(()) => Ok(()),
            Err(denial) => {
                let (caller, error) = (caller.to_string(), denial.to_error());
                self.tell(asker, asked, headers, caller, Err(denial.reason));
                Err(error)
            }
        }
    }

    /// Takes out of the headers what is for us.
    async fn read(
        &self,
        asker: &Asker<'_>,
        asked: &Asked<'_>,
        headers: &mut HeaderMap,
    ) -> Result<Arc<Caller>, Unidentified> {
        let own = taken(headers, OWN);
        let lines = headers.get_all(AUTHORIZATION).into_iter();
        let lines: Vec<HeaderValue> = lines.cloned().collect();
        let presented = {
            let access = self.access.load();
            let issuer = access.issuer.as_ref().map(|issuer| issuer.issuer.as_str());
            let to_agent = matches!(asked.action, Action::Call(_));
            let bytes = HeaderValue::as_bytes;
            par_access::presented(
                own.iter().map(bytes),
                lines.iter().map(bytes),
                to_agent,
                issuer,
            )
        };
        // A token of ours goes on to nobody, whatever becomes of it.
        let is_ours = |line: &HeaderValue| par_access::is_our_token(line.as_bytes());
        let was_for_us = presented.as_ref().is_ok_and(|it| it.takes_authorization);
        if was_for_us || lines.iter().any(is_ours) {
            headers.remove(AUTHORIZATION);
        }
        let credential = match asker.who {
            Who::Agent(_) => None,
            Who::Outside { .. } => presented.map_err(Unidentified::Malformed)?.credential,
        };
        match self.look(asker, credential) {
            Err(Unidentified::Jwt(BadJwt::UnknownKey)) => {
                self.look_for_keys().await;
                self.look(asker, credential)
            }
            found => found,
        }
    }

    /// Ends when new keys were looked for, at once if they are not to be.
    async fn look_for_keys(&self) {
        // Subscribed before they are asked for: no news are missed.
        let mut looked = self.looked.subscribe();
        if (self.hooks.want_keys)() {
            // Either way the keys that there are decide.
            let _either_way = timeout(KEYS_PATIENCE, looked.changed()).await;
        }
    }

    fn look(
        &self,
        asker: &Asker<'_>,
        credential: Option<&str>,
    ) -> Result<Arc<Caller>, Unidentified> {
        let certificate = match asker.who {
            // No header changes who an agent is.
            Who::Agent(agent) => return Ok(Arc::clone(agent)),
            Who::Outside { certificate, .. } => certificate.as_deref(),
        };
        let access = self.access.load();
        match credential {
            None => access.identify_silent(certificate),
            Some(credential) => {
                access.identify(credential, &mut asker.verified.borrow_mut(), now_ms())
            }
        }
    }

    fn tell(
        &self,
        asker: &Asker<'_>,
        asked: &Asked<'_>,
        headers: &HeaderMap,
        caller: String,
        decision: Result<(), String>,
    ) {
        let id = headers.get(X_REQUEST_ID).and_then(|id| id.to_str().ok());
        (self.hooks.told)(Decided {
            caller,
            address: match asker.who {
                Who::Outside { address, .. } => Some(*address),
                Who::Agent(_) => None,
            },
            action: asked.action.word(),
            target: told(&asked.target()),
            allowed: decision.is_ok(),
            is_change: asked.action.is_change(),
            reason: decision.err().unwrap_or_else(|| "allowed".to_owned()),
            request_id: id.map(told),
        });
    }
}

/// What the connection itself tells of who is at its other end.
pub(crate) enum Who {
    Outside {
        address: IpAddr,
        certificate: Option<Arc<str>>,
    },
    Agent(Arc<Caller>),
}

impl From<&Peer> for Who {
    fn from(peer: &Peer) -> Self {
        match peer {
            Peer::Internal(agent) => Self::Agent(Arc::new(Caller::Agent(agent.clone()))),
            Peer::Public {
                address,
                certificate,
            } => Self::Outside {
                address: address.ip().to_canonical(),
                certificate: certificate.clone(),
            },
        }
    }
}

/// Who asks.
pub(crate) struct Asker<'a> {
    pub(crate) who: &'a Who,
    pub(crate) verified: &'a RefCell<Verified>,
    pub(crate) audits_calls: bool,
}

/// What is asked for.
pub(crate) struct Asked<'a> {
    pub(crate) action: Action<'a>,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
}

impl Asked<'_> {
    fn target(&self) -> String {
        match self.action {
            Action::Call(agent) => agent.to_owned(),
            _ => format!("{} {}", self.method, self.path),
        }
    }

    fn is_kept_if_allowed(&self, asker: &Asker<'_>) -> bool {
        self.action.is_change() || asker.audits_calls && matches!(self.action, Action::Call(_))
    }
}

fn has_credentials(headers: &HeaderMap) -> bool {
    headers.contains_key(AUTHORIZATION) || headers.contains_key(OWN)
}

fn taken(headers: &mut HeaderMap, name: HeaderName) -> Vec<HeaderValue> {
    let taken = headers.get_all(&name).into_iter().cloned().collect();
    headers.remove(name);
    taken
}

fn told(words: &str) -> String {
    words
        .chars()
        .take(LONGEST_TOLD)
        .flat_map(char::escape_debug)
        .collect()
}

fn now_ms() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
