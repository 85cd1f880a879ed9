//! Accepts connections of one agent, each in a task of its own that ends with [`serve`].

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use par_model::AgentId;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::debug;

use crate::authorization::Authorization;
use crate::connection;
use crate::figures::Figures;
use crate::journal::Journal;
use crate::policy::Policy;
use crate::refusal::Refusal;
use crate::resolve::Resolver;
use crate::tls::{Tls, Trust};

/// Connections of one agent at one time.
const MOST_CONNECTIONS: usize = 256;
/// Before accepting is tried again, when the machine has no more files.
const PAUSE: Duration = Duration::from_millis(100);

/// What a proxy needs to know.
pub struct Door {
    /// For the words of refusals.
    pub agent: AgentId,
    /// What holds now; a change holds from the next request on.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Needed where others can reach the listener; not in a network namespace of the agent's own.
    pub authorization: Option<Authorization>,
    pub figures: Rc<Figures>,
    pub resolver: Resolver,
    pub trust: Trust,
    /// Writes a line into the agent's log. Not called more than some times a minute.
    pub say: Box<dyn Fn(String)>,
}

/// What all connections share.
pub(crate) struct House {
    agent: AgentId,
    policy: watch::Receiver<Arc<Policy>>,
    pub(crate) authorization: Option<Authorization>,
    pub(crate) figures: Rc<Figures>,
    pub(crate) resolver: Resolver,
    pub(crate) tls: Tls,
    journal: RefCell<Journal>,
    say: Box<dyn Fn(String)>,
}

impl House {
    pub(crate) fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.policy.borrow())
    }

    /// Counts a refusal and says it in the agent's log. Answers with what the agent is told.
    pub(crate) fn refuse(&self, refusal: &Refusal) -> String {
        self.figures.refused(refusal);
        let told = match refusal.way_to_be_allowed(&self.agent) {
            Some(way) => format!("{refusal}; to allow it: {way}"),
            None => refusal.to_string(),
        };
        let line = format!("egress refused ({}): {told}", refusal.rule());
        let line = self.journal.borrow_mut().note(Instant::now(), &line);
        if let Some(line) = line {
            (self.say)(line);
        }
        told
    }
}

/// Serves the connections of one agent until `shutdown`; then those that are open end, too.
///
/// Its tasks are local ones: it has to run in a `LocalSet` or a `LocalRuntime`. Connections to the outside are made from
/// the namespace of this process, wherever `listener` is.
pub async fn serve(listener: TcpListener, door: Door, shutdown: impl Future<Output = ()>) {
    let house = Rc::new(House {
        agent: door.agent,
        policy: door.policy,
        authorization: door.authorization,
        figures: door.figures,
        resolver: door.resolver,
        tls: Tls::trusting(door.trust),
        journal: RefCell::default(),
        say: door.say,
    });
    let mut shutdown = pin!(shutdown);
    let mut open = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_ended) = open.join_next() => continue,
            () = &mut shutdown => break,
        };
        match accepted {
            Ok((stream, _)) if open.len() >= MOST_CONNECTIONS => turn_away(&house, &stream),
            Ok((stream, _)) => {
                open.spawn_local(connection::run(Rc::clone(&house), stream));
            }
            Err(error) => {
                debug!(%error, "failed to accept a connection of an agent");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
    open.shutdown().await;
}

/// Without waiting for it: a new connection has room for some words.
fn turn_away(house: &House, stream: &TcpStream) {
    house.refuse(&Refusal::TooMany);
    let words = b"HTTP/1.1 503 too many connections at the same time\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    if let Err(error) = stream.try_write(words) {
        debug!(%error, "a connection that was turned away did not hear why");
    }
}
