//! Performs: starts workers, takes over those of an earlier life, tells them, ends them. Every incarnation has one task
//! that owns its process and ends in one event.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_model::log::Level;
use par_model::{AgentId, ReplicaId};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::warn;

use crate::adoption::Found;
use crate::allowances::Allowances;
use crate::catalog::Made;
use crate::egress_tally::EgressTally;
use crate::gone::Gone;
use crate::incarnation::Incarnation;
use crate::limits::LimitDefaults;
use crate::logs::{LogStore, line_of_ours};
use crate::message::Message;
use crate::orders::{self, Order, Orders};
use crate::state::StateFolder;

pub(crate) struct Effects {
    ground: Rc<Ground>,
    incarnations: HashMap<ReplicaId, watch::Sender<Orders>>,
    tasks: JoinSet<()>,
}

/// What all incarnations stand on.
pub(crate) struct Ground {
    pub(crate) state: StateFolder,
    /// Where agents have their own ports.
    pub(crate) host: std::net::IpAddr,
    pub(crate) own_ports: par_model::control::OwnPorts,
    pub(crate) url: String,
    pub(crate) python: Option<std::path::PathBuf>,
    pub(crate) limits: par_model::control::CallLimits,
    pub(crate) sessions: par_model::SessionLimits,
    pub(crate) known_as: par_model::control::KnownAs,
    pub(crate) install: par_model::control::InstallRules,
    pub(crate) wanted: LimitDefaults,
    pub(crate) groups: Arc<par_sandbox::Groups>,
    pub(crate) walls: crate::walls::Walls,
    /// How long workers go on without us.
    pub(crate) outlive: Duration,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) events: mpsc::Sender<Message>,
    /// Process ids of children of ours that live and are no strays: workers, and who comes after us.
    pub(crate) children: RefCell<Vec<u32>>,
    /// Where agents may go.
    pub(crate) allowances: watch::Sender<Arc<Allowances>>,
    pub(crate) egress: Arc<EgressTally>,
    /// The workers are another supervisor's from now on: nothing of them is touched.
    pub(crate) handed_over: Cell<bool>,
}

/// Where and as what an incarnation begins.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) replica: ReplicaId,
    pub(crate) port: u16,
    pub(crate) grpc_port: u16,
    /// How often the replica was started again before.
    pub(crate) restarts: u32,
}

impl Effects {
    pub(crate) fn new(ground: Rc<Ground>) -> Self {
        Self {
            ground,
            incarnations: HashMap::new(),
            tasks: JoinSet::new(),
        }
    }

    pub(crate) fn socket_of(&self, replica: ReplicaId) -> std::path::PathBuf {
        self.ground.state.worker_socket(replica)
    }

    pub(crate) fn spawn(&mut self, place: Place, made: Arc<Made>) {
        let orders = self.orders_for(place.replica);
        let incarnation = Incarnation::new(Rc::clone(&self.ground), place, made);
        self.tasks.spawn_local(incarnation.live(orders));
    }

    /// Goes on with one that an earlier supervisor has started.
    pub(crate) fn adopt(&mut self, place: Place, made: Arc<Made>, found: Found) {
        let orders = self.orders_for(place.replica);
        let incarnation = Incarnation::new(Rc::clone(&self.ground), place, made);
        self.tasks.spawn_local(incarnation.go_on(orders, found));
    }

    fn orders_for(&mut self, replica: ReplicaId) -> orders::Given {
        while self.tasks.try_join_next().is_some() {}
        self.incarnations.retain(|_, orders| !orders.is_closed());
        let (orders_in, orders) = orders::channel();
        self.incarnations.insert(replica, orders_in);
        orders
    }

    /// Leaves all workers to whoever comes next.
    pub(crate) fn let_go(mut self) {
        self.ground.handed_over.set(true);
        self.tasks.abort_all();
    }

    pub(crate) fn keep(&self, replica: ReplicaId) {
        self.order(replica, Order::Keep);
    }

    /// Tells a worker where its agent may go now.
    pub(crate) fn tell_egress(&self, agent: &AgentId, replica: ReplicaId) {
        let egress = self.ground.allowances.borrow().egress(agent);
        self.order(replica, Order::Egress(Arc::new(egress)));
    }

    pub(crate) fn allowances(&self) -> &watch::Sender<Arc<Allowances>> {
        &self.ground.allowances
    }

    pub(crate) fn freeze(&self, replica: ReplicaId) {
        self.order(replica, Order::Freeze);
    }

    /// What tells a worker to drain, when it is time for that.
    pub(crate) fn drain_later(&self, replica: ReplicaId) -> Option<impl Fn(Duration) + 'static> {
        let orders = self.incarnations.get(&replica)?.clone();
        Some(move |within| orders.send_modify(|orders| orders.give(Order::Drain(within))))
    }

    /// Like a drain that waits for nobody. One that drains already does so within its own time.
    pub(crate) fn terminate(&self, replica: ReplicaId) {
        self.order(replica, Order::Drain(Duration::ZERO));
    }

    pub(crate) fn kill(&self, replica: ReplicaId) {
        self.order(replica, Order::Kill);
    }

    fn order(&self, replica: ReplicaId, order: Order) {
        if let Some(incarnation) = self.incarnations.get(&replica) {
            incarnation.send_modify(|orders| orders.give(order));
        }
    }

    /// Whoever reads an agent's log finds there what became of it.
    pub(crate) fn log(&self, agent: &AgentId, level: Level, message: String) {
        let line = line_of_ours(level, message);
        self.ground.logs.add(agent, line);
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        match self.ground.state.forget(agent) {
            Ok(gone) => self.delete(gone),
            Err(error) => warn!(%agent, %error, "failed to remove the folder of an agent"),
        }
        self.ground.egress.forget(agent);
        // Nobody waits until the files are gone: nothing is written to them any more.
        drop(self.ground.logs.clear(Some(agent)));
    }

    /// Goes on with what an earlier life did not get to delete.
    pub(crate) fn sweep(&mut self) {
        match self.ground.state.forgotten() {
            Ok(left) => self.delete(left),
            Err(error) => warn!(%error, "failed to look for folders that are to be deleted"),
        }
    }

    /// In the background. What is not deleted when we end is swept by the next life.
    fn delete(&mut self, gone: impl IntoIterator<Item = Gone>) {
        for gone in gone {
            self.tasks.spawn_blocking(move || {
                if let Err(error) = gone.delete() {
                    warn!(%error, "failed to delete the folder of a removed agent");
                }
            });
        }
    }
}
