//! The moves from state to state that several commands and events share.

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use par_model::control::EndCause;

use super::{Attempt, Life, Phase, Record, Standing, State, Then, Why};
use crate::note::What;
use crate::turn::Turn;
use crate::verdict::{Past, Verdict};
use crate::{Action, Incarnation};

impl Life {
    /// A restart by policy.
    pub(super) fn start_again(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        self.record.failures += 1;
        self.record.restarts += 1;
        self.record.recent.push_back(turn.now);
        self.start_on_any_port(turn, Some(cause));
    }

    pub(super) fn start_on_any_port(&mut self, turn: &mut Turn<'_>, after: Option<EndCause>) {
        let tried = BTreeSet::new();
        match self.lease(turn, &tried) {
            Some(incarnation) => self.spawn(turn, incarnation, tried, after),
            None => self.fail(turn, EndCause::NoPortFree),
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
            return self.fail(turn, taken);
        }
        match self.lease(turn, &tried) {
            Some(next) => self.spawn(turn, next, tried, after),
            None => self.fail(turn, taken),
        }
    }

    /// A place for it to live in; `None` when no port is free.
    pub(crate) fn lease(&self, turn: &mut Turn<'_>, tried: &BTreeSet<u16>) -> Option<Incarnation> {
        let (release, last) = (self.deployment.release, self.latest.map(|it| it.port));
        turn.incarnation(&self.agent, self.slot, release, last, tried)
    }

    pub(super) fn spawn(
        &mut self,
        turn: &mut Turn<'_>,
        incarnation: Incarnation,
        tried: BTreeSet<u16>,
        after: Option<EndCause>,
    ) {
        let phase = Phase::Preparing;
        self.latest = Some(incarnation);
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
            slot: self.slot,
            release: incarnation.release,
            port: incarnation.port,
            grpc_port: incarnation.grpc_port,
        });
        self.tell(turn, What::Starting);
    }

    /// It ended, and nobody had asked for it.
    pub(super) fn ended(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        if self.record.standing != Standing::Proven {
            return self.fail(turn, cause);
        }
        let policy = self.deployment.restart;
        let past = self.record.past(turn.now, policy.period);
        match Verdict::of(&policy, past, &cause) {
            Verdict::Stopped => {
                self.tell(turn, What::Exited(cause));
                self.state = State::Stopped;
            }
            Verdict::Crashed => {
                self.tell(turn, What::Crashed(cause.clone()));
                self.state = State::Crashed { cause };
            }
            Verdict::RestartIn(after) => {
                self.tell(turn, What::Exited(cause.clone()));
                self.tell(turn, What::Restarting { after });
                if after.is_zero() {
                    return self.start_again(turn, cause);
                }
                let until = turn.after(after);
                self.state = State::Waiting { until, cause };
            }
        }
    }

    fn fail(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        self.tell(turn, What::Failed(cause.clone()));
        self.state = State::Failed { cause };
    }

    /// It ended as somebody had asked.
    pub(super) fn proceed(&mut self, turn: &mut Turn<'_>, then: Then) {
        match then {
            Then::Rest => {
                self.tell(turn, What::Stopped);
                self.state = State::Stopped;
            }
            Then::Sleep => {
                self.tell(turn, What::Slept);
                self.state = State::Asleep;
            }
            Then::Forget => {
                self.tell(turn, What::Stopped);
                self.state = State::Gone;
            }
            Then::Wake => self.start_on_any_port(turn, None),
            Then::Start => {
                let standing = match self.record.standing {
                    Standing::New => Standing::New,
                    Standing::Renewed | Standing::Proven => Standing::Renewed,
                };
                self.record = Record::beginning_as(standing);
                self.start_on_any_port(turn, None);
            }
        }
    }

    pub(super) fn wind_down(&mut self, turn: &mut Turn<'_>, then: Then) {
        self.state = match self.take_state() {
            State::Starting(attempt) => terminate(turn, attempt.incarnation, Why::Asked(then)),
            State::Serving { incarnation, .. } | State::Retiring { incarnation, .. } => {
                let within = turn.settings().drain_timeout;
                self.drain(turn, incarnation, then, within)
            }
            State::Draining {
                incarnation,
                deadline,
                then: before,
            } => State::Draining {
                incarnation,
                deadline: hurry(turn, incarnation, deadline),
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
                    Why::StartTimedOut { .. } | Why::Silent { .. } => then,
                }),
            },
            lifeless => lifeless,
        };
    }

    pub(super) fn drain(
        &self,
        turn: &mut Turn<'_>,
        incarnation: Incarnation,
        then: Then,
        within: Duration,
    ) -> State {
        turn.actions.push(Action::Drain {
            replica: incarnation.replica,
            within,
        });
        self.tell(turn, What::Draining);
        State::Draining {
            incarnation,
            deadline: turn.after(within),
            then,
        }
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

    pub(crate) fn tell(&self, turn: &mut Turn<'_>, what: What) {
        let replica = self.latest.map(|it| it.replica);
        turn.tell(&self.agent, self.deployment.release, replica, what);
    }

    /// Leaves a placeholder: every caller puts the next state in its place.
    pub(super) fn take_state(&mut self) -> State {
        mem::replace(&mut self.state, State::Stopped)
    }
}

impl Record {
    fn past(&mut self, now: Instant, period: Duration) -> Past {
        while self
            .recent
            .front()
            .is_some_and(|at| now.duration_since(*at) >= period)
        {
            self.recent.pop_front();
        }
        Past {
            unstable: self.failures,
            recent: u32::try_from(self.recent.len()).unwrap_or(u32::MAX),
        }
    }
}

/// One that took its time because another had its place has as little as any other that is to end.
fn hurry(turn: &mut Turn<'_>, incarnation: Incarnation, deadline: Instant) -> Instant {
    let within = turn.settings().drain_timeout;
    let soon = turn.after(within);
    if deadline <= soon {
        return deadline;
    }
    turn.actions.push(Action::Drain {
        replica: incarnation.replica,
        within,
    });
    soon
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
