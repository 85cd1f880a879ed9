//! Where agents are, as published: a snapshot that calls read without a lock, and news of the next one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use arc_swap::ArcSwap;
use par_door::Account;
use par_model::{AgentId, ReplicaId};
use par_telemetry::metrics::Tally;
use tokio::sync::watch;

use crate::backend::{Backend, InFlight};
use crate::figures::Figures;
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
pub struct RouteTable(HashMap<Arc<str>, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    route: Route,
    /// The same as long as the agent is known.
    figures: Arc<Figures>,
}

impl From<Route> for Entry {
    fn from(route: Route) -> Self {
        Self {
            route,
            figures: Arc::default(),
        }
    }
}

impl RouteTable {
    pub fn get(&self, agent: &str) -> Option<&Route> {
        self.0.get(agent).map(|entry| &entry.route)
    }

    pub fn set(&mut self, agent: &AgentId, route: Route) {
        match self.0.get_mut(agent.as_str()) {
            Some(known) => known.route = route,
            None => {
                self.0.insert(agent.as_str().into(), route.into());
            }
        }
    }

    pub fn remove(&mut self, agent: &AgentId) {
        self.0.remove(agent.as_str());
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &Route)> {
        self.0.iter().map(|(agent, entry)| (&**agent, &entry.route))
    }

    pub(crate) fn figures(&self) -> impl Iterator<Item = (&str, &Figures)> {
        self.0
            .iter()
            .map(|(agent, entry)| (&**agent, &*entry.figures))
    }

    fn figures_of(&self, agent: &str) -> Option<&Arc<Figures>> {
        self.0.get(agent).map(|entry| &entry.figures)
    }

    /// Goes on to count where an earlier table did.
    fn count_on(&mut self, earlier: &Self) {
        for (agent, entry) in &mut self.0 {
            if let Some(figures) = earlier.figures_of(agent) {
                entry.figures = Arc::clone(figures);
            }
        }
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
                .map(|(agent, route)| (agent.as_str().into(), route.into()))
                .collect(),
        )
    }
}

/// A handle on the published table; its clones are the same table.
#[derive(Clone, Debug)]
pub struct Routes {
    table: Arc<ArcSwap<RouteTable>>,
    /// Of calls to agents that there are not.
    nobodys: Arc<Figures>,
    news: watch::Sender<()>,
}

impl Default for Routes {
    fn default() -> Self {
        Self {
            table: Arc::default(),
            nobodys: Arc::default(),
            news: watch::Sender::new(()),
        }
    }
}

impl Routes {
    /// Every call that begins after this returns sees the new table; calls that wait look again.
    pub fn publish(&self, mut table: RouteTable) {
        table.count_on(&self.peek());
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

    /// A call to a backend of `table`; none if another table was published meanwhile: whoever withdrew the backend may
    /// not have seen the call.
    pub(crate) fn begin_call(
        &self,
        table: &Arc<RouteTable>,
        backend: &Arc<Backend>,
    ) -> Option<InFlight> {
        let call = backend.begin_call();
        Arc::ptr_eq(table, &self.peek()).then_some(call)
    }

    pub(crate) fn nobodys_figures(&self) -> &Figures {
        &self.nobodys
    }

    /// Where calls of an agent are counted.
    pub(crate) fn figures_of(&self, agent: &str) -> Arc<Figures> {
        let table = self.peek();
        Arc::clone(table.figures_of(agent).unwrap_or(&self.nobodys))
    }

    /// What callers together have of an agent.
    pub(crate) fn account_of(&self, agent: &str) -> Arc<Account> {
        let table = self.peek();
        let figures = table.figures_of(agent).unwrap_or(&self.nobodys);
        Arc::clone(&figures.account)
    }

    /// Counts an HTTP call from now on.
    pub(crate) fn count_http(&self, agent: &str) -> Tally {
        let table = self.peek();
        Tally::begin(&table.figures_of(agent).unwrap_or(&self.nobodys).http)
    }

    /// Counts a gRPC call from now on; none if it names no agent.
    pub(crate) fn count_grpc(&self, agent: Option<&str>) -> Tally {
        let table = self.peek();
        let figures = agent.and_then(|agent| table.figures_of(agent));
        Tally::begin(&figures.unwrap_or(&self.nobodys).grpc)
    }

    /// Resolves with every table that is published after this call.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Picked;
    use std::sync::atomic::AtomicU64;
    use std::thread;

    const ROUNDS: u64 = 20_000;

    /// Calls as long as there are rounds; none may reach a backend that was withdrawn and seen without a call.
    fn call_on(routes: &Routes, ended: &AtomicU64) {
        while ended.load(Ordering::SeqCst) < ROUNDS {
            let table = routes.peek();
            let Some(Route::Ready(targets)) = table.get("a") else {
                continue;
            };
            let Picked::One(backend) = targets.pick(None, &[]) else {
                continue;
            };
            if let Some(call) = routes.begin_call(&table, backend) {
                assert!(call.backend().replica().0 > ended.load(Ordering::SeqCst));
            }
        }
    }

    #[test]
    fn no_call_reaches_a_backend_that_was_withdrawn_and_had_none() {
        let (routes, ended) = (Routes::default(), AtomicU64::new(0));
        let agent: AgentId = "a".parse().expect("an id");
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| call_on(&routes, &ended));
            }
            for round in 1..=ROUNDS {
                let backend = Backend::new(&agent, ReplicaId(round), "/nowhere".into());
                let targets = Targets::one(Arc::clone(&backend));
                routes.change(|table| table.set(&agent, Route::Ready(targets)));
                routes.change(|table| table.set(&agent, Route::Soon));
                while backend.in_flight() > 0 {
                    thread::yield_now();
                }
                ended.store(round, Ordering::SeqCst);
            }
        });
    }
}
