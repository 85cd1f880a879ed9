//! The ways to the same trivial work, and the servers that open them.

pub(crate) mod environment;
pub(crate) mod nginx;
pub(crate) mod supervisor;
pub(crate) mod uvicorn;

use serde::Serialize;

use super::load::Call;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Worker,
    Supervisor,
    SupervisorAsync,
    Nginx,
    Uvicorn,
}

impl Way {
    pub(crate) fn leads_to_the_same_worker(self) -> bool {
        matches!(self, Self::Worker | Self::Supervisor | Self::Nginx)
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Worker => "direct to the worker",
            Self::Supervisor => "through the supervisor",
            Self::SupervisorAsync => "through the supervisor, async handler",
            Self::Nginx => "through nginx to the same worker",
            Self::Uvicorn => "uvicorn + FastAPI, direct",
        }
    }
}

/// A way that is open.
pub(crate) struct Open {
    pub(crate) way: Way,
    pub(crate) call: Call,
}

/// A way that is not, and why.
#[derive(Debug, Serialize)]
pub(crate) struct Missing {
    pub(crate) way: Way,
    pub(crate) reason: String,
}
