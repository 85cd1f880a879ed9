//! What happens to the incarnation of one agent.

use par_model::control::EndCause;

use super::moves::{kill, terminate};
use super::{Attempt, Life, Phase, Standing, State, Why};
use crate::Action;
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
        };
        turn.actions.push(Action::Publish {
            agent: self.agent.clone(),
            replica: incarnation.replica,
        });
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
        match self.take_state() {
            State::Starting(attempt) => match cause {
                EndCause::PortTaken { .. } => self.try_next_port(turn, attempt, cause),
                _ => self.ended(turn, cause),
            },
            State::Serving { incarnation, since } => {
                self.withdraw(turn, incarnation);
                if turn.now - since >= turn.settings().stable_after {
                    self.record.failures = 0;
                }
                self.ended(turn, cause);
            }
            State::Draining { then, .. } => self.proceed(turn, then),
            State::Ending { why, .. } => match why {
                Why::Asked(then) => self.proceed(turn, then),
                Why::StartTimedOut { after } => {
                    self.ended(turn, EndCause::StartTimedOut { after });
                }
            },
            lifeless => self.state = lifeless,
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
