//! What the driver is told, by the API and by its own effects.

use std::sync::Arc;

use par_lifecycle::{Command, Event, Refusal, Release};
use par_model::ReplicaId;
use tokio::sync::{mpsc, oneshot, watch};

use crate::catalog::Made;
use crate::limits::ToldLimits;
use crate::logs::LogStore;
use crate::snapshot::Snapshot;

pub(crate) enum Message {
    /// Something that people want.
    Command {
        command: Command,
        answer: oneshot::Sender<Result<(), Refusal>>,
    },
    /// A new release; a running agent is replaced only if asked so.
    Deploy {
        made: Made,
        running: Running,
        answer: oneshot::Sender<Result<Release, Refusal>>,
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
    Limits {
        replica: ReplicaId,
        told: ToldLimits,
    },
}

/// What to do with an agent of the same name that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Running {
    Refuse,
    Replace,
}

/// The hand on the driver that everybody else has.
#[derive(Clone)]
pub(crate) struct Control {
    messages: mpsc::Sender<Message>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) logs: Arc<LogStore>,
}

impl Control {
    pub(crate) fn new(
        messages: mpsc::Sender<Message>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        logs: Arc<LogStore>,
    ) -> Self {
        Self {
            messages,
            snapshots,
            logs,
        }
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(Message::Command { command, answer }, answered)
            .await
    }

    pub(crate) async fn deploy(&self, made: Made, running: Running) -> Result<Release, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.ask(
            Message::Deploy {
                made,
                running,
                answer,
            },
            answered,
        )
        .await
    }

    async fn ask<T>(
        &self,
        message: Message,
        answered: oneshot::Receiver<Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        // The driver is gone only when the supervisor is ending.
        self.messages
            .send(message)
            .await
            .map_err(|_| Refusal::ShuttingDown)?;
        answered.await.unwrap_or(Err(Refusal::ShuttingDown))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }
}
