//! Where agents are, as published: a snapshot that calls read without a lock, and news of the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use arc_swap::ArcSwap;
use par_model::{AgentId, ReplicaId};
use tokio::sync::watch;

use crate::targets::Targets;

/// What a call to an agent meets.
#[derive(Clone, Debug)]
pub enum Route {
    Ready(Arc<Targets>),
    /// None is ready, but one is expected within moments: calls wait for it.
    Soon,
    /// Stopped because nobody called: the first call rings, and all wait. The bell stays published until the agent is
    /// ready, so that those who come later wait as long as the first.
    Asleep(Arc<Bell>),
    /// The agent is known, and nothing will answer soon.
    Down,
}

/// Wakes an agent, once. Made for each sleep anew.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
}

impl Bell {
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether a call has come.
    pub fn has_rung(&self) -> bool {
        self.rung.load(Ordering::Acquire)
    }

    /// True for the first one only.
    pub(crate) fn ring(&self) -> bool {
        !self.has_rung() && !self.rung.swap(true, Ordering::AcqRel)
    }
}

/// All agents that are deployed. An agent that is missing here is not known. A copy shares what does not change.
#[derive(Clone, Debug, Default)]
pub struct RouteTable(HashMap<Arc<str>, Route>);

impl RouteTable {
    pub fn get(&self, agent: &str) -> Option<&Route> {
        self.0.get(agent)
    }

    pub fn set(&mut self, agent: &AgentId, route: Route) {
        match self.0.get_mut(agent.as_str()) {
            Some(known) => *known = route,
            None => {
                self.0.insert(agent.as_str().into(), route);
            }
        }
    }

    pub fn remove(&mut self, agent: &AgentId) {
        self.0.remove(agent.as_str());
    }

    pub(crate) fn leads(&self, agent: &str, replica: ReplicaId) -> bool {
        let Some(Route::Ready(targets)) = self.get(agent) else {
            return false;
        };
        targets
            .backends()
            .any(|backend| backend.replica() == replica)
    }
}

impl FromIterator<(AgentId, Route)> for RouteTable {
    fn from_iter<I: IntoIterator<Item = (AgentId, Route)>>(routes: I) -> Self {
        let routes = routes.into_iter();
        Self(
            routes
                .map(|(agent, route)| (agent.as_str().into(), route))
                .collect(),
        )
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
        // See `Backend::begin_call`.
        fence(Ordering::SeqCst);
        self.news.send_replace(());
    }

    /// Publishes a changed copy of the table. One at a time: of two at once the later would undo the earlier.
    pub fn change(&self, change: impl FnOnce(&mut RouteTable)) {
        let mut table = RouteTable::clone(&self.peek());
        change(&mut table);
        self.publish(table);
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
