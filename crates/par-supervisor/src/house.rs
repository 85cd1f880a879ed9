//! What decides and performs, one driver after the other: should another process not be able to go on, the next driver
//! does.

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_store::Store;
use tokio::sync::oneshot;
use tokio::task::{JoinHandle, JoinSet};
use tracing::error;

use crate::config::{GRPC_OFFSET, Settings};
use crate::driver::{Driver, Remains};
use crate::effects::Ground;
use crate::events::{EventLog, webhooks};
use crate::handover::Successor;
use crate::message::Control;
use crate::plane;

/// For events to be written before another process has the state file.
const LAST_EVENTS: Duration = Duration::from_secs(2);

/// What a driver needs, of which there may be several one after the other.
pub(crate) struct House {
    pub(crate) ground: Rc<Ground>,
    pub(crate) settings: Settings,
    pub(crate) control: Control,
    pub(crate) events: Arc<EventLog>,
    /// Webhooks; they end with this.
    telling: JoinSet<()>,
}

/// How an attempt to hand over ended.
pub(crate) enum Handed {
    Over(Box<Successor>),
    /// Everything goes on as before, and why.
    Back(JoinHandle<Option<Remains>>, String),
}

impl House {
    pub(crate) fn new(
        ground: Rc<Ground>,
        settings: Settings,
        control: Control,
        events: Arc<EventLog>,
    ) -> Self {
        Self {
            ground,
            settings,
            control,
            events,
            telling: JoinSet::new(),
        }
    }

    pub(crate) async fn tell_webhooks(&mut self) -> Result<(), par_store::StoreError> {
        let hooks = self.settings.webhooks.clone();
        self.telling = webhooks::start(hooks, &self.events, self.control.keeper.store()).await?;
        Ok(())
    }

    pub(crate) async fn drive(&self, remains: Remains) -> Result<Driver, par_store::StoreError> {
        plane::restore(
            Rc::clone(&self.ground),
            fleet_settings(&self.settings, self.control.keeper.store()),
            self.control.keeper.clone(),
            Arc::clone(&self.events),
            self.control.messages.clone(),
            remains,
        )
        .await
    }

    /// Starts who is to go on from here. Nothing has changed yet.
    pub(crate) fn begin_with(&self, binary: &Path) -> io::Result<Successor> {
        let successor = Successor::start(binary)?;
        // Before it is waited for: when a worker ends meanwhile, it is no stray of that.
        let pid = successor.child.id();
        self.ground.children.borrow_mut().extend(pid);
        Ok(successor)
    }

    /// It does not go on: nothing is left of it.
    pub(crate) async fn do_without(&self, successor: Successor) {
        let pid = successor.child.id();
        successor.end().await;
        let mut children = self.ground.children.borrow_mut();
        children.retain(|child| Some(*child) != pid);
    }

    /// Lets a process that is there go on from here.
    pub(crate) async fn hand_over(
        &mut self,
        mut successor: Successor,
        public: &TcpListener,
        driving: JoinHandle<Option<Remains>>,
    ) -> Handed {
        self.control.hand_over().await;
        self.telling.shutdown().await;
        let Ok(Some(remains)) = driving.await else {
            // It has ended with everything else.
            return Handed::Over(Box::new(successor));
        };
        match self.let_serve(&mut successor, public).await {
            Ok(()) => {
                self.ground.state.hand_over();
                Handed::Over(Box::new(successor))
            }
            Err(reason) => {
                error!(%reason, "the new process does not serve: we go on");
                self.do_without(successor).await;
                Handed::Back(self.go_on(remains).await, reason)
            }
        }
    }

    async fn let_serve(
        &self,
        successor: &mut Successor,
        public: &TcpListener,
    ) -> Result<(), String> {
        self.events.written(LAST_EVENTS).await;
        self.control.logs.written().await;
        self.control.keeper.close().await?;
        let words = |error: io::Error| format!("the new process does not serve: {error}");
        successor
            .go(public, self.ground.state.lock())
            .await
            .map_err(words)?;
        successor.serving().await.map_err(words)
    }

    /// As before the handing over was tried.
    async fn go_on(&mut self, remains: Remains) -> JoinHandle<Option<Remains>> {
        self.ground.handed_over.set(false);
        match self.reopen(remains).await {
            Ok(driver) => tokio::task::spawn_local(driver.run()),
            Err(reason) => {
                error!(%reason, "the state file cannot be opened again: agents serve on, and nothing can be changed");
                tokio::task::spawn_local(std::future::pending())
            }
        }
    }

    async fn reopen(&mut self, remains: Remains) -> Result<Driver, String> {
        self.control.keeper.reopen().await?;
        let words = |error: par_store::StoreError| crate::chain(&error);
        self.tell_webhooks().await.map_err(words)?;
        self.drive(remains).await.map_err(words)
    }
}

/// Somebody wants another binary to go on.
pub(crate) struct Upgrade {
    pub(crate) binary: PathBuf,
    /// Hears the process id of who goes on, or why nobody does.
    pub(crate) answer: oneshot::Sender<Result<u32, String>>,
}

impl Upgrade {
    pub(crate) fn tell(self, outcome: Result<u32, String>) {
        // Whoever asked may have left; it is done all the same.
        let _asker_left = self.answer.send(outcome);
    }
}

fn fleet_settings(settings: &Settings, store: &Store) -> par_lifecycle::Settings {
    par_lifecycle::Settings {
        first_replica: plane::first_replica(store),
        ports: settings.agent_ports.clone(),
        grpc_offset: GRPC_OFFSET,
        start_timeout: settings.start_timeout,
        drain_timeout: settings.drain_timeout,
        retire_timeout: settings.retire_timeout,
        stable_after: settings.stable_after,
        ..par_lifecycle::Settings::default()
    }
}
