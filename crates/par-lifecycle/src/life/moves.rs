//! The moves from state to state that several commands and events share.

use std::collections::BTreeSet;
use std::mem;
use std::time::Duration;

use par_model::control::EndCause;

use super::{Attempt, Life, Phase, Record, Standing, State, Then, Why};
use crate::turn::Turn;
use crate::verdict::Verdict;
use crate::{Action, Deployment, Incarnation, Refusal};

impl Life {
    /// A start by hand.
    pub(super) fn begin(
        &mut self,
        turn: &mut Turn<'_>,
        replacement: Option<Deployment>,
        standing: Standing,
    ) -> Result<(), Refusal> {
        let deployment = replacement.unwrap_or(self.deployment);
        let tried = BTreeSet::new();
        let incarnation = turn
            .incarnation(&self.agent, deployment.release, &tried)
            .ok_or(Refusal::NoPortFree)?;
        self.deployment = deployment;
        self.record = Record::beginning_as(standing);
        self.spawn(turn, incarnation, tried, None);
        Ok(())
    }

    /// A restart by policy.
    pub(super) fn start_again(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        let tried = BTreeSet::new();
        match turn.incarnation(&self.agent, self.deployment.release, &tried) {
            Some(incarnation) => {
                self.record.restarts += 1;
                self.spawn(turn, incarnation, tried, Some(cause));
            }
            None => self.fail(EndCause::NoPortFree),
        }
    }

    pub(super) fn try_next_port(&mut self, turn: &mut Turn<'_>, attempt: Attempt, taken: EndCause) {
        let Attempt {
            incarnation,
            mut tried,
            after,
            ..
        } = attempt;
        tried.insert(incarnation.port);
        if tried.len() >= turn.settings().port_tries {
            return self.fail(taken);
        }
        match turn.incarnation(&self.agent, self.deployment.release, &tried) {
            Some(next) => self.spawn(turn, next, tried, after),
            None => self.fail(taken),
        }
    }

    fn spawn(
        &mut self,
        turn: &mut Turn<'_>,
        incarnation: Incarnation,
        tried: BTreeSet<u16>,
        after: Option<EndCause>,
    ) {
        let phase = Phase::Preparing;
        self.state = State::Starting(Attempt {
            incarnation,
            phase,
            give_up: turn.after(self.patience(turn, phase)),
            tried,
            after,
        });
        turn.actions.push(Action::Spawn {
            replica: incarnation.replica,
            agent: self.agent.clone(),
            release: incarnation.release,
            port: incarnation.port,
            grpc_port: incarnation.grpc_port,
        });
    }

    /// It ended, and nobody had asked for it.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        if self.record.standing != Standing::Proven {
            return self.fail(cause);
        }
        let policy = &self.deployment.restart;
        match Verdict::of(policy, self.record.failures, &cause) {
            Verdict::Stopped => self.state = State::Stopped,
            Verdict::Crashed => self.state = State::Crashed { cause },
            Verdict::RestartIn(wait) => {
                self.record.failures += 1;
                if wait.is_zero() {
                    self.start_again(turn, cause);
                } else {
                    let until = turn.after(wait);
                    self.state = State::Waiting { until, cause };
                }
            }
        }
    }

    fn fail(&mut self, cause: EndCause) {
        self.state = State::Failed { cause };
    }

    /// It ended as somebody had asked.
    pub(super) fn proceed(&mut self, turn: &mut Turn<'_>, then: Then) {
        match then {
            Then::Rest => self.state = State::Stopped,
            Then::Forget => self.state = State::Gone,
            Then::Start => {
                let standing = match self.record.standing {
                    Standing::New => Standing::New,
                    Standing::Renewed | Standing::Proven => Standing::Renewed,
                };
                if self.begin(turn, None, standing).is_err() {
                    self.fail(EndCause::NoPortFree);
                }
            }
        }
    }

    pub(super) fn wind_down(&mut self, turn: &mut Turn<'_>, then: Then) {
        self.state = match self.take_state() {
            State::Starting(attempt) => terminate(turn, attempt.incarnation, Why::Asked(then)),
            State::Serving { incarnation, .. } => self.drain(turn, incarnation, then),
            State::Draining {
                incarnation,
                deadline,
                then: before,
            } => State::Draining {
                incarnation,
                deadline,
                then: before.overruled_by(then),
            },
            State::Ending {
                incarnation,
                kill_at,
                why,
            } => State::Ending {
                incarnation,
                kill_at,
                why: Why::Asked(match why {
                    Why::Asked(before) => before.overruled_by(then),
                    Why::StartTimedOut { .. } => then,
                }),
            },
            lifeless => lifeless,
        };
    }

    fn drain(&self, turn: &mut Turn<'_>, incarnation: Incarnation, then: Then) -> State {
        self.withdraw(turn, incarnation);
        let within = turn.settings().drain_timeout;
        turn.actions.push(Action::Drain {
            replica: incarnation.replica,
            within,
        });
        State::Draining {
            incarnation,
            deadline: turn.after(within),
            then,
        }
    }

    pub(super) fn withdraw(&self, turn: &mut Turn<'_>, incarnation: Incarnation) {
        turn.actions.push(Action::Withdraw {
            agent: self.agent.clone(),
            replica: incarnation.replica,
        });
    }

    pub(super) fn patience(&self, turn: &Turn<'_>, phase: Phase) -> Duration {
        let settings = turn.settings();
        match phase {
            Phase::Preparing => settings.prepare_timeout,
            Phase::Loading => self
                .deployment
                .start_timeout
                .unwrap_or(settings.start_timeout),
        }
    }

    /// Leaves a placeholder: every caller puts the next state in its place.
    pub(super) fn take_state(&mut self) -> State {
        mem::replace(&mut self.state, State::Stopped)
    }
}

pub(super) fn terminate(turn: &mut Turn<'_>, incarnation: Incarnation, why: Why) -> State {
    turn.actions.push(Action::Terminate(incarnation.replica));
    State::Ending {
        incarnation,
        kill_at: Some(turn.after(turn.settings().stop_grace)),
        why,
    }
}

pub(super) fn kill(turn: &mut Turn<'_>, incarnation: Incarnation, why: Why) -> State {
    turn.actions.push(Action::Kill(incarnation.replica));
    State::Ending {
        incarnation,
        kill_at: None,
        why,
    }
}
