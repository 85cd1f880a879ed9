//! What the driver is told, by the API and by its own effects.

use std::sync::Arc;

use par_lifecycle::{Beside, Command, Event, Refusal, Release};
use par_model::control::Secret;
use par_model::{AgentId, Isolation, ReplicaId};
use par_sandbox::Birth;
use par_store::Change;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::allowances::{Allow, Allowances, NotAllowed};
use crate::catalog::Made;
use crate::egress_tally::EgressTally;
use crate::keeper::Keeper;
use crate::limits::ToldLimits;
use crate::logs::LogStore;
use crate::snapshot::Snapshot;

pub(crate) enum Message {
    /// Something that people want.
    Command {
        command: Command,
        answer: Answer<()>,
    },
    /// A new release of an agent.
    Deploy {
        made: Arc<Made>,
        beside: Beside,
        answer: Answer<Release>,
    },
    /// A new release is kept, and may begin.
    Kept {
        made: Arc<Made>,
        release: Release,
        beside: Beside,
        answer: Answer<Release>,
    },
    /// A release that could not be started, as it is now.
    Remade {
        made: Arc<Made>,
        release: Release,
    },
    /// Where an agent may go is to change, or its secrets are.
    Allow {
        agent: AgentId,
        allow: Allow,
        answer: Answer<()>,
    },
    /// Something that happened.
    Event(Event),
    /// What a starting incarnation is busy with.
    Progress {
        replica: ReplicaId,
        message: String,
    },
    AgentPid {
        replica: ReplicaId,
        pid: u32,
    },
    /// An incarnation has a process, and this is how a later supervisor knows it again.
    Born {
        replica: ReplicaId,
        pid: u32,
        birth: Birth,
        secret: Secret,
    },
    /// Somebody wants to know when all is kept.
    Sync {
        answer: Answer<()>,
    },
    /// It was to be woken, and could not be.
    Unwoken(AgentId),
    /// Another process goes on from here. `ready` hears when nothing is done any more.
    HandOver {
        ready: oneshot::Sender<()>,
    },
    /// What had to be kept is kept, or is not.
    Saved(Result<Saved, Unsaved>),
    Limits {
        replica: ReplicaId,
        told: ToldLimits,
    },
    Isolation {
        replica: ReplicaId,
        isolation: Isolation,
    },
}

/// What of the driver's has been kept.
pub(crate) struct Saved {
    pub(crate) born: Vec<ReplicaId>,
}

/// What has not been kept. It is tried again.
pub(crate) struct Unsaved {
    pub(crate) reason: String,
    pub(crate) changes: Vec<Change>,
    pub(crate) born: Vec<ReplicaId>,
}

pub(crate) type Answer<T> = oneshot::Sender<Result<T, CommandError>>;

/// Why a command was not done, or not as it was meant.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum CommandError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    NotAllowed(#[from] NotAllowed),
    /// Nothing has changed.
    #[error("nothing was done, because it cannot be kept: {0}")]
    NotKept(String),
    /// It holds until the supervisor ends.
    #[error("done, but not kept beyond the end of this supervisor: {0}")]
    OnlyNow(String),
}

/// The hand on the driver that everybody else has.
#[derive(Clone)]
pub(crate) struct Control {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) logs: Arc<LogStore>,
    pub(crate) keeper: Keeper,
    pub(crate) allowances: watch::Receiver<Arc<Allowances>>,
    pub(crate) egress: Arc<EgressTally>,
    /// Another process has our place: whoever follows something here goes there.
    pub(crate) elsewhere: CancellationToken,
}

impl Control {
    pub(crate) fn new(
        messages: mpsc::Sender<Message>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        logs: Arc<LogStore>,
        keeper: Keeper,
        allowances: watch::Receiver<Arc<Allowances>>,
    ) -> Self {
        Self {
            messages,
            snapshots,
            logs,
            keeper,
            allowances,
            egress: Arc::default(),
            elsewhere: CancellationToken::new(),
        }
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Message::Command { command, answer }, answered)
            .await
    }

    /// Changes where an agent may go, or its secrets. Holds at once; when this ends, it is kept.
    pub(crate) async fn allow(&self, agent: AgentId, allow: Allow) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        let allow = Message::Allow {
            agent,
            allow,
            answer,
        };
        self.ask(allow, answered).await
    }

    pub(crate) async fn deploy(&self, made: Made, beside: Beside) -> Result<Release, CommandError> {
        let (answer, answered) = oneshot::channel();
        let made = Arc::new(made);
        let deploy = Message::Deploy {
            made,
            beside,
            answer,
        };
        self.ask(deploy, answered).await
    }

    /// Ends when all that is wanted so far is kept, or says why it is not.
    pub(crate) async fn kept(&self) -> Result<(), CommandError> {
        let (answer, answered) = oneshot::channel();
        self.ask(Message::Sync { answer }, answered).await
    }

    /// Before it is asked to start it once more.
    pub(crate) async fn remade(&self, made: Made, release: Release) {
        let made = Arc::new(made);
        // The driver is gone only when the supervisor is ending.
        let _driver_is_gone = self.messages.send(Message::Remade { made, release }).await;
    }

    /// Ends when the driver does nothing any more.
    pub(crate) async fn hand_over(&self) {
        let (ready, is_ready) = oneshot::channel();
        if self
            .messages
            .send(Message::HandOver { ready })
            .await
            .is_ok()
        {
            // A driver that is gone does nothing either.
            let _driver_is_gone = is_ready.await;
        }
    }

    async fn ask<T>(
        &self,
        message: Message,
        answered: oneshot::Receiver<Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        // The driver is gone only when the supervisor is ending.
        let ending = || CommandError::Refused(Refusal::ShuttingDown);
        self.messages.send(message).await.map_err(|_| ending())?;
        answered.await.unwrap_or(Err(ending()))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}
