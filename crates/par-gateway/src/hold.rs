//! Where a call goes, and the bounded wait when it cannot go anywhere yet.

use std::cell::OnceCell;
use std::sync::Arc;
use std::time::Duration;

use par_model::{AgentId, CallError};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::refusal::shown;
use crate::room::Room;
use crate::routes::{Backend, Route, Routes};

/// Between two attempts to reach a worker that the table calls ready.
const PAUSE: Duration = Duration::from_millis(10);

/// Who asks this wants to know the state of now.
fn is_never_held(path: &str) -> bool {
    path == "/health" || path.starts_with("/grpc.health.v1.Health/")
}

pub(crate) struct Hold<'a> {
    routes: &'a Routes,
    agent: &'a str,
    patience: Duration,
    /// Known once the call had to wait: most never ask what time it is.
    give_up: OnceCell<Instant>,
}

impl<'a> Hold<'a> {
    pub(crate) fn of_call(room: &'a Room, agent: &'a str, rest: &str) -> Self {
        let patience = if is_never_held(rest) {
            Duration::ZERO
        } else {
            room.config.hold
        };
        Self {
            routes: &room.routes,
            agent,
            patience,
            give_up: OnceCell::new(),
        }
    }

    /// The backend that takes the call, at once when one is ready.
    pub(crate) async fn ready(&self) -> Result<Arc<Backend>, CallError> {
        if let Some(backend) = self.look()? {
            return Ok(backend);
        }
        let (mut news, give_up) = (self.routes.news(), self.give_up());
        loop {
            // Looked at again after subscribing: the news may have come in between.
            if let Some(backend) = self.look()? {
                return Ok(backend);
            }
            self.wait(&mut news, give_up).await?;
        }
    }

    /// Waits a moment, or for news; an error when the call has waited long enough.
    pub(crate) async fn pause(&self) -> Result<(), CallError> {
        let moment = Instant::now() + PAUSE;
        if moment > self.give_up() {
            return Err(self.not_ready());
        }
        match self.wait(&mut self.routes.news(), moment).await {
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn give_up(&self) -> Instant {
        *self.give_up.get_or_init(|| Instant::now() + self.patience)
    }

    async fn wait(&self, news: &mut watch::Receiver<()>, until: Instant) -> Result<(), CallError> {
        match timeout_at(until, news.changed()).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(self.not_ready()),
        }
    }

    fn look(&self) -> Result<Option<Arc<Backend>>, CallError> {
        match self.routes.peek().get(self.agent) {
            Some(Route::Ready(backend)) => Ok(Some(Arc::clone(backend))),
            Some(Route::Soon) => Ok(None),
            Some(Route::Down) => Err(self.not_ready()),
            None => Err(CallError::UnknownAgent(shown(self.agent))),
        }
    }

    fn not_ready(&self) -> CallError {
        AgentId::try_from(self.agent.to_owned()).map_or_else(
            |_| CallError::UnknownAgent(shown(self.agent)),
            CallError::NotReady,
        )
    }
}
