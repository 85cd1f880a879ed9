//! Before a deployment: where the release asks to go and may not yet. On a terminal the operator is asked.

use std::io::{self, BufRead as _, IsTerminal as _, Write as _};

use par_model::AgentId;
use par_model::api::{DeployOptions, Network};
use par_model::network::Destination;
use par_package::{Limits, inspect};
use tokio::task::spawn_blocking;

use super::Context;
use super::network::path;
use super::packing::Package;

/// Grants what the operator says yes to; without a terminal, nothing.
pub(super) async fn ask(
    context: &Context,
    package: &Package,
    options: &mut DeployOptions,
) -> anyhow::Result<()> {
    if context.terminal.json || !io::stdin().is_terminal() || context.terminal.err.width.is_none() {
        return Ok(());
    }
    let file = package.path().to_owned();
    let inspected = spawn_blocking(move || inspect(&file, &Limits::default())).await?;
    // What is wrong with a package is told when it is deployed.
    let Ok(inspection) = inspected else {
        return Ok(());
    };
    let name = inspection
        .label
        .as_deref()
        .and_then(|it| it.split('@').next());
    let named = options.agent_id.as_deref().or(name);
    let Some(agent) = named.and_then(|name| name.parse::<AgentId>().ok()) else {
        return Ok(());
    };
    let mut asked = inspection.network;
    asked.extend(options.options.network.iter().cloned());
    asked.sort();
    asked.dedup();
    asked.retain(|it| !options.grant_network.contains(it));
    if asked.is_empty() {
        return Ok(());
    }
    let known: Network = context.client.get(&path(&agent, "")).await?;
    asked.retain(|it| {
        !known
            .granted
            .iter()
            .any(|granted| granted.destination == it.to_string())
    });
    if !asked.is_empty() && confirmed(&agent, &asked)? {
        options.grant_network.extend(asked);
    }
    Ok(())
}

fn confirmed(agent: &AgentId, asked: &[Destination]) -> io::Result<bool> {
    let mut terminal = io::stderr().lock();
    writeln!(terminal, "{agent} asks to reach, for the first time:")?;
    for destination in asked {
        writeln!(terminal, "  {destination}")?;
    }
    write!(terminal, "Grant it? [y/N] ")?;
    terminal.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str()))
}
