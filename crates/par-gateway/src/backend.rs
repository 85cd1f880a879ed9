//! One incarnation of an agent, as the calls that it is given see it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use std::time::{Duration, Instant};

use http::HeaderValue;
use par_model::{AgentId, ReplicaId};
use tokio::sync::Notify;

use crate::session::{Known, SessionKey};

/// How long calls prefer others after a connection could not be made.
const SHUNNED: Duration = Duration::from_millis(250);

static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Made once, and published until that incarnation is withdrawn.
#[derive(Debug)]
pub struct Backend {
    agent: AgentId,
    replica: ReplicaId,
    socket: PathBuf,
    prefix: HeaderValue,
    in_flight: AtomicUsize,
    sessions: Known,
    /// Until when it is shunned, in milliseconds since [`BEGINNING`]; 0 is the usual.
    shunned_until: AtomicU64,
    is_awaited: AtomicBool,
    quiet: Notify,
}

impl Backend {
    /// `socket` is where the worker of `replica` listens. A path may be used again by a later incarnation only
    /// after a table without this one was published.
    pub fn new(agent: &AgentId, replica: ReplicaId, socket: PathBuf) -> Arc<Self> {
        let prefix = HeaderValue::try_from(format!("/agents/{agent}"))
            .expect("an agent id is made of header value characters");
        Arc::new(Self {
            agent: agent.clone(),
            replica,
            socket,
            prefix,
            in_flight: AtomicUsize::new(0),
            sessions: Known::default(),
            shunned_until: AtomicU64::new(0),
            is_awaited: AtomicBool::new(false),
            quiet: Notify::new(),
        })
    }

    pub fn agent(&self) -> &AgentId {
        &self.agent
    }

    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Calls that were given to it and are not yet over, tunnels included.
    ///
    /// Once a table was published that does not name this backend, and this is 0, no call will ever reach it again.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Waits until it has no call in flight.
    pub async fn quiet(&self) {
        self.is_awaited.store(true, Ordering::SeqCst);
        loop {
            let quiet = self.quiet.notified();
            if self.in_flight() == 0 {
                return;
            }
            quiet.await;
        }
    }

    /// The sessions that it was given, for the gateway of a process that takes over from this one.
    pub fn sessions(&self) -> Vec<u64> {
        self.sessions.all()
    }

    /// What [`Backend::sessions`] said in the process before.
    pub fn adopt_sessions(&self, sessions: impl IntoIterator<Item = u64>) {
        self.sessions.adopt(sessions);
    }

    /// A session that its replica says it has.
    pub fn has_session_named(&self, name: &str) {
        self.keep(SessionKey::of(name.as_bytes()));
    }

    /// The path under which callers reach the agent.
    pub(crate) fn prefix(&self) -> &HeaderValue {
        &self.prefix
    }

    pub(crate) fn has(&self, session: SessionKey) -> bool {
        self.sessions.has(session)
    }

    /// From now on calls of the session come here.
    pub(crate) fn keep(&self, session: SessionKey) {
        self.sessions.keep(session);
    }

    pub(crate) fn begin_call(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        // Whoever publishes a table and then sees no call in flight must be seen by the call, which looks at the table
        // again after this.
        fence(Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    /// A connection could not be made.
    pub(crate) fn shun(&self) {
        let until = BEGINNING.elapsed() + SHUNNED;
        let until = u64::try_from(until.as_millis()).unwrap_or(u64::MAX);
        self.shunned_until.store(until.max(1), Ordering::Relaxed);
    }

    pub(crate) fn is_shunned(&self) -> bool {
        let until = self.shunned_until.load(Ordering::Relaxed);
        until > 0 && BEGINNING.elapsed() < Duration::from_millis(until)
    }
}

/// One call that its backend works on, until dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Backend>);

impl Drop for InFlight {
    fn drop(&mut self) {
        let before = self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
        if before == 1 && self.0.is_awaited.load(Ordering::SeqCst) {
            self.0.quiet.notify_waiters();
        }
    }
}

impl InFlight {
    pub(crate) fn backend(&self) -> &Arc<Backend> {
        &self.0
    }
}
