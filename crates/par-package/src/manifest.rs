//! What `agent.yaml` means. [`raw`] is what was written; a [`Manifest`] cannot be wrong in itself.

mod exports;
mod fields;
mod names;
mod raw;

use std::collections::BTreeMap;
use std::rc::Rc;

use par_model::egress::MOST_GRANTS;
use par_model::network::{Destination, InvalidDestination};
use par_model::{Role, Version};
use serde::Serialize;
use serde_json::Value as Json;

use crate::entry_path::EntryPath;
use crate::environment::Variables;
use crate::papers::MANIFEST;
use crate::problem::{Problem, Problems};
use crate::runtime::Runtime;
use crate::yaml::Position;
use crate::{Limits, text, yaml};
pub use exports::Export;
use fields::{Findings, WHOLE, Written};
pub use names::is_variable_name;
pub use names::{AgentName, EntryPoint, InvalidWord};
use raw::{RawManifest, RawRuntime};

#[derive(Clone, Debug, Serialize)]
pub struct Manifest {
    pub name: AgentName,
    pub version: Version,
    pub display_name: Option<String>,
    pub description: Option<String>,
    pub author: Option<String>,
    pub license: Option<String>,
    /// Absent when only a surface is declared, or the execution backend is all there is.
    pub entrypoint: Option<EntryPoint>,
    pub runtime: Runtime,
    /// `exports`, then those `metadata.sub_agents` whose names are still free.
    pub exports: Vec<Export>,
    pub capabilities: Vec<String>,
    pub environment: Variables,
    /// As they were written; [`crate::Requirements`] are what they mean.
    pub dependencies: Vec<String>,
    /// Called as `mount(app: FastAPI)`.
    pub rest_entry: Option<EntryPoint>,
    /// A factory of gRPC handlers.
    pub a2a_service: Option<EntryPoint>,
    /// Any ASGI application.
    pub asgi_app: Option<EntryPoint>,
    pub ui_path: Option<EntryPath>,
    pub ui_base_path: Option<String>,
    pub mcp: Option<Mcp>,
    /// Where it asks to go.
    pub network: Vec<Destination>,
    /// Callers need one of them, unless whoever deploys it says otherwise.
    pub role_required: Vec<Role>,
    /// Known fields that are kept and shown, not acted on.
    pub shown: BTreeMap<String, Json>,
    /// Everything else, such as unknown keys of `metadata`.
    pub unknown: BTreeMap<String, Json>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mcp {
    pub enabled: bool,
    pub config_file: Option<EntryPath>,
}

impl Manifest {
    /// Reads the bytes of an `agent.yaml`; an error lists every mistake that was found.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, Problems> {
        let root = read(bytes, limits)?;
        let mut findings = Findings::default();
        let raw = RawManifest::read(&root, &mut findings);
        let manifest = Self::understand(raw, &mut findings);
        let problems = findings.into_problems();
        match manifest {
            Some(manifest) if problems.is_empty() => Ok(manifest),
            _ => Err(Problems(problems)),
        }
    }

    /// `name@version`
    pub fn label(&self) -> String {
        format!("{}@{}", self.name, self.version)
    }

    /// Whether it wants to run code in sessions of the execution backend.
    pub fn wants_execution(&self) -> bool {
        self.capabilities
            .iter()
            .any(|word| asks_for_execution(word))
    }

    /// `None` exactly when a required field is missing or wrong, which has then been noted.
    fn understand(raw: RawManifest, findings: &mut Findings) -> Option<Self> {
        let name = required("name", raw.name, findings);
        let version = required("version", raw.version, findings);
        let entrypoint: Option<EntryPoint> = parsed(raw.entrypoint, findings);
        let module = entrypoint.as_ref().map(|entry| entry.module.as_str());
        let rest_entry = raw.rest_entry.and_then(|text| {
            let entry = EntryPoint::parse_within(&text.value, module);
            noted(entry, text.at, &text.field, findings)
        });
        let a2a_service = parsed(raw.a2a_service, findings);
        let asgi_app = parsed(raw.asgi_app, findings);
        let ui_path = raw.ui_path.and_then(|text| ui_folder(&text, findings));
        let capabilities: Vec<_> = raw
            .capabilities
            .into_iter()
            .map(|text| text.value)
            .collect();
        let entries = [&entrypoint, &rest_entry, &a2a_service, &asgi_app];
        let runs = entries.iter().any(|entry| entry.is_some()) || ui_path.is_some();
        if !runs && !capabilities.iter().any(|word| asks_for_execution(word)) {
            note_nothing_to_run(findings);
        }
        Some(Self {
            exports: exports::understand(raw.exports, raw.sub_agents, findings),
            runtime: runtime(raw.runtime, findings),
            environment: environment(raw.environment, findings),
            mcp: raw.mcp.map(|mcp| Mcp {
                enabled: mcp.enabled,
                config_file: parsed(mcp.config_file, findings),
            }),
            role_required: raw
                .role_required
                .into_iter()
                .filter_map(|text| parsed(Some(text), findings))
                .collect(),
            name: name?,
            version: version?,
            display_name: raw.display_name.map(|text| text.value),
            description: raw.description.map(|text| text.value),
            author: raw.author.map(|text| text.value),
            license: raw.license.map(|text| text.value),
            entrypoint,
            capabilities,
            dependencies: raw
                .dependencies
                .into_iter()
                .map(|text| text.value)
                .collect(),
            rest_entry,
            a2a_service,
            asgi_app,
            ui_path,
            ui_base_path: raw.ui_base_path.map(|text| text.value),
            network: network(raw.network, findings),
            shown: raw.shown,
            unknown: raw.unknown,
        })
    }
}

fn read(bytes: &[u8], limits: &Limits) -> Result<Rc<yaml::Node>, Problem> {
    let text = text::decode(bytes).map_err(|error| Problem::new(MANIFEST, error.to_string()))?;
    yaml::parse(&text, limits)
        .map_err(|error| Problem::new(format!("{MANIFEST}:{}", error.at), error.message))
}

fn asks_for_execution(capability: &str) -> bool {
    ["code-execution", "python-runtime"].contains(&capability)
}

/// The manifest as it was written, whether it makes sense or not.
pub(crate) fn as_json(bytes: &[u8], limits: &Limits) -> Result<Json, Problems> {
    Ok(read(bytes, limits)?.to_json())
}

/// Where what is missing is missed.
const START: Position = Position { line: 1, column: 1 };

/// Says so unless something was written there and was wrong.
fn note_nothing_to_run(findings: &mut Findings) {
    const WOULD_RUN: [&str; 12] = [
        WHOLE,
        "entrypoint",
        "entry_point",
        "rest",
        "rest.entry",
        "a2a",
        "a2a.service",
        "a2a.entry",
        "a2a.http_server",
        "http_server",
        "ui",
        "ui.path",
    ];
    if !WOULD_RUN.iter().any(|field| findings.mention(field)) {
        let missing = "missing, and no surface (rest, a2a, http_server, ui) or capability `code-execution` is declared";
        findings.add(START, "entrypoint", missing);
    }
}

fn noted<T, E: std::fmt::Display>(
    result: Result<T, E>,
    at: Position,
    field: &str,
    findings: &mut Findings,
) -> Option<T> {
    result.map_err(|error| findings.add(at, field, error)).ok()
}

fn parsed<T>(text: Option<Written<String>>, findings: &mut Findings) -> Option<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text = text?;
    noted(text.value.parse(), text.at, &text.field, findings)
}

fn required<T>(field: &str, text: Option<Written<String>>, findings: &mut Findings) -> Option<T>
where
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let within_metadata = format!("metadata.{field}");
    let noted = [field, &within_metadata, WHOLE]
        .iter()
        .any(|field| findings.mention(field));
    if text.is_none() && !noted {
        findings.add(START, field, "missing");
    }
    parsed(text, findings)
}

/// A folder of its own: the package's root would publish `.env` and the sources.
fn ui_folder(text: &Written<String>, findings: &mut Findings) -> Option<EntryPath> {
    let relative = text.value.strip_prefix("./").unwrap_or(&text.value);
    let folder = relative.strip_suffix('/').unwrap_or(relative);
    let Ok(path) = folder.parse::<EntryPath>() else {
        let shown = crate::problem::shown(&text.value);
        findings.add(
            text.at,
            &text.field,
            format!("`{shown}` is not a folder inside the package"),
        );
        return None;
    };
    Some(path)
}

fn network(raw: Vec<Written<String>>, findings: &mut Findings) -> Vec<Destination> {
    if let Some(first) = raw.get(MOST_GRANTS) {
        let message = format!("more than {MOST_GRANTS} destinations");
        findings.add(first.at, &first.field, message);
    }
    let mut asked = vec![];
    for text in raw {
        let destination = text.value.parse().map_err(|wrong: InvalidDestination| {
            format!("`{}`: {wrong}", crate::problem::shown(&text.value))
        });
        asked.extend(noted(destination, text.at, &text.field, findings));
    }
    asked
}

fn runtime(raw: Option<RawRuntime>, findings: &mut Findings) -> Runtime {
    match raw {
        None => Runtime::any_python(),
        Some(RawRuntime::Name(text)) => Runtime::named(&text.value),
        Some(RawRuntime::Language { name, bounds }) => {
            let runtime = Runtime::of_language(&name, &bounds.value);
            noted(runtime, bounds.at, &bounds.field, findings).unwrap_or_else(Runtime::any_python)
        }
    }
}

fn environment(raw: Vec<(String, Written<String>)>, findings: &mut Findings) -> Variables {
    let mut variables = Variables::default();
    for (name, value) in raw {
        if is_variable_name(&name) {
            variables.insert(name, value.value);
        } else {
            let shown = crate::problem::shown(&name);
            findings.add(
                value.at,
                "environment",
                format!("`{shown}` is not a variable's name"),
            );
        }
    }
    variables
}
