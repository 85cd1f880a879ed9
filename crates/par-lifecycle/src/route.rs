//! Where calls to an agent go.

use std::collections::BTreeMap;

use par_model::{AgentId, ReplicaId};

use crate::life::{Life, Standing, State, Then};

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
        let starts = matches!(self.state, State::Starting(_)) || self.then() == Some(Then::Start);
        match self.state {
            State::Serving { incarnation, .. } => Route::Ready(incarnation.replica),
            _ if starts && self.record.standing != Standing::New => Route::Soon,
            _ => Route::Down,
        }
    }
}
