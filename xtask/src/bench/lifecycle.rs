//! What becomes of agents, and what a caller notices of it: they come, sleep, wake, crash, change, and see supervisors
//! go.

mod asleep;
mod changes;
pub(crate) mod goals;
pub(crate) mod report;
mod succession;
mod traffic;
mod wake;

use serde::Serialize;

use super::deploy::{self, Deploys};
use super::extent::Extent;
use super::restart::{self, Restarts};
use super::start::{self, Starts};
use super::statistics::Spread;
use super::workshop::Workshop;
use asleep::Asleep;
use changes::Change;
use wake::Wakes;

#[derive(Serialize)]
pub(crate) struct Lifecycle {
    pub(crate) deploys: Deploys,
    pub(crate) restarts: Restarts,
    pub(crate) starts: Starts,
    pub(crate) asleep: Asleep,
    pub(crate) wakes: Wakes,
    /// From the start of the next supervisor until all agents of the one that was killed have answered.
    pub(crate) succession: Spread,
    pub(crate) changes: Vec<Change>,
}

impl Lifecycle {
    pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Self> {
        Ok(Self {
            starts: start::measure(workshop, extent).await?,
            deploys: deploy::measure(workshop, extent).await?,
            restarts: restart::measure(workshop, extent).await?,
            asleep: asleep::measure(workshop, extent).await?,
            wakes: wake::measure(workshop, extent).await?,
            succession: succession::measure(workshop, extent).await?,
            changes: changes::measure(workshop, extent).await?,
        })
    }
}
