//! Where calls to an agent go.

use std::collections::BTreeMap;

use par_model::{AgentId, ReplicaId};

use crate::life::{Life, Standing, State, Then, Why};

pub type Routes = BTreeMap<AgentId, Route>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// To this incarnation.
    Ready(ReplicaId),
    /// Nowhere yet, but an agent that served is being started again: worth a short wait.
    Soon,
    /// Nowhere.
    Down,
}

impl Life {
    pub(crate) fn route(&self) -> Route {
        let soon_if_known = match self.record.standing {
            Standing::New => Route::Down,
            Standing::Renewed | Standing::Proven => Route::Soon,
        };
        match &self.state {
            State::Serving { incarnation, .. } => Route::Ready(incarnation.replica),
            State::Starting(_)
            | State::Draining {
                then: Then::Start, ..
            }
            | State::Ending {
                why: Why::Asked(Then::Start),
                ..
            } => soon_if_known,
            _ => Route::Down,
        }
    }
}
