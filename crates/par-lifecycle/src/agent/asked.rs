//! What people ask of one agent.

use std::collections::BTreeSet;

use par_model::control::EndCause;

use super::{Agent, Incoming, Kind};
use crate::desired::Wanted;
use crate::group::{self, Group};
use crate::life::{Life, Standing, State, Then};
use crate::note::What;
use crate::turn::Turn;
use crate::{Beside, Deployment, Refusal};

impl Agent {
    /// The first release of a new agent.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let leased = group::lease(turn, self.current.lives.iter())?;
        let lives = self.current.lives.iter_mut();
        group::begin(turn, lives, leased, |_| Standing::New);
        Ok(())
    }

    pub(crate) fn deploy(
        &mut self,
        turn: &mut Turn<'_>,
        deployment: Deployment,
        beside: Beside,
    ) -> Result<(), Refusal> {
        self.check_kept()?;
        if self.may_be_replaced() {
            return match beside {
                Beside::Canary { .. } => Err(Refusal::NothingBeside(self.id.clone())),
                Beside::Refuse | Beside::Roll => self.replace(turn, deployment),
            };
        }
        match beside {
            Beside::Refuse => Err(self.why_busy()),
            Beside::Roll => self.let_begin(turn, deployment, Kind::Roll),
            Beside::Canary { permille } => self.canary(turn, deployment, permille),
        }
    }

    pub(super) fn check_kept(&self) -> Result<(), Refusal> {
        if self.removed {
            return Err(Refusal::StillStopping(self.id.clone()));
        }
        Ok(())
    }

    /// Nothing of it runs or will by itself, not even at the next call.
    fn may_be_replaced(&self) -> bool {
        self.incoming.is_none() && self.current.is_at_rest() && !self.current.is_asleep()
    }

    /// Why there is nothing to start.
    fn why_busy(&self) -> Refusal {
        let mut ending = self.current.lives.iter().filter_map(Life::then);
        let serves = !self.current.serving().is_empty() || self.incoming.is_some();
        if !serves && ending.next().is_some() {
            return Refusal::StillStopping(self.id.clone());
        }
        Refusal::AlreadyRuns(self.id.clone())
    }

    fn replace(&mut self, turn: &mut Turn<'_>, deployment: Deployment) -> Result<(), Refusal> {
        let mut new = Group::new(&self.id, deployment);
        let leased = group::lease(turn, new.lives.iter())?;
        group::begin(turn, new.lives.iter_mut(), leased, |_| Standing::New);
        self.desired.wanted = Wanted::Up;
        self.desired.current = new.release();
        self.desired.replicas = new.replicas();
        self.current = new;
        Ok(())
    }

    /// Another release begins beside the current one, and takes the place of one that began before.
    pub(super) fn let_begin(
        &mut self,
        turn: &mut Turn<'_>,
        deployment: Deployment,
        kind: Kind,
    ) -> Result<(), Refusal> {
        let mut new = Group::new(&self.id, deployment);
        let leased = group::lease(turn, new.lives.iter())?;
        self.drop_incoming(turn, EndCause::Superseded, Life::retire);
        self.tell(turn, &new, What::ReleaseStarted);
        group::begin(turn, new.lives.iter_mut(), leased, |_| Standing::New);
        self.incoming = Some(Incoming { group: new, kind });
        Ok(())
    }

    pub(super) fn drop_incoming(
        &mut self,
        turn: &mut Turn<'_>,
        cause: EndCause,
        end: impl Fn(&mut Life, &mut Turn<'_>),
    ) {
        if let Some(incoming) = self.incoming.take() {
            self.let_go(turn, incoming, cause, end);
        }
    }

    /// Those that are about to sleep come back, and if some still stop, none begins: they would be missing.
    pub(crate) fn start(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.check_kept()?;
        let lives = &self.current.lives;
        if lives.iter().any(|life| life.then() == Some(Then::Rest)) {
            return Err(Refusal::StillStopping(self.id.clone()));
        }
        if !lives.iter().any(|it| it.may_begin() || it.is_asleep()) {
            return Err(self.why_busy());
        }
        self.begin_resting(turn, |_| Standing::New)?;
        let lives = self.current.lives.iter_mut();
        lives.for_each(|life| life.keep_awake(turn));
        self.desired.wanted = Wanted::Up;
        Ok(())
    }

    pub(crate) fn restart(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.check_kept()?;
        let lives = self.current.lives.iter();
        let alive: BTreeSet<u32> = lives
            .filter(|it| !it.may_begin())
            .map(|it| it.slot)
            .collect();
        self.begin_resting(turn, |life| match life.state {
            State::Waiting { .. } | State::Asleep => Standing::Renewed,
            _ => Standing::New,
        })?;
        let lives = self.current.lives.iter_mut();
        lives
            .filter(|life| alive.contains(&life.slot))
            .for_each(|life| life.restart(turn));
        self.desired.wanted = Wanted::Up;
        Ok(())
    }

    /// All that may, or none if there are not enough ports.
    fn begin_resting(
        &mut self,
        turn: &mut Turn<'_>,
        standing: impl Fn(&Life) -> Standing,
    ) -> Result<(), Refusal> {
        let resting = self.current.lives.iter().filter(|life| life.may_begin());
        let leased = group::lease(turn, resting)?;
        let lives = self.current.lives.iter_mut();
        group::begin(turn, lives.filter(|it| it.may_begin()), leased, standing);
        Ok(())
    }

    /// All that sleep, or none if there are not enough ports.
    pub(crate) fn wake(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.desired.wanted != Wanted::Up || self.removed {
            return Ok(());
        }
        let sleeps = |life: &&Life| matches!(life.state, State::Asleep);
        let leased = group::lease(turn, self.current.lives.iter().filter(sleeps))?;
        if self.current.lives.iter().any(Life::is_asleep) {
            self.tell(turn, &self.current, What::Waking);
        }
        let lives = self.current.lives.iter_mut();
        let sleepers = lives.filter(|life| sleeps(&&**life));
        sleepers
            .zip(leased)
            .for_each(|(life, incarnation)| life.wake(turn, incarnation));
        let lives = self.current.lives.iter_mut();
        lives.for_each(|life| life.keep_awake(turn));
        Ok(())
    }

    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>) {
        self.desired.wanted = Wanted::Stopped;
        self.desired.canary = None;
        self.end(turn);
    }

    /// As [`Agent::stop`], but the supervisor ends, and what is desired stays as it is.
    pub(crate) fn end(&mut self, turn: &mut Turn<'_>) {
        self.drop_incoming(turn, EndCause::Asked, Life::remove);
        self.leaving.iter_mut().for_each(|life| life.remove(turn));
        let lives = self.current.lives.iter_mut();
        lives.for_each(|life| life.stop(turn));
    }

    pub(crate) fn kill(&mut self, turn: &mut Turn<'_>) {
        self.end(turn);
        self.lives_mut().for_each(|life| life.kill(turn));
    }

    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>) {
        self.drop_incoming(turn, EndCause::Asked, Life::remove);
        self.removed = true;
        self.lives_mut().for_each(|life| life.remove(turn));
    }
}
