//! The first call to an agent that is asleep, until its answer.

use std::time::{Duration, Instant};

use anyhow::ensure;
use serde::Serialize;
use serde_json::json;

use crate::bench::answer::post_json;
use crate::bench::connection::ask;
use crate::bench::extent::Extent;
use crate::bench::peers::supervisor::{Supervisor, invoke_path};
use crate::bench::progress;
use crate::bench::statistics::Spread;
use crate::bench::workshop::Workshop;

const EXAMPLE: &str = "hello";
const SOON: f64 = 0.1;
const NEVER: f64 = 3600.0;
/// It sleeps for so long before it is called: nothing of its falling asleep is under way any more.
const ASLEEP: Duration = Duration::from_millis(100);

#[derive(Serialize)]
pub(crate) struct Wakes {
    pub(crate) awake: Spread,
    pub(crate) frozen: Spread,
    pub(crate) stopped: Spread,
}

pub(super) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Wakes> {
    progress("waking")?;
    let supervisor = workshop.supervisor().await?;
    let package = workshop.example(EXAMPLE).await?;
    let deploy = async |agent: &str, freeze: f64, stop: f64| {
        let idle = json!({ "idle_timeout_seconds": freeze, "idle_stop_seconds": stop });
        supervisor.deploy_with(agent, &package, idle).await
    };
    deploy("awake", NEVER, NEVER).await?;
    deploy("frozen", SOON, NEVER).await?;
    deploy("stopped", SOON, SOON).await?;
    let wakes = async |agent: &str, idle: Option<&str>| {
        let mut times = vec![];
        for _ in 0..extent.wakes {
            times.push(wake(&supervisor, agent, idle).await?);
        }
        anyhow::Ok(Spread::of(&times))
    };
    Ok(Wakes {
        awake: wakes("awake", None).await?,
        frozen: wakes("frozen", Some("frozen")).await?,
        stopped: wakes("stopped", Some("stopped")).await?,
    })
}

/// Of a caller with a new connection.
async fn wake(
    supervisor: &Supervisor,
    agent: &str,
    idle: Option<&str>,
) -> anyhow::Result<Duration> {
    supervisor
        .wait_for(agent, |process| process["idle"].as_str() == idle)
        .await?;
    tokio::time::sleep(ASLEEP).await;
    let call = post_json(&invoke_path(agent), &json!({ "name": "bench" }));
    let begun = Instant::now();
    let answer = ask(supervisor.address, &call).await?;
    let took = begun.elapsed();
    let body = String::from_utf8_lossy(&answer.body);
    ensure!(
        answer.status == 200 && body.contains("Hello, bench!"),
        "`{agent}` answered {}: {body}",
        answer.status
    );
    Ok(took)
}
