//! What happens to the incarnation of one replica.

use std::time::Duration;

use par_model::control::EndCause;

use super::moves::{kill, terminate};
use super::{Attempt, Life, Phase, Standing, State, Then, Why};
use crate::Action;
use crate::note::What;
use crate::turn::Turn;

impl Life {
    pub(crate) fn spawned(&mut self, pid: u32) {
        if let Some(incarnation) = self.incarnation_mut() {
            incarnation.pid = Some(pid);
        }
    }

    pub(crate) fn prepared(&mut self, turn: &Turn<'_>) {
        let patience = self.patience(turn, Phase::Loading);
        if let State::Starting(attempt) = &mut self.state
            && attempt.phase == Phase::Preparing
        {
            attempt.phase = Phase::Loading;
            attempt.give_up = turn.after(patience);
        }
    }

    pub(crate) fn ready(&mut self, turn: &mut Turn<'_>) {
        let State::Starting(Attempt { incarnation, .. }) = self.state else {
            return;
        };
        self.record.standing = Standing::Proven;
        self.state = State::Serving {
            incarnation,
            since: turn.now,
            frozen: None,
        };
        self.tell(turn, What::Ready);
    }

    pub(crate) fn quiet(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now;
        if let State::Serving {
            incarnation,
            frozen: frozen @ None,
            ..
        } = &mut self.state
        {
            *frozen = Some(now);
            turn.actions.push(Action::Freeze(incarnation.replica));
            self.tell(turn, What::Frozen);
        }
    }

    pub(crate) fn busy(&mut self, turn: &mut Turn<'_>) {
        if let State::Serving {
            frozen: frozen @ Some(_),
            ..
        } = &mut self.state
        {
            *frozen = None;
            self.tell(turn, What::Thawed);
        }
    }

    pub(crate) fn sessions(&mut self, turn: &mut Turn<'_>, any: bool) {
        self.record.sessions = any;
        if let State::Retiring { incarnation, until } = self.state
            && !any
        {
            let within = until.saturating_duration_since(turn.now);
            self.state = self.drain(turn, incarnation, Then::Forget, within);
        }
    }

    /// It lives, and nothing that it is told reaches it: a stop would not either.
    pub(crate) fn silent(&mut self, turn: &mut Turn<'_>, after: Duration) {
        match self.state {
            State::Starting(Attempt { incarnation, .. }) | State::Serving { incarnation, .. } => {
                self.state = kill(turn, incarnation, Why::Silent { after });
            }
            State::Retiring { incarnation, .. } => {
                self.state = kill(turn, incarnation, Why::Asked(Then::Forget));
            }
            _ => self.without_patience(turn),
        }
    }

    pub(crate) fn drained(&mut self, turn: &mut Turn<'_>) {
        if let State::Draining {
            incarnation, then, ..
        } = self.state
        {
            self.state = terminate(turn, incarnation, Why::Asked(then));
        }
    }

    // The exit, not the kill, frees the ports: a killed process may still hold them.
    pub(crate) fn exited(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        if let Some(incarnation) = self.incarnation() {
            turn.over(incarnation);
        }
        self.record.sessions = false;
        self.forget_failures_if_stable(turn);
        match self.take_state() {
            State::Starting(attempt) => match cause {
                EndCause::PortTaken { .. } => self.try_next_port(turn, attempt, cause),
                _ => self.ended(turn, cause),
            },
            State::Serving { .. } => self.ended(turn, cause),
            State::Retiring { .. } => self.proceed(turn, Then::Forget),
            State::Draining { then, .. } => self.proceed(turn, then),
            State::Ending { why, .. } => match why {
                Why::Asked(then) => self.proceed(turn, then),
                Why::StartTimedOut { after } => {
                    self.ended(turn, EndCause::StartTimedOut { after });
                }
                Why::Silent { after } => self.ended(turn, EndCause::Silent { after }),
            },
            lifeless => self.state = lifeless,
        }
    }

    pub(super) fn forget_failures_if_stable(&mut self, turn: &Turn<'_>) {
        if let State::Serving { since, .. } = self.state
            && turn.now.saturating_duration_since(since) >= turn.settings().stable_after
        {
            self.record.failures = 0;
        }
    }

    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        if self.deadline().is_none_or(|deadline| turn.now < deadline) {
            return;
        }
        match self.take_state() {
            State::Starting(attempt) => {
                let after = self.patience(turn, attempt.phase);
                let why = Why::StartTimedOut { after };
                self.state = terminate(turn, attempt.incarnation, why);
            }
            retiring @ State::Retiring { .. } => {
                self.state = retiring;
                self.wind_down(turn, Then::Forget);
            }
            State::Draining {
                incarnation, then, ..
            } => self.state = terminate(turn, incarnation, Why::Asked(then)),
            State::Ending {
                incarnation, why, ..
            } => self.state = kill(turn, incarnation, why),
            State::Waiting { cause, .. } => self.start_again(turn, cause),
            timeless => self.state = timeless,
        }
    }
}
