//! From the first byte of an upload to the first answer of its agent.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use super::answer::post_json;
use super::connection::ask;
use super::extent::Extent;
use super::peers::supervisor::{Supervisor, invoke_path};
use super::progress;
use super::statistics::Spread;
use super::workshop::Workshop;

#[derive(Serialize)]
pub(crate) struct Deploys {
    /// Of a package that the supervisor has never seen.
    pub(crate) new_package: Spread,
    /// Of one that is in its store already.
    pub(crate) known_package: Spread,
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Deploys> {
    progress("deploy to first answer")?;
    let supervisor = workshop.supervisor().await?;
    // The first one finds nothing in any cache.
    deploy(&supervisor, "first", &package(workshop, 0).await?).await?;
    let (mut new, mut known) = (vec![], vec![]);
    for number in 1..=extent.deploys {
        let package = package(workshop, number).await?;
        new.push(deploy(&supervisor, &format!("new-{number}"), &package).await?);
        known.push(deploy(&supervisor, &format!("known-{number}"), &package).await?);
    }
    Ok(Deploys {
        new_package: Spread::of(&new),
        known_package: Spread::of(&known),
    })
}

async fn package(workshop: &Workshop, number: usize) -> anyhow::Result<Vec<u8>> {
    let source = format!("# {number}\ndef invoke(body):\n    return {{\"x\": body[\"x\"]}}\n");
    workshop.package(&source).await
}

async fn deploy(supervisor: &Supervisor, agent: &str, package: &[u8]) -> anyhow::Result<Duration> {
    let call = post_json(&invoke_path(agent), &json!({ "x": 1 }));
    let began = Instant::now();
    supervisor.deploy(agent, package).await?;
    let answer = ask(supervisor.address, &call).await?;
    let took = began.elapsed();
    let body = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200,
        "the first call was answered {}: {body}",
        answer.status
    );
    supervisor.remove(agent).await?;
    Ok(took)
}
