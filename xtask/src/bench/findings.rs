//! Everything that one run found out.

use std::path::PathBuf;

use serde::Serialize;

use super::Part;
use super::calls::{self, Calls};
use super::door::{self, Door};
use super::execution::{self, Execution};
use super::extent::Extent;
use super::goals::{Goal, goals};
use super::harness::{self, Frames};
use super::idle::{self, Idle};
use super::known::{self, Known};
use super::lifecycle::Lifecycle;
use super::machine::{Machine, load_average};
use super::size::{self, Size};
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
    /// What was not asked for is `None`.
    #[serde(flatten)]
    pub(crate) work: Option<Work>,
    #[serde(flatten)]
    pub(crate) lifecycle: Option<Lifecycle>,
    pub(crate) door: Option<Door>,
}

/// What work costs, and what it takes to be there for it.
#[derive(Serialize)]
pub(crate) struct Work {
    pub(crate) calls: Calls,
    pub(crate) grpc_calls: Calls,
    pub(crate) execution: Execution,
    pub(crate) known: Known,
    pub(crate) harness: Vec<Frames>,
    pub(crate) idle: Idle,
    pub(crate) size: Size,
}

impl Findings {
    pub(crate) async fn gather(
        binary: Option<PathBuf>,
        extent: Extent,
        only: Option<Part>,
    ) -> anyhow::Result<Self> {
        let load_before = load_average()?;
        let workshop = Workshop::open(binary).await?;
        let lifecycle = match only {
            None | Some(Part::Lifecycle) => Some(Lifecycle::measure(&workshop, &extent).await?),
            _ => None,
        };
        let work = match only {
            None | Some(Part::Work) => Some(Work::measure(&workshop, &extent).await?),
            _ => None,
        };
        let door = match only {
            None | Some(Part::Door) => Some(door::measure(&workshop, &extent).await?),
            _ => None,
        };
        let measured = Measured {
            machine: Machine::look(&workshop, load_before).await?,
            extent,
            work,
            lifecycle,
            door,
        };
        Ok(Self {
            goals: goals(&measured),
            measured,
        })
    }
}

impl Work {
    async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Self> {
        Ok(Self {
            idle: idle::measure(workshop).await?,
            harness: harness::measure(workshop, extent).await?,
            calls: calls::measure(workshop, extent).await?,
            grpc_calls: calls::grpc::measure(workshop, extent).await?,
            execution: execution::measure(workshop, extent).await?,
            known: known::measure(workshop, extent).await?,
            size: size::measure(workshop).await?,
        })
    }
}
