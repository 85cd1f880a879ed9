//! What people ask of one agent.

use par_model::control::EndCause;

use super::{Agent, Incoming, Kind};
use crate::desired::Wanted;
use crate::group::Group;
use crate::life::{Life, Standing, State};
use crate::note::What;
use crate::turn::Turn;
use crate::{Beside, Deployment, Refusal};

impl Agent {
    /// The first release of a new agent.
    pub(crate) fn begin(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.current.begin(turn, |_| Standing::New)
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

    fn check_kept(&self) -> Result<(), Refusal> {
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
        let mut group = Group::new(&self.id, deployment);
        group.begin(turn, |_| Standing::New)?;
        self.current = group;
        self.desired.wanted = Wanted::Up;
        self.desired.current = deployment.release;
        self.desired.replicas = deployment.replicas;
        Ok(())
    }

    /// Another release begins beside the current one, and takes the place of one that began before.
    fn let_begin(
        &mut self,
        turn: &mut Turn<'_>,
        deployment: Deployment,
        kind: Kind,
    ) -> Result<(), Refusal> {
        let mut group = Group::new(&self.id, deployment);
        group.begin(turn, |_| Standing::New)?;
        self.drop_incoming(turn, EndCause::Superseded);
        self.tell(turn, &group, What::ReleaseStarted);
        self.incoming = Some(Incoming { group, kind });
        Ok(())
    }

    /// As many replicas as its share asks for, one at least.
    fn canary(
        &mut self,
        turn: &mut Turn<'_>,
        deployment: Deployment,
        permille: u16,
    ) -> Result<(), Refusal> {
        if self.current.serving().is_empty() {
            return Err(Refusal::NothingBeside(self.id.clone()));
        }
        let permille = permille.clamp(1, 999);
        let share = u64::from(self.desired.replicas) * u64::from(permille) / 1000;
        let deployment = Deployment {
            replicas: u32::try_from(share).unwrap_or(u32::MAX).max(1),
            ..deployment
        };
        self.let_begin(turn, deployment, Kind::Canary { permille })
    }

    pub(crate) fn promote(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let replicas = self.desired.replicas;
        let incoming = match &mut self.incoming {
            Some(incoming) if incoming.kind != Kind::Roll => incoming,
            _ => return Err(Refusal::NoCanary(self.id.clone())),
        };
        if !incoming.group.all_serve() {
            return Err(Refusal::CanaryNotReady(self.id.clone()));
        }
        let few = incoming.group.deployment.replicas;
        incoming.group.grow(&self.id, replicas.max(few));
        if let Err(refusal) = incoming.group.begin(turn, |_| Standing::New) {
            incoming.group.shrink(few);
            return Err(refusal);
        }
        incoming.kind = Kind::Roll;
        turn.tell(&self.id, incoming.group.release(), None, What::Promoted);
        Ok(())
    }

    pub(crate) fn abandon(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.incoming.is_none() {
            return Err(Refusal::NoCanary(self.id.clone()));
        }
        self.drop_incoming(turn, EndCause::Abandoned);
        Ok(())
    }

    fn drop_incoming(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        if let Some(incoming) = self.incoming.take() {
            self.let_go(turn, incoming, cause);
        }
    }

    pub(crate) fn scale(&mut self, turn: &mut Turn<'_>, replicas: u32) -> Result<(), Refusal> {
        self.check_kept()?;
        if replicas < self.current.deployment.replicas {
            let surplus = self.current.shrink(replicas);
            self.leave(turn, surplus, Life::retire);
        } else {
            self.grow(turn, replicas)?;
        }
        self.desired.replicas = replicas;
        self.tell(turn, &self.current, What::Scaled { replicas });
        self.scale_roll(turn, replicas);
        Ok(())
    }

    /// The new ones do as the others do: begin, sleep, or rest.
    fn grow(&mut self, turn: &mut Turn<'_>, replicas: u32) -> Result<(), Refusal> {
        let before = self.current.deployment.replicas;
        let (rests, asleep) = (self.current.is_at_rest(), self.current.is_asleep());
        self.current.grow(&self.id, replicas);
        let new = self.current.lives.iter_mut().skip(before as usize);
        if asleep {
            new.for_each(Life::lay_down);
        } else if !rests && let Err(refusal) = Group::begin_all(turn, new, |_| Standing::New) {
            self.current.shrink(before);
            return Err(refusal);
        }
        Ok(())
    }

    /// A roll that is under way gets as many; if there are no ports for more, it goes on with those it has.
    fn scale_roll(&mut self, turn: &mut Turn<'_>, replicas: u32) {
        let Some(incoming) = &mut self.incoming else {
            return;
        };
        if incoming.kind != Kind::Roll {
            return;
        }
        let before = incoming.group.deployment.replicas;
        let surplus = if replicas < before {
            incoming.group.shrink(replicas)
        } else {
            incoming.group.grow(&self.id, replicas);
            match incoming.group.begin(turn, |_| Standing::New) {
                Ok(()) => vec![],
                Err(_) => incoming.group.shrink(before),
            }
        };
        self.leave(turn, surplus, Life::retire);
    }

    pub(crate) fn start(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.check_kept()?;
        if !self.current.lives.iter().any(Life::may_begin) {
            return Err(self.why_busy());
        }
        self.current.begin(turn, |_| Standing::New)?;
        self.desired.wanted = Wanted::Up;
        Ok(())
    }

    pub(crate) fn wake(&mut self, turn: &mut Turn<'_>) {
        if self.desired.wanted == Wanted::Up && !self.removed {
            let lives = self.current.lives.iter_mut();
            lives.for_each(|life| life.wake(turn));
        }
    }

    pub(crate) fn restart(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        self.check_kept()?;
        let (resting, living): (Vec<_>, Vec<_>) =
            self.current.lives.iter_mut().partition(|it| it.may_begin());
        Group::begin_all(turn, resting.into_iter(), |life| match life.state {
            State::Waiting { .. } | State::Asleep => Standing::Renewed,
            _ => Standing::New,
        })?;
        living.into_iter().for_each(|life| life.restart(turn));
        self.desired.wanted = Wanted::Up;
        Ok(())
    }

    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>) {
        self.desired.wanted = Wanted::Stopped;
        self.stop_lives(turn);
    }

    /// As [`Agent::stop`], but the supervisor ends, and what is desired stays as it is.
    pub(crate) fn end(&mut self, turn: &mut Turn<'_>) {
        self.stop_lives(turn);
    }

    pub(crate) fn kill(&mut self, turn: &mut Turn<'_>) {
        self.stop_lives(turn);
        self.lives_mut().for_each(|life| life.kill(turn));
    }

    fn stop_lives(&mut self, turn: &mut Turn<'_>) {
        self.drop_incoming(turn, EndCause::Asked);
        self.leaving.iter_mut().for_each(|life| life.remove(turn));
        self.current
            .lives
            .iter_mut()
            .for_each(|life| life.stop(turn));
    }

    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>) {
        self.drop_incoming(turn, EndCause::Asked);
        self.removed = true;
        self.lives_mut().for_each(|life| life.remove(turn));
    }
}
