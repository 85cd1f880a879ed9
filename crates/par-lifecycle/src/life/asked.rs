//! What people ask of one agent.

use super::moves::kill;
use super::{Life, Standing, State, Then, Why};
use crate::turn::Turn;
use crate::{Deployment, Refusal};

impl Life {
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
        if self.then() == Some(Then::Forget) {
            return Err(Refusal::StillStopping(self.agent.clone()));
        }
        match self.state {
            State::Starting(_)
            | State::Serving { .. }
            | State::Draining { .. }
            | State::Ending { .. } => {
                self.deployment = replacement.unwrap_or(self.deployment);
                self.wind_down(turn, Then::Start);
                Ok(())
            }
            State::Waiting { .. } => self.begin(turn, replacement, Standing::Renewed),
            State::Stopped | State::Failed { .. } | State::Crashed { .. } | State::Gone => {
                self.begin(turn, replacement, Standing::New)
            }
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

    /// The same as a stop, without its patience.
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
