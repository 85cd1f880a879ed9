//! One agent: the release that takes its calls, the one that comes in beside it, and those that leave.
//!
//! ```text
//!   Deploy          all replicas answer           drained
//!  ─────────▶ incoming ─────────────▶ current ──────────────▶ leaving ──▶ forgotten
//!                │  canary: waits for Promote,   another took its place      ▲
//!                │  with a share of the calls                                │
//!                └── failed, abandoned, superseded ──────────────────────────┘
//! ```

use std::time::Instant;

use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId};

use crate::desired::{Desired, Wanted};
use crate::group::Group;
use crate::life::{Life, State};
use crate::route::{Route, Targets};
use crate::{Deployment, Release};

mod asked;
mod canary;
mod restored;
mod scale;
mod settle;

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    pub(crate) desired: Desired,
    pub(crate) current: Group,
    pub(crate) incoming: Option<Incoming>,
    /// Lives that only end.
    pub(crate) leaving: Vec<Life>,
    /// The last release that was let go before it took the calls.
    pub(crate) failed: Option<(Release, EndCause)>,
    /// It is to be forgotten when nothing of it lives.
    removed: bool,
}

#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) group: Group,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Roll,
    Canary {
        permille: u16,
    },
    /// A canary on its way to all calls. It keeps its share until its other replicas answer.
    Promoted {
        permille: u16,
    },
}

impl Kind {
    /// The share of the calls that it takes before it takes all, in thousandths.
    pub(crate) fn share(self) -> Option<u16> {
        match self {
            Self::Roll => None,
            Self::Canary { permille } | Self::Promoted { permille } => Some(permille),
        }
    }

    /// It takes the place of the current release as soon as it can.
    fn takes_over(self) -> bool {
        match self {
            Self::Roll | Self::Promoted { .. } => true,
            Self::Canary { .. } => false,
        }
    }
}

impl Agent {
    /// At rest.
    pub(crate) fn new(id: AgentId, deployment: Deployment) -> Self {
        let current = Group::new(&id, deployment);
        Self {
            desired: Desired {
                wanted: Wanted::Up,
                replicas: current.replicas(),
                current: current.release(),
                canary: None,
            },
            id,
            current,
            incoming: None,
            leaving: vec![],
            failed: None,
            removed: false,
        }
    }

    pub(crate) fn lives(&self) -> impl Iterator<Item = &Life> {
        let incoming = self.incoming.iter().flat_map(|it| &it.group.lives);
        self.current
            .lives
            .iter()
            .chain(incoming)
            .chain(&self.leaving)
    }

    pub(crate) fn lives_mut(&mut self) -> impl Iterator<Item = &mut Life> {
        let incoming = self.incoming.iter_mut().flat_map(|it| &mut it.group.lives);
        let current = self.current.lives.iter_mut();
        current.chain(incoming).chain(&mut self.leaving)
    }

    pub(crate) fn incarnated_as(&mut self, replica: ReplicaId) -> Option<&mut Life> {
        self.lives_mut().find(|life| life.is_incarnated_as(replica))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let sleep = self.sleeps_at();
        self.lives().filter_map(Life::deadline).chain(sleep).min()
    }

    /// Nothing is put to sleep while another release comes in.
    fn sleeps_at(&self) -> Option<Instant> {
        match self.incoming {
            Some(_) => None,
            None => self.current.sleeps_at(),
        }
    }

    pub(crate) fn is_at_rest(&self) -> bool {
        self.lives().all(Life::is_at_rest)
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.removed && self.lives().all(Life::is_gone)
    }

    pub(crate) fn route(&self) -> Route {
        if self.removed {
            return Route::Down;
        }
        let targets = self.targets();
        if !targets.groups.is_empty() {
            return Route::Ready(targets);
        }
        if self.current.lives.iter().any(Life::is_awaited) {
            return Route::Soon;
        }
        if self.current.is_asleep() {
            return Route::Asleep;
        }
        Route::Down
    }

    fn targets(&self) -> Targets {
        let current = self.current.serving();
        let canary = self.incoming.as_ref().and_then(Incoming::canary);
        let mut groups = vec![];
        match canary {
            Some((_, canary)) if current.is_empty() => groups.push((1000, canary)),
            Some((permille, canary)) => {
                groups.push((1000 - permille, current));
                groups.push((permille, canary));
            }
            None if current.is_empty() => {}
            None => groups.push((1000, current)),
        }
        let retiring = self.leaving.iter().filter_map(|life| match life.state {
            State::Retiring { incarnation, .. } => Some(incarnation.replica),
            _ => None,
        });
        Targets {
            groups,
            leaving: retiring.collect(),
        }
    }
}

impl Incoming {
    /// The share of a canary, and its replicas that answer; none when none does.
    fn canary(&self) -> Option<(u16, Vec<ReplicaId>)> {
        let permille = self.kind.share()?;
        let serving = self.group.serving();
        (!serving.is_empty()).then_some((permille, serving))
    }
}
