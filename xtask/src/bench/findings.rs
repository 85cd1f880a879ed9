//! Everything that one run found out.

use std::path::PathBuf;

use serde::Serialize;

use super::calls::{self, Calls};
use super::deploy::{self, Deploys};
use super::execution::{self, Execution};
use super::extent::Extent;
use super::goals::{Goal, goals};
use super::harness::{self, Frames};
use super::idle::{self, Idle};
use super::known::{self, Known};
use super::machine::{Machine, load_average};
use super::restart::{self, Restarts};
use super::size::{self, Size};
use super::start::{self, Starts};
use super::workshop::Workshop;

#[derive(Serialize)]
pub(crate) struct Findings {
    pub(crate) goals: Vec<Goal>,
    #[serde(flatten)]
    pub(crate) measured: Measured,
}

#[derive(Serialize)]
pub(crate) struct Measured {
    pub(crate) machine: Machine,
    pub(crate) extent: Extent,
    pub(crate) calls: Calls,
    pub(crate) grpc_calls: Calls,
    pub(crate) execution: Execution,
    pub(crate) known: Known,
    pub(crate) harness: Vec<Frames>,
    pub(crate) deploys: Deploys,
    pub(crate) restarts: Restarts,
    pub(crate) starts: Starts,
    pub(crate) idle: Idle,
    pub(crate) size: Size,
}

impl Findings {
    pub(crate) async fn gather(binary: Option<PathBuf>, extent: Extent) -> anyhow::Result<Self> {
        let load_before = load_average()?;
        let workshop = Workshop::open(binary).await?;
        let idle = idle::measure(&workshop).await?;
        let starts = start::measure(&workshop, &extent).await?;
        let deploys = deploy::measure(&workshop, &extent).await?;
        let restarts = restart::measure(&workshop, &extent).await?;
        let harness = harness::measure(&workshop, &extent).await?;
        let calls = calls::measure(&workshop, &extent).await?;
        let grpc_calls = calls::grpc::measure(&workshop, &extent).await?;
        let execution = execution::measure(&workshop, &extent).await?;
        let known = known::measure(&workshop, &extent).await?;
        let measured = Measured {
            machine: Machine::look(&workshop, load_before).await?,
            size: size::measure(&workshop).await?,
            extent,
            calls,
            grpc_calls,
            execution,
            known,
            harness,
            deploys,
            restarts,
            starts,
            idle,
        };
        Ok(Self {
            goals: goals(&measured),
            measured,
        })
    }
}
