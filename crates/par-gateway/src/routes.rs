//! Where agents are, as published: a snapshot that calls read without a lock, and news of the next one.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use http::HeaderValue;
use par_model::{AgentId, ReplicaId};
use tokio::sync::watch;

/// What a call to an agent meets.
#[derive(Clone, Debug)]
pub enum Route {
    Ready(Arc<Backend>),
    /// None is ready, but one is expected within moments: calls wait for it.
    Soon,
    /// The agent is known, and nothing will answer soon.
    Down,
}

/// One incarnation of an agent. Made once, and published until that incarnation is withdrawn.
#[derive(Debug)]
pub struct Backend {
    replica: ReplicaId,
    socket: PathBuf,
    prefix: HeaderValue,
    in_flight: AtomicUsize,
}

impl Backend {
    /// `socket` is where the worker of `replica` listens. A path may be used again by a later incarnation only
    /// after a table without this one was published.
    pub fn new(agent: &AgentId, replica: ReplicaId, socket: PathBuf) -> Arc<Self> {
        let prefix = HeaderValue::try_from(format!("/agents/{agent}"))
            .expect("an agent id is made of header value characters");
        Arc::new(Self {
            replica,
            socket,
            prefix,
            in_flight: AtomicUsize::new(0),
        })
    }

    pub fn replica(&self) -> ReplicaId {
        self.replica
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Calls that were given to it and are not yet over, tunnels included.
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// The path under which callers reach the agent.
    pub(crate) fn prefix(&self) -> &HeaderValue {
        &self.prefix
    }

    pub(crate) fn begin_call(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// One call that its backend works on, until dropped.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Backend>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// All agents that are deployed. An agent that is missing here is not known.
#[derive(Clone, Debug, Default)]
pub struct RouteTable(HashMap<AgentId, Route>);

impl RouteTable {
    pub fn get(&self, agent: &str) -> Option<&Route> {
        self.0.get(agent)
    }

    pub(crate) fn leads(&self, agent: &str, replica: ReplicaId) -> bool {
        matches!(self.get(agent), Some(Route::Ready(backend)) if backend.replica == replica)
    }

    pub(crate) fn leads_to(&self, replica: ReplicaId) -> bool {
        self.0
            .values()
            .any(|route| matches!(route, Route::Ready(backend) if backend.replica == replica))
    }
}

impl FromIterator<(AgentId, Route)> for RouteTable {
    fn from_iter<I: IntoIterator<Item = (AgentId, Route)>>(routes: I) -> Self {
        Self(routes.into_iter().collect())
    }
}

/// A handle on the published table; its clones are the same table.
#[derive(Clone, Debug)]
pub struct Routes {
    table: Arc<ArcSwap<RouteTable>>,
    news: watch::Sender<()>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            news: watch::Sender::new(()),
        }
    }
}

impl Routes {
    /// Every call that begins after this returns sees the new table; calls that wait look again.
    pub fn publish(&self, table: RouteTable) {
        self.table.store(Arc::new(table));
        self.news.send_replace(());
    }

    pub fn load(&self) -> Arc<RouteTable> {
        self.table.load_full()
    }

    pub(crate) fn peek(&self) -> arc_swap::Guard<Arc<RouteTable>> {
        self.table.load()
    }

    /// Resolves with every table that is published after this call.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}
