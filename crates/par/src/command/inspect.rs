//! `par inspect`: what is in a package, and what is wrong with it.

use std::path::PathBuf;

use clap::Args;
use par_package::{Inspection, Limits, inspect};
use tokio::task::spawn_blocking;

use super::Context;
use super::packing::Package;
use crate::exit::{Exit, Problem};
use crate::terminal::{Screen, Style, bytes, harmless, wrap};

#[derive(Args)]
#[command(
    after_help = "Examples:\n  par inspect hello-0.1.0.apkg\n  par inspect ./hello\n\nEnds with 5 when a supervisor would refuse the package."
)]
pub(crate) struct Inspect {
    /// An .apkg file, or a folder with an agent.yaml
    #[arg(value_name = "FILE|FOLDER")]
    source: PathBuf,
}

impl Inspect {
    pub(crate) async fn run(self, context: &Context) -> anyhow::Result<()> {
        let terminal = context.terminal;
        let package = Package::of(&self.source, terminal).await?;
        let path = package.path().to_owned();
        let progress = terminal.progress();
        progress.say(format!("reading {}", package.name()));
        let inspection = progress
            .during(spawn_blocking(move || inspect(&path, &Limits::default())))
            .await??;
        if terminal.json {
            terminal.print_json(&inspection)?;
        } else {
            terminal.print(&told(&inspection, terminal.out))?;
        }
        match inspection.problems.len() {
            0 => Ok(()),
            problems => Err(refusal(&package, problems).into()),
        }
    }
}

fn refusal(package: &Package, problems: usize) -> Problem {
    let things = if problems == 1 {
        "one thing is"
    } else {
        "these things are"
    };
    let message = format!(
        "`{}` would be refused: {things} wrong with it",
        package.name()
    );
    Problem::new(Exit::Refused, message)
}

/// One fact a line; what there is none of is left out.
fn told(inspection: &Inspection, screen: Screen) -> String {
    let mut facts = Facts {
        screen,
        lines: vec![],
    };
    facts.add(
        "package",
        Style::Strong,
        inspection.label.as_deref().unwrap_or("-"),
    );
    facts.add("digest", Style::Plain, inspection.digest.as_str());
    let size = format!(
        "{} files, {} packed, {} unpacked",
        inspection.entries,
        bytes(inspection.bytes),
        bytes(inspection.unpacked_bytes)
    );
    facts.add("size", Style::Plain, &size);
    facts.add_json("made", &inspection.layout);
    if let Some(entrypoint) = &inspection.entrypoint {
        facts.add("entrypoint", Style::Plain, &entrypoint.to_string());
    }
    let exports: Vec<String> = inspection.exports.iter().map(export).collect();
    facts.add("exports", Style::Plain, &exports.join(", "));
    let network: Vec<String> = inspection.network.iter().map(ToString::to_string).collect();
    facts.add("network", Style::Plain, &network.join(", "));
    facts.add("surfaces", Style::Plain, &surfaces(inspection));
    facts.add("needs", Style::Plain, &inspection.requirements.join(", "));
    let variables = inspection.environment.iter();
    let variables: Vec<String> = variables
        .map(|v| format!("{} ({})", v.name, v.from))
        .collect();
    facts.add("variables", Style::Plain, &variables.join(", "));
    for warning in &inspection.warnings {
        facts.add("warning", Style::Warning, warning);
    }
    for problem in &inspection.problems {
        facts.add("wrong", Style::Bad, &problem.to_string());
    }
    facts.lines.join("\n")
}

fn export(export: &par_package::Export) -> String {
    if export.public {
        export.name.clone()
    } else {
        format!("{} (for agents only)", export.name)
    }
}

fn surfaces(inspection: &Inspection) -> String {
    let surfaces = &inspection.surfaces;
    let named = [
        ("rest", surfaces.rest),
        ("a2a", surfaces.a2a),
        ("ui", surfaces.ui),
    ];
    let there: Vec<&str> = named
        .iter()
        .filter(|(_, is)| *is)
        .map(|(name, _)| *name)
        .collect();
    there.join(", ")
}

struct Facts {
    screen: Screen,
    lines: Vec<String>,
}

impl Facts {
    const INDENT: usize = 12;

    fn add(&mut self, name: &str, style: Style, text: &str) {
        if text.is_empty() {
            return;
        }
        let width = self
            .screen
            .width
            .unwrap_or(usize::MAX)
            .saturating_sub(Self::INDENT);
        let text = wrap(&harmless(text), width.max(20)).join(&format!("\n{:1$}", "", Self::INDENT));
        let name = style.paint(
            &format!("{name:<0$}", Self::INDENT - 2),
            self.screen.colours,
        );
        self.lines.push(format!("{name}  {text}"));
    }

    /// A value that is written as one word.
    fn add_json(&mut self, name: &str, value: &impl serde::Serialize) {
        if let Ok(serde_json::Value::String(text)) = serde_json::to_value(value) {
            self.add(name, Style::Plain, &text);
        }
    }
}
