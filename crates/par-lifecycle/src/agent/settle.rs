//! What follows for an agent from what happened to its replicas. Asked after every command and every event.

use par_model::control::EndCause;

use super::{Agent, Incoming, Kind};
use crate::desired::{Canary, Wanted};
use crate::group::Group;
use crate::life::Life;
use crate::note::What;
use crate::turn::Turn;

impl Agent {
    pub(crate) fn settle(&mut self, turn: &mut Turn<'_>) {
        self.let_in(turn);
        self.leaving.retain(|life| !life.is_gone());
        if !self.current.live && self.current.all_serve() {
            self.current.live = true;
            self.tell(turn, &self.current, What::ReleaseLive);
        }
        self.remember_homes(turn);
    }

    /// Where the replicas that take the calls live, they come back to: also under a later release or supervisor.
    fn remember_homes(&self, turn: &mut Turn<'_>) {
        let incarnations = self.current.lives.iter().filter_map(Life::incarnation);
        incarnations.for_each(|it| turn.remember_home(&self.id, it.slot, it.port));
    }

    /// The release that comes in takes its place, goes on coming, or is let go.
    fn let_in(&mut self, turn: &mut Turn<'_>) {
        let Some(mut incoming) = self.incoming.take() else {
            return;
        };
        if let Some(cause) = incoming.group.defeat() {
            return self.let_go(turn, incoming, cause, Life::retire);
        }
        if !incoming.group.all_serve() {
            self.incoming = Some(incoming);
            return;
        }
        match incoming.kind {
            Kind::Roll | Kind::Promoted { .. } => self.take_over(turn, incoming.group),
            Kind::Canary { permille } => {
                self.show_canary(turn, &mut incoming.group, permille);
                self.incoming = Some(incoming);
            }
        }
    }

    fn show_canary(&mut self, turn: &mut Turn<'_>, group: &mut Group, permille: u16) {
        if group.live {
            return;
        }
        group.live = true;
        self.tell(turn, group, What::CanaryStarted { permille });
        let release = group.release();
        self.desired.canary = Some(Canary { release, permille });
    }

    fn take_over(&mut self, turn: &mut Turn<'_>, mut group: Group) {
        group.live = true;
        let before = std::mem::replace(&mut self.current, group);
        self.tell(turn, &self.current, What::ReleaseLive);
        self.desired.wanted = Wanted::Up;
        self.desired.current = self.current.release();
        self.desired.replicas = self.current.replicas();
        self.desired.canary = None;
        self.leave(turn, before.lives, Life::retire);
    }

    /// The release before it goes on. When the supervisor ends, a canary stays desired.
    pub(super) fn let_go(
        &mut self,
        turn: &mut Turn<'_>,
        incoming: Incoming,
        cause: EndCause,
        end: impl Fn(&mut Life, &mut Turn<'_>),
    ) {
        let stays = turn.is_closing() && incoming.group.live;
        if !stays {
            let release = incoming.group.release();
            self.tell(turn, &incoming.group, What::ReleaseFailed(cause.clone()));
            self.failed = Some((release, cause));
            self.desired.canary = None;
        }
        self.leave(turn, incoming.group.lives, end);
    }

    /// From now on these only end, in the way that `end` begins.
    pub(super) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        lives: Vec<Life>,
        end: impl Fn(&mut Life, &mut Turn<'_>),
    ) {
        for mut life in lives {
            end(&mut life, turn);
            if !life.is_gone() {
                self.leaving.push(life);
            }
        }
    }

    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.lives_mut().for_each(|life| life.tick(turn));
        if self.sleeps_at().is_some_and(|at| at <= turn.now) {
            let lives = self.current.lives.iter_mut();
            lives.for_each(|life| life.sleep(turn));
        }
    }

    pub(super) fn tell(&self, turn: &mut Turn<'_>, group: &Group, what: What) {
        turn.tell(&self.id, group.release(), None, what);
    }
}
