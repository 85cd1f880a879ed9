//! What people ask of one replica.

use super::moves::kill;
use super::{Life, Record, Standing, State, Then, Why};
use crate::Incarnation;
use crate::note::What;
use crate::turn::Turn;

impl Life {
    /// A start by hand of one that is at rest or waits, on the ports of `incarnation`.
    pub(crate) fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        incarnation: Incarnation,
        standing: Standing,
    ) {
        self.record = Record::beginning_as(standing);
        self.spawn(turn, incarnation, Default::default(), None);
    }

    /// Whether it could begin now.
    pub(crate) fn may_begin(&self) -> bool {
        match self.state {
            State::Waiting { .. }
            | State::Asleep
            | State::Stopped
            | State::Failed { .. }
            | State::Crashed { .. } => true,
            State::Starting(_)
            | State::Serving { .. }
            | State::Retiring { .. }
            | State::Draining { .. }
            | State::Ending { .. }
            | State::Gone => false,
        }
    }

    /// Starts one that an earlier supervisor left, with the standing that it had there.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>, standing: Standing) {
        self.record = Record::beginning_as(standing);
        self.start_on_any_port(turn, None);
    }

    /// As if it had served and been stopped because nobody called it.
    pub(crate) fn lay_down(&mut self) {
        self.record = Record::beginning_as(Standing::Proven);
        self.state = State::Asleep;
    }

    /// Ends and starts again one that lives. What is at rest is begun instead.
    pub(crate) fn restart(&mut self, turn: &mut Turn<'_>) {
        self.wind_down(turn, Then::Start);
    }

    /// A call came for one that sleeps. What it was before it slept is remembered.
    pub(crate) fn wake(&mut self, turn: &mut Turn<'_>, incarnation: Incarnation) {
        self.spawn(turn, incarnation, Default::default(), None);
    }

    /// A call came for one that is about to sleep: too late to keep it, but it comes back.
    pub(crate) fn keep_awake(&mut self, turn: &mut Turn<'_>) {
        if self.then() == Some(Then::Sleep) {
            self.wind_down(turn, Then::Wake);
        }
    }

    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Waiting { .. } | State::Asleep => {
                if self.latest.is_some() {
                    self.tell(turn, What::Stopped);
                }
                self.state = State::Stopped;
            }
            _ => self.wind_down(turn, Then::Rest),
        }
    }

    pub(crate) fn sleep(&mut self, turn: &mut Turn<'_>) {
        self.forget_failures_if_stable(turn);
        self.wind_down(turn, Then::Sleep);
    }

    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>) {
        match self.incarnation() {
            Some(_) => self.wind_down(turn, Then::Forget),
            None => self.state = State::Gone,
        }
    }

    /// Another release takes its place: it stays for its sessions if it has any, and for the calls and streams that it
    /// has begun.
    pub(crate) fn retire(&mut self, turn: &mut Turn<'_>) {
        let patience = turn.settings().retire_timeout;
        match self.state {
            State::Serving { incarnation, .. } if self.record.sessions => {
                self.tell(turn, What::Retiring);
                self.state = State::Retiring {
                    incarnation,
                    until: turn.after(patience),
                };
            }
            State::Serving { incarnation, .. } => {
                self.state = self.drain(turn, incarnation, Then::Forget, patience);
            }
            _ => self.remove(turn),
        }
    }

    /// The same as a stop, without its patience.
    pub(crate) fn kill(&mut self, turn: &mut Turn<'_>) {
        self.stop(turn);
        self.without_patience(turn);
    }

    /// What drains or ends is killed now.
    pub(crate) fn without_patience(&mut self, turn: &mut Turn<'_>) {
        self.state = match self.take_state() {
            State::Draining {
                incarnation, then, ..
            } => kill(turn, incarnation, Why::Asked(then)),
            State::Ending {
                incarnation,
                kill_at: Some(_),
                why,
            } => kill(turn, incarnation, why),
            unchanged => unchanged,
        };
    }
}
