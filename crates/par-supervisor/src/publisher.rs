//! Makes known what the fleet decided: routes for the gateway, a snapshot for everybody else. Only what has changed is
//! made anew.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use par_access::{AgentRules, Rules};
use par_gateway::{Backend, Bell, RouteTable, Targets};
use par_lifecycle::{AgentStatus, Fleet, Route};
use par_model::{AgentId, ReplicaId, SessionId};
use tokio::sync::watch;

use crate::access::publish_rules;
use crate::catalog::Catalog;
use crate::snapshot::{Known, Snapshot, Told};

pub(crate) struct Publisher {
    routes: par_gateway::Routes,
    gate: par_gateway::Gate,
    /// Of agents that have any.
    rules: BTreeMap<AgentId, AgentRules>,
    published: HashMap<AgentId, Route>,
    backends: HashMap<ReplicaId, Arc<Backend>>,
    /// Of agents that sleep, or are being woken.
    bells: HashMap<AgentId, Arc<Bell>>,
    snapshots: watch::Sender<Arc<Snapshot>>,
    told: HashMap<ReplicaId, Told>,
}

impl Publisher {
    pub(crate) fn new(
        routes: par_gateway::Routes,
        gate: par_gateway::Gate,
        snapshots: watch::Sender<Arc<Snapshot>>,
    ) -> Self {
        Self {
            routes,
            gate,
            rules: BTreeMap::new(),
            published: HashMap::new(),
            backends: HashMap::new(),
            bells: HashMap::new(),
            snapshots,
            told: HashMap::new(),
        }
    }

    /// An incarnation may be routed to from now on.
    pub(crate) fn begin(&mut self, agent: &AgentId, replica: ReplicaId, socket: PathBuf) {
        let backends = self.backends.entry(replica);
        // One that is routed to already counts its calls.
        backends.or_insert_with(|| Backend::new(agent, replica, socket));
    }

    /// Calls of these sessions go there, whichever other replicas there are.
    pub(crate) fn has_sessions(&self, replica: ReplicaId, sessions: &[SessionId]) {
        if let Some(backend) = self.backends.get(&replica) {
            for session in sessions {
                backend.has_session_named(session.as_str());
            }
        }
    }

    pub(crate) fn told(&mut self, replica: ReplicaId) -> &mut Told {
        self.told.entry(replica).or_default()
    }

    pub(crate) fn over(&mut self, replica: ReplicaId) {
        self.backends.remove(&replica);
        self.told.remove(&replica);
    }

    /// Ends when no call that came before is left at an incarnation.
    pub(crate) fn quiet(&self, replica: ReplicaId) -> impl Future<Output = ()> + 'static {
        let backend = self.backends.get(&replica).cloned();
        async move {
            if let Some(backend) = backend {
                backend.quiet().await;
            }
        }
    }

    /// Before routes: no call passes that the agent's rules would not let pass.
    pub(crate) fn publish_rules(
        &mut self,
        fleet: &Fleet,
        catalog: &Catalog,
        changed: &BTreeSet<AgentId>,
    ) {
        let before = self.rules.clone();
        for agent in changed {
            let rules = fleet
                .agent(agent)
                .map(|status| rules_of(agent, &status, catalog));
            match rules.filter(|rules| *rules != AgentRules::default()) {
                Some(rules) => drop(self.rules.insert(agent.clone(), rules)),
                None => drop(self.rules.remove(agent)),
            }
        }
        if self.rules != before {
            let rules: Rules = self.rules.clone().into_iter().collect();
            publish_rules(&self.gate, &Arc::new(rules));
        }
    }

    pub(crate) fn publish_routes(&mut self, fleet: &Fleet, changed: &BTreeSet<AgentId>) {
        let route_of = |agent: &AgentId| fleet.agent(agent).map(|status| status.route);
        let news: Vec<(AgentId, Option<Route>)> = changed
            .iter()
            .map(|agent| (agent.clone(), route_of(agent)))
            .filter(|(agent, route)| self.published.get(agent) != route.as_ref())
            .collect();
        if news.is_empty() {
            return;
        }
        let routes = self.routes.clone();
        routes.change(|table| {
            for (agent, route) in news {
                self.set(table, agent, route);
            }
        });
    }

    /// Nobody brings up anything for this process any more: whoever waits here asks better again, and elsewhere.
    pub(crate) fn send_away(&self) {
        let awaited = |(agent, route): (&AgentId, &Route)| match route {
            Route::Soon | Route::Asleep => Some(agent.clone()),
            Route::Ready(_) | Route::Down => None,
        };
        let awaited: Vec<AgentId> = self.published.iter().filter_map(awaited).collect();
        self.routes.change(|table| {
            for agent in &awaited {
                table.set(agent, par_gateway::Route::Down);
            }
        });
    }

    /// For an agent that still sleeps.
    pub(crate) fn renew_bell(&mut self, agent: &AgentId) {
        if self.published.get(agent) != Some(&Route::Asleep) {
            return;
        }
        let routes = self.routes.clone();
        routes.change(|table| self.set(table, agent.clone(), Some(Route::Asleep)));
    }

    fn set(&mut self, table: &mut RouteTable, agent: AgentId, route: Option<Route>) {
        let Some(route) = route else {
            self.bells.remove(&agent);
            self.published.remove(&agent);
            return table.remove(&agent);
        };
        table.set(&agent, self.made(&agent, &route));
        self.published.insert(agent, route);
    }

    fn made(&mut self, agent: &AgentId, route: &Route) -> par_gateway::Route {
        // Those who call while it wakes wait as long as whoever woke it.
        if let (Route::Soon, Some(bell)) = (route, self.bells.get(agent)) {
            return par_gateway::Route::Asleep(Arc::clone(bell));
        }
        if *route == Route::Asleep {
            let bell = Bell::new();
            self.bells.insert(agent.clone(), Arc::clone(&bell));
            return par_gateway::Route::Asleep(bell);
        }
        self.bells.remove(agent);
        match route {
            Route::Ready(targets) => par_gateway::Route::Ready(self.targets(targets)),
            Route::Soon => par_gateway::Route::Soon,
            Route::Asleep | Route::Down => par_gateway::Route::Down,
        }
    }

    fn targets(&self, targets: &par_lifecycle::Targets) -> Arc<Targets> {
        let backends = |replicas: &[ReplicaId]| {
            let known = replicas.iter().filter_map(|it| self.backends.get(it));
            known.cloned().collect::<Vec<_>>()
        };
        let groups = targets.groups.iter();
        Targets::new(
            groups
                .map(|(share, replicas)| (*share, backends(replicas)))
                .collect(),
            backends(&targets.leaving),
        )
    }

    pub(crate) fn publish_snapshot(
        &mut self,
        fleet: &Fleet,
        catalog: &Catalog,
        changed: &BTreeSet<AgentId>,
        unsaved: Option<&String>,
    ) {
        if changed.is_empty() && self.snapshots.borrow().unsaved.as_ref() == unsaved {
            return;
        }
        let mut snapshot = Snapshot::clone(&self.snapshots.borrow());
        snapshot.generation += 1;
        snapshot.unsaved = unsaved.cloned();
        for agent in changed {
            snapshot.workers.retain(|_, owner| owner != agent);
            match fleet.agent(agent) {
                Some(status) => self.know(&mut snapshot, catalog, agent, status),
                None => drop(snapshot.agents.remove(agent)),
            }
        }
        self.snapshots.send_replace(Arc::new(snapshot));
    }

    fn know(
        &self,
        snapshot: &mut Snapshot,
        catalog: &Catalog,
        agent: &AgentId,
        status: AgentStatus,
    ) {
        let Some(made) = status
            .replicas
            .first()
            .and_then(|replica| catalog.get(agent, replica.release))
        else {
            return;
        };
        let living: Vec<_> = status.incarnations().collect();
        let pids = living.iter().filter_map(|it| it.pid);
        snapshot
            .workers
            .extend(pids.map(|pid| (pid, agent.clone())));
        let told = |replica: ReplicaId| Some((replica, self.told.get(&replica)?.clone()));
        let known = Known {
            told: living.iter().filter_map(|it| told(it.replica)).collect(),
            made: Arc::clone(made),
            status,
        };
        snapshot.agents.insert(agent.clone(), Arc::new(known));
    }
}

/// What the release that takes the calls says; of roles, what one that gets some of them says, if the other says nothing.
fn rules_of(agent: &AgentId, status: &AgentStatus, catalog: &Catalog) -> AgentRules {
    let current = status.replicas.first().map(|replica| replica.release);
    let incoming = status.incoming.as_ref().map(|incoming| incoming.release);
    let options = |release| Some(&catalog.get(agent, release)?.options);
    let roles = |release| options(release)?.role_required.as_ref();
    let required = current.and_then(roles).filter(|roles| !roles.is_empty());
    let required = required.or_else(|| incoming.and_then(roles));
    let calls = current
        .and_then(options)
        .and_then(|options| options.calls.as_ref());
    AgentRules {
        roles: required.into_iter().flatten().cloned().collect(),
        calls: calls.map(|calls| calls.iter().cloned().collect()),
    }
}
