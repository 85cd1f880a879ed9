//! `par releases`, `par rollback`, `par promote`, `par scale`.

use clap::Args;
use http::StatusCode;
use par_model::api::{Deployed, Done, ReleaseInfo};

use super::Context;
use crate::client::{ClientError, segment};
use crate::exit::{Exit, Problem};
use crate::terminal::{Cell, Column, Row, Style, Table};

#[derive(Args)]
#[command(after_help = "Examples:\n  par releases hello")]
pub(crate) struct Releases {
    /// An agent, as `par ps` lists it
    agent: String,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  \
        par rollback hello      let its canary go, or bring back what was there before\n  \
        par rollback hello 3    bring back release 3, as a new release\n\n\
        What comes back starts beside the current release, and takes the calls when it answers.")]
pub(crate) struct Rollback {
    /// An agent, as `par ps` lists it
    agent: String,
    /// A release, as `par releases` lists it
    release: Option<u32>,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  par deploy ./hello --canary 10\n  par promote hello")]
pub(crate) struct Promote {
    /// An agent, as `par ps` lists it
    agent: String,
}

#[derive(Args)]
#[command(after_help = "Examples:\n  par scale hello 3")]
pub(crate) struct Scale {
    /// An agent, as `par ps` lists it
    agent: String,
    /// Processes that serve it side by side, each on ports of its own
    #[arg(value_parser = clap::value_parser!(u32).range(1..=64))]
    replicas: u32,
}

const COLUMNS: [Column; 5] = [
    Column {
        title: "REL",
        right: true,
        least: None,
        dispensable: 0,
    },
    Column {
        title: "STATE",
        right: false,
        least: None,
        dispensable: 0,
    },
    Column {
        title: "PACKAGE",
        right: false,
        least: Some(10),
        dispensable: 0,
    },
    Column {
        title: "DIGEST",
        right: false,
        least: None,
        dispensable: 2,
    },
    Column {
        title: "CREATED",
        right: false,
        least: None,
        dispensable: 1,
    },
];

impl Releases {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let path = format!("/supervisor/agents/{}/releases", segment(&self.agent));
        let releases: Vec<ReleaseInfo> = context.client.get(&path).await?;
        if context.terminal.json {
            context.terminal.print_json(&releases)?;
            return Ok(());
        }
        let table = Table {
            columns: &COLUMNS,
            rows: releases.iter().map(row).collect(),
        };
        let text = table.render(context.terminal.out);
        context.terminal.print(&text)?;
        Ok(())
    }
}

fn row(release: &ReleaseInfo) -> Row {
    let (state, style) = state(release);
    let cells = vec![
        release.release.to_string().into(),
        Cell::new(state, style),
        release.package_id.as_str().into(),
        release
            .package_digest
            .chars()
            .take(12)
            .collect::<String>()
            .into(),
        release.created_at.as_str().into(),
    ];
    let note = release
        .note
        .iter()
        .map(|note| Cell::new(note, Style::Faint));
    let reason = release.reason.iter().map(|it| Cell::new(it, Style::Bad));
    Row::new(cells, note.chain(reason).collect())
}

fn state(release: &ReleaseInfo) -> (String, Style) {
    match (release.canary_percent, release.current) {
        (Some(percent), _) => (format!("canary {percent} %"), Style::Warning),
        (None, true) if release.outcome == "live" => ("current".to_owned(), Style::Good),
        (None, true) => (format!("current, {}", release.outcome), Style::Warning),
        (None, false) => (release.outcome.clone(), Style::Faint),
    }
}

impl Rollback {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let path = format!("/supervisor/agents/{}/rollback", segment(&self.agent));
        let wanted = par_model::api::Rollback {
            release: self.release,
        };
        let progress = context.terminal.progress();
        progress.say(format!("{}: the earlier release comes up", self.agent));
        let asked = context.client.post_json(&path, &wanted);
        show(context, &progress.during(asked).await?)
    }
}

impl Promote {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let path = format!("/supervisor/agents/{}/promote", segment(&self.agent));
        let progress = context.terminal.progress();
        progress.say(format!("{}: the canary takes over", self.agent));
        let asked = context.client.post(&path);
        let promoted = progress.during(asked).await;
        show(
            context,
            &promoted.map_err(|error| self.advised(context, error))?,
        )
    }
}

impl Promote {
    fn advised(&self, context: &Context, error: ClientError) -> anyhow::Error {
        match &error {
            ClientError::Refused { status, detail } if *status == StatusCode::CONFLICT => {
                let deploy = context.par("deploy FILE|FOLDER --canary 10");
                let help = format!("`{deploy}` brings one beside {}", self.agent);
                Problem::new(Exit::Failed, detail).help(help).into()
            }
            _ => error.into(),
        }
    }
}

fn show(context: &Context, deployed: &Deployed) -> anyhow::Result<()> {
    if context.terminal.json {
        context.terminal.print_json(deployed)?;
        return Ok(());
    }
    let Deployed {
        agent_id,
        release,
        package_id,
        ..
    } = deployed;
    let line = format!("release {release} of {agent_id} ({package_id}) takes the calls");
    context.terminal.print(&line)?;
    Ok(())
}

impl Scale {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let path = format!("/supervisor/agents/{}/scale", segment(&self.agent));
        let scale = par_model::api::Scale {
            replicas: self.replicas,
        };
        let done: Done = context.client.post_json(&path, &scale).await?;
        if context.terminal.json {
            context.terminal.print_json(&done)?;
            return Ok(());
        }
        let ps = context.par("ps");
        let line = format!(
            "{} is to have {} replicas; `{ps}` shows them come and go",
            self.agent, self.replicas
        );
        context.terminal.print(&line)?;
        Ok(())
    }
}
