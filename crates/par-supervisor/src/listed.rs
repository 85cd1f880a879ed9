//! The agents that `par.toml` lists.

use par_lifecycle::Beside;
use par_model::AgentId;
use par_package::Package;
use tracing::{info, warn};

use crate::api::{Intake, Outcome, ask, outcome_of};
use crate::catalog::{Made, with_roles_of};
use crate::config::FileAgent;
use crate::message::{CommandError, Control};

/// Starts them side by side. What cannot be started is said and hinders nobody else.
pub(crate) async fn start_all(agents: Vec<FileAgent>, control: Control, intake: Intake) {
    let starts = agents
        .into_iter()
        .map(|listed| start(listed, control.clone(), intake.clone()));
    futures_util::future::join_all(starts).await;
}

async fn start(mut listed: FileAgent, control: Control, intake: Intake) {
    let shown = listed.package.display().to_string();
    let package = match intake.admit_in_the_background(listed.package.clone()).await {
        Ok(package) => package,
        Err(error) => {
            return warn!(
                package = shown,
                error = crate::chain(&error),
                "a listed agent was not started"
            );
        }
    };
    listed.options = with_roles_of(listed.options, &package);
    let agent = match name_of(&listed, &package) {
        Ok(agent) => agent,
        Err(error) => return warn!(package = shown, %error, "a listed agent was not started"),
    };
    ask(&mut listed.options, &package.manifest);
    if is_there(&control, &agent, &listed, &package) {
        return info!(%agent, "listed agent is there, as it was left");
    }
    let made = Made {
        agent: agent.clone(),
        package_id: package.label(),
        digest: package.digest,
        package: package.root,
        env: listed.env,
        secrets: Default::default(),
        options: listed.options,
        note: None,
        unusable: None,
    };
    match control.deploy(made, Beside::Roll).await {
        Ok(release) => match outcome_of(&control, &agent, release, |_| {}).await {
            Outcome::Ready { port, .. } => info!(%agent, port, "listed agent is ready"),
            Outcome::Failed(cause) => warn!(%agent, %cause, "a listed agent did not start"),
            Outcome::Withdrawn | Outcome::Unknown => {}
        },
        Err(error @ CommandError::OnlyNow(_)) => warn!(%agent, %error, "a listed agent is started"),
        Err(error) => warn!(%agent, %error, "a listed agent was not started"),
    }
}

fn name_of(listed: &FileAgent, package: &Package) -> Result<AgentId, par_model::id::InvalidId> {
    match &listed.id {
        Some(agent) => Ok(agent.clone()),
        None => package.manifest.name.to_string().parse(),
    }
}

/// Whether an agent is known that is just what the file lists: then it is as whoever used it last wanted it.
fn is_there(control: &Control, agent: &AgentId, listed: &FileAgent, package: &Package) -> bool {
    let snapshot = control.snapshot();
    snapshot.agents.get(agent).is_some_and(|known| {
        known.made.digest == package.digest
            && known.made.env == listed.env
            && known.made.options == listed.options
    })
}
