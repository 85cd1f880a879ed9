//! `par doctor`: what this machine offers, and what to do about what it lacks.

mod checks;
mod walls;

use std::path::PathBuf;

use clap::Args;
use par_supervisor::{Given, Settings};
use serde::Serialize;

use super::Context;
use crate::exit::{Exit, Problem};
use crate::terminal::{Style, harmless, wrap};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par doctor\n  par doctor --python /usr/bin/python3.11\n\nEnds with 1 when something must be mended before agents can run."
)]
pub(crate) struct Doctor {
    /// The Python that agents would run on [default: python3 of the PATH]
    #[arg(long, env = "PAR_PYTHON", value_name = "PATH")]
    python: Option<PathBuf>,

    /// Where packages, environments and logs would be kept [default: ~/.local/state/par]
    #[arg(long, env = "PAR_STATE", value_name = "FOLDER")]
    state: Option<PathBuf>,

    /// The supervisor's settings [default: par.toml, if there is one]
    #[arg(long, env = "PAR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Ok,
    /// Something will be missing, but agents run.
    Warn,
    /// Agents cannot run.
    Fail,
}

#[derive(Debug, Serialize)]
struct Finding {
    check: &'static str,
    verdict: Verdict,
    found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            found: found.into(),
            help: None,
        }
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl Doctor {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let progress = context.terminal.progress();
        progress.say("looking around");
        let findings = progress.during(self.examine(context)).await;
        if context.terminal.json {
            context.terminal.print_json(&findings)?;
        } else {
            for finding in &findings {
                context.terminal.print(&told(finding, context))?;
            }
        }
        let failed = findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Fail)
            .count();
        match failed {
            0 => Ok(()),
            1 => Err(Problem::new(
                Exit::Failed,
                "one thing must be mended before agents can run",
            )
            .into()),
            n => {
                let message = format!("{n} things must be mended before agents can run");
                Err(Problem::new(Exit::Failed, message).into())
            }
        }
    }

    async fn examine(&self, context: &Context) -> Vec<Finding> {
        let mut findings = vec![];
        let given = Given {
            python: self.python.clone(),
            state: self.state.clone(),
            config: self.config.clone(),
            ..Given::default()
        };
        let settings = match Settings::resolve(given) {
            Ok(settings) => Some(settings),
            Err(mistakes) => {
                let found = mistakes.to_string();
                findings
                    .push(Finding::new("settings", Verdict::Fail, found).help("mend these lines"));
                None
            }
        };
        let python = settings
            .as_ref()
            .map_or(self.python.as_deref(), |settings| {
                settings.python.as_deref()
            });
        findings.push(checks::python(python).await);
        findings.push(checks::installer(python).await);
        let supervisor = checks::supervisor(&context.client).await;
        if let Some(settings) = &settings {
            findings.push(checks::state(&settings.state));
            if supervisor.verdict != Verdict::Ok {
                findings.push(checks::ports(settings));
            }
        }
        findings.extend([supervisor, checks::kernel()]);
        if let Some(settings) = &settings {
            findings.push(checks::limits(settings).await);
            findings.extend(walls::isolation(settings).await);
        }
        findings
    }
}

fn told(finding: &Finding, context: &Context) -> String {
    let screen = context.terminal.out;
    let (word, style) = match finding.verdict {
        Verdict::Ok => ("ok  ", Style::Good),
        Verdict::Warn => ("warn", Style::Warning),
        Verdict::Fail => ("fail", Style::Bad),
    };
    const INDENT: usize = 18;
    let width = screen
        .width
        .unwrap_or(usize::MAX)
        .saturating_sub(INDENT)
        .max(20);
    let mut lines = wrap(&harmless(&finding.found), width);
    for help in finding.help.iter().flat_map(|help| wrap(help, width - 2)) {
        lines.push(format!("  {}", Style::Strong.paint(&help, screen.colours)));
    }
    let text = lines.join(&format!("\n{}", " ".repeat(INDENT)));
    format!(
        "{}  {:<10}  {text}",
        style.paint(word, screen.colours),
        finding.check
    )
}
