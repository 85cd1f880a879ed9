//! Where a call goes, and the bounded wait when it cannot go anywhere yet.

use std::time::Duration;

use par_model::{AgentId, CallError, ReplicaId};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::backend::InFlight;
use crate::idle;
use crate::refusal::shown;
use crate::room::Room;
use crate::routes::Route;
use crate::session::SessionKey;
use crate::targets::Picked;

/// Between two attempts to reach workers that the table calls ready.
const PAUSE: Duration = Duration::from_millis(10);

pub(crate) struct Hold<'a> {
    room: &'a Room,
    agent: &'a str,
    session: Option<SessionKey>,
    /// What the call may take in all.
    limit: Option<Duration>,
    is_held: bool,
    /// It met a sleeping agent, which takes longer than one that is coming anyway.
    wakes: bool,
    /// Known once the call had to wait: most never ask what time it is.
    since: Option<Instant>,
    /// Replicas that could not be reached.
    missed: Vec<ReplicaId>,
}

impl<'a> Hold<'a> {
    pub(crate) fn of_call(room: &'a Room, agent: &'a str, rest: &str) -> Self {
        Self {
            room,
            agent,
            session: None,
            limit: None,
            // Who watches wants to know the state of now.
            is_held: !idle::is_watching(rest),
            wakes: false,
            since: None,
            missed: Vec::new(),
        }
    }

    pub(crate) fn within(self, limit: Option<Duration>) -> Self {
        Self { limit, ..self }
    }

    pub(crate) fn of_session(self, session: Option<SessionKey>) -> Self {
        Self { session, ..self }
    }

    /// The backend that takes the call, at once when one is ready.
    pub(crate) async fn ready(&mut self) -> Result<InFlight, CallError> {
        if let Some(call) = self.look()? {
            return Ok(call);
        }
        let mut news = self.room.routes.news();
        let _waiting = self.room.routes.figures_of(self.agent).wait();
        loop {
            // Looked at again after subscribing: the news may have come in between.
            if let Some(call) = self.look()? {
                return Ok(call);
            }
            let give_up = self.give_up();
            let until = match self.missed.is_empty() {
                true => give_up,
                // Nobody else is left: those may answer again.
                false => give_up.min(Instant::now() + PAUSE),
            };
            self.missed.clear();
            if !wait(&mut news, until).await && until == give_up {
                return Err(self.given_up());
            }
        }
    }

    /// A connection was made: what follows of the same session goes the same way.
    pub(crate) fn reached(&self, call: &InFlight) {
        if let Some(session) = self.session {
            call.backend().keep(session);
        }
    }

    /// The backend could not be reached. Nothing was sent: another one may take the call, at once if there is one;
    /// an error when the call has waited long enough.
    pub(crate) async fn missed(&mut self, replica: ReplicaId) -> Result<(), CallError> {
        self.missed.push(replica);
        if self.has_another() {
            return Ok(());
        }
        self.missed.clear();
        let moment = Instant::now() + PAUSE;
        if moment > self.give_up() {
            return Err(self.given_up());
        }
        let mut news = self.room.routes.news();
        wait(&mut news, moment).await;
        Ok(())
    }

    /// How long it had to wait; none if it did not.
    pub(crate) fn waited(&self) -> Option<Duration> {
        self.since.map(|since| since.elapsed())
    }

    fn give_up(&mut self) -> Instant {
        *self.since.get_or_insert_with(Instant::now) + self.patience()
    }

    fn patience(&self) -> Duration {
        let config = &self.room.config;
        let patience = match (self.is_held, self.wakes) {
            (false, _) => Duration::ZERO,
            (true, false) => config.hold,
            (true, true) => config.hold.max(config.wake),
        };
        self.limit.map_or(patience, |limit| patience.min(limit))
    }

    fn given_up(&self) -> CallError {
        match self.limit {
            Some(limit) if self.is_held && self.patience() == limit => {
                CallError::DeadlineExceeded(limit)
            }
            _ => self.not_ready(),
        }
    }

    /// None: it may come.
    fn look(&mut self) -> Result<Option<InFlight>, CallError> {
        loop {
            let table = self.room.routes.peek();
            let targets = match table.get(self.agent) {
                Some(Route::Ready(targets)) => targets,
                Some(Route::Soon) => return Ok(None),
                Some(Route::Asleep(bell)) if self.is_held => {
                    self.wakes = true;
                    if bell.ring() {
                        self.wake()?;
                    }
                    return Ok(None);
                }
                Some(Route::Asleep(_) | Route::Down) => return Err(self.not_ready()),
                None => return Err(CallError::UnknownAgent(shown(self.agent))),
            };
            let Picked::One(backend) = targets.pick(self.session, &self.missed) else {
                return Ok(None);
            };
            if let Some(call) = self.room.routes.begin_call(&table, backend) {
                return Ok(Some(call));
            }
        }
    }

    fn has_another(&self) -> bool {
        match self.room.routes.peek().get(self.agent) {
            Some(Route::Ready(targets)) => {
                matches!(targets.pick(self.session, &self.missed), Picked::One(_))
            }
            _ => false,
        }
    }

    fn wake(&self) -> Result<(), CallError> {
        let agent = AgentId::try_from(self.agent.to_owned());
        let agent = agent.map_err(|_| CallError::UnknownAgent(shown(self.agent)))?;
        self.room.routes.figures_of(self.agent).count_wake();
        (self.room.wake)(&agent);
        Ok(())
    }

    fn not_ready(&self) -> CallError {
        AgentId::try_from(self.agent.to_owned()).map_or_else(
            |_| CallError::UnknownAgent(shown(self.agent)),
            CallError::NotReady,
        )
    }
}

/// Whether there were news in time.
async fn wait(news: &mut watch::Receiver<()>, until: Instant) -> bool {
    matches!(timeout_at(until, news.changed()).await, Ok(Ok(())))
}
