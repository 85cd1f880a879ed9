//! The ways to the same trivial work, and the servers that open them.

pub(crate) mod environment;
pub(crate) mod grpc_aio;
pub(crate) mod nginx;
pub(crate) mod supervisor;
pub(crate) mod uvicorn;

use serde::Serialize;

use super::call::Call;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    Worker,
    Supervisor,
    SupervisorAsync,
    Nginx,
    Uvicorn,
    WorkerGrpc,
    SupervisorGrpc,
    GrpcAio,
    Execute,
}

impl Way {
    pub(crate) fn leads_to_the_same_worker(self) -> bool {
        match self {
            Self::Worker | Self::Supervisor | Self::Nginx => true,
            Self::WorkerGrpc | Self::SupervisorGrpc => true,
            Self::SupervisorAsync | Self::Uvicorn | Self::GrpcAio | Self::Execute => false,
        }
    }

    /// The same, without anything between.
    pub(crate) fn direct(self) -> Self {
        match self {
            Self::SupervisorGrpc => Self::WorkerGrpc,
            Self::Supervisor | Self::SupervisorAsync | Self::Nginx => Self::Worker,
            direct => direct,
        }
    }

    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::Worker => "direct to the worker",
            Self::Supervisor => "through the supervisor",
            Self::SupervisorAsync => "through the supervisor, async handler",
            Self::Nginx => "through nginx to the same worker",
            Self::Uvicorn => "uvicorn + FastAPI, direct",
            Self::WorkerGrpc => "gRPC, direct to the worker",
            Self::SupervisorGrpc => "gRPC, through the supervisor",
            Self::GrpcAio => "gRPC, a grpc.aio server, direct",
            Self::Execute => "`1 + 1` in a session that is there",
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
