//! The life of one agent: a chain of incarnations, never two at a time.

use std::collections::BTreeSet;
use std::mem;
use std::time::{Duration, Instant};

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::turn::Turn;
use crate::verdict::Verdict;
use crate::{Action, Deployment, Incarnation, Refusal};

#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) agent: AgentId,
    pub(crate) deployment: Deployment,
    pub(crate) record: Record,
    pub(crate) state: State,
}

/// What is remembered since the agent was last started by hand.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) standing: Standing,
    /// Restarts without a stable time of serving between them.
    failures: u32,
    pub(crate) restarts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Has not come up yet: it fails at once, and nobody waits for it.
    New,
    /// Restarted by hand while it had a standing: it fails at once too, but callers know it and wait.
    Renewed,
    /// Has served: it is started again by policy, and callers wait.
    Proven,
}

#[derive(Debug)]
pub(crate) enum State {
    Starting(Attempt),
    Serving {
        incarnation: Incarnation,
        since: Instant,
    },
    Draining {
        incarnation: Incarnation,
        deadline: Instant,
        then: Then,
    },
    Ending {
        incarnation: Incarnation,
        /// `None`: it has been killed.
        kill_at: Option<Instant>,
        why: Why,
    },
    Waiting {
        until: Instant,
        cause: EndCause,
    },
    Stopped,
    Failed {
        cause: EndCause,
    },
    Crashed {
        cause: EndCause,
    },
    /// Removed; the fleet forgets it in the same turn.
    Gone,
}

#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) incarnation: Incarnation,
    phase: Phase,
    pub(crate) give_up: Instant,
    /// Ports that turned out to be taken.
    tried: BTreeSet<u16>,
    /// Why the incarnation before ended, if this is a restart.
    pub(crate) after: Option<EndCause>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Preparing,
    Loading,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    Asked(Then),
    StartTimedOut { after: Duration },
}

/// What follows when the exit has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Then {
    Rest,
    Start,
    Forget,
}

impl Then {
    /// The latest word counts, but what is to be forgotten stays so.
    fn overruled_by(self, later: Self) -> Self {
        match self {
            Self::Forget => Self::Forget,
            Self::Rest | Self::Start => later,
        }
    }
}

/// Commands.
impl Life {
    pub(crate) fn new(agent: AgentId, deployment: Deployment) -> Self {
        Self {
            agent,
            deployment,
            record: Record::beginning_as(Standing::New),
            state: State::Stopped,
        }
    }

    pub(crate) fn start(
        &mut self,
        turn: &mut Turn<'_>,
        replacement: Option<Deployment>,
    ) -> Result<(), Refusal> {
        match self.state {
            State::Starting(_) | State::Serving { .. } => {
                Err(Refusal::AlreadyRuns(self.agent.clone()))
            }
            State::Draining { .. } | State::Ending { .. } | State::Gone => {
                Err(Refusal::StillStopping(self.agent.clone()))
            }
            State::Waiting { .. }
            | State::Stopped
            | State::Failed { .. }
            | State::Crashed { .. } => self.begin(turn, replacement, Standing::New),
        }
    }

    pub(crate) fn restart(
        &mut self,
        turn: &mut Turn<'_>,
        replacement: Option<Deployment>,
    ) -> Result<(), Refusal> {
        match self.state {
            State::Draining { then, .. }
            | State::Ending {
                why: Why::Asked(then),
                ..
            } if then == Then::Forget => Err(Refusal::StillStopping(self.agent.clone())),
            State::Waiting { .. } => self.begin(turn, replacement, Standing::Renewed),
            _ if self.incarnation().is_some() => {
                self.deployment = replacement.unwrap_or(self.deployment);
                self.wind_down(turn, Then::Start);
                Ok(())
            }
            _ => self.begin(turn, replacement, Standing::New),
        }
    }

    pub(crate) fn stop(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            State::Waiting { .. } => self.state = State::Stopped,
            _ => self.wind_down(turn, Then::Rest),
        }
    }

    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>) {
        match self.incarnation() {
            Some(_) => self.wind_down(turn, Then::Forget),
            None => self.state = State::Gone,
        }
    }

    pub(crate) fn kill(&mut self, turn: &mut Turn<'_>) {
        self.stop(turn);
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

/// News.
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

/// What follows from them.
impl Life {
    /// A start by hand.
    fn begin(
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
    fn start_again(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
        let tried = BTreeSet::new();
        match turn.incarnation(&self.agent, self.deployment.release, &tried) {
            Some(incarnation) => {
                self.record.restarts += 1;
                self.spawn(turn, incarnation, tried, Some(cause));
            }
            None => self.fail(EndCause::NoPortFree),
        }
    }

    fn try_next_port(&mut self, turn: &mut Turn<'_>, attempt: Attempt, taken: EndCause) {
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
    fn ended(&mut self, turn: &mut Turn<'_>, cause: EndCause) {
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
    fn proceed(&mut self, turn: &mut Turn<'_>, then: Then) {
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

    fn wind_down(&mut self, turn: &mut Turn<'_>, then: Then) {
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

    fn withdraw(&self, turn: &mut Turn<'_>, incarnation: Incarnation) {
        turn.actions.push(Action::Withdraw {
            agent: self.agent.clone(),
            replica: incarnation.replica,
        });
    }

    fn patience(&self, turn: &Turn<'_>, phase: Phase) -> Duration {
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
    fn take_state(&mut self) -> State {
        mem::replace(&mut self.state, State::Stopped)
    }
}

/// What is so.
impl Life {
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match self.state {
            State::Starting(Attempt { give_up: at, .. })
            | State::Waiting { until: at, .. }
            | State::Draining { deadline: at, .. } => Some(at),
            State::Ending { kill_at, .. } => kill_at,
            State::Serving { .. }
            | State::Stopped
            | State::Failed { .. }
            | State::Crashed { .. }
            | State::Gone => None,
        }
    }

    pub(crate) fn incarnation(&self) -> Option<Incarnation> {
        match self.state {
            State::Starting(Attempt { incarnation, .. })
            | State::Serving { incarnation, .. }
            | State::Draining { incarnation, .. }
            | State::Ending { incarnation, .. } => Some(incarnation),
            State::Waiting { .. }
            | State::Stopped
            | State::Failed { .. }
            | State::Crashed { .. }
            | State::Gone => None,
        }
    }

    fn incarnation_mut(&mut self) -> Option<&mut Incarnation> {
        match &mut self.state {
            State::Starting(Attempt { incarnation, .. })
            | State::Serving { incarnation, .. }
            | State::Draining { incarnation, .. }
            | State::Ending { incarnation, .. } => Some(incarnation),
            _ => None,
        }
    }

    pub(crate) fn is_incarnated_as(&self, replica: ReplicaId) -> bool {
        self.incarnation()
            .is_some_and(|incarnation| incarnation.replica == replica)
    }
}

impl Record {
    fn beginning_as(standing: Standing) -> Self {
        Self {
            standing,
            failures: 0,
            restarts: 0,
        }
    }
}

fn terminate(turn: &mut Turn<'_>, incarnation: Incarnation, why: Why) -> State {
    turn.actions.push(Action::Terminate(incarnation.replica));
    State::Ending {
        incarnation,
        kill_at: Some(turn.after(turn.settings().stop_grace)),
        why,
    }
}

fn kill(turn: &mut Turn<'_>, incarnation: Incarnation, why: Why) -> State {
    turn.actions.push(Action::Kill(incarnation.replica));
    State::Ending {
        incarnation,
        kill_at: None,
        why,
    }
}
