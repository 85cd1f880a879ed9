//! What an agent can be asked to do, by name.

use std::collections::HashSet;

use serde::Serialize;

use super::fields::Findings;
use super::names::EntryPoint;
use super::noted;
use super::raw::RawExport;
use crate::problem::shown;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Export {
    pub name: String,
    /// Absent: the entrypoint is called with the name as `action`.
    pub handler: Option<EntryPoint>,
    /// Callable from outside; otherwise by other agents only.
    pub public: bool,
    /// From `metadata.sub_agents`.
    pub sub_agent: bool,
    pub description: Option<String>,
}

/// Explicit exports come first; a sub-agent of the same name gives way, a second export is a mistake.
pub(super) fn understand(
    explicit: Vec<RawExport>,
    sub_agents: Vec<RawExport>,
    findings: &mut Findings,
) -> Vec<Export> {
    let mut taken = HashSet::new();
    let mut exports = vec![];
    for raw in explicit {
        let (name, at, field) = (raw.name.value.clone(), raw.name.at, raw.name.field.clone());
        let Some(export) = export(raw, Origin::Exports, findings) else {
            continue;
        };
        if taken.insert(name.clone()) {
            exports.push(export);
        } else {
            findings.add(
                at,
                &field,
                format!("another export is called `{}`", shown(&name)),
            );
        }
    }
    for raw in sub_agents {
        if let Some(export) = export(raw, Origin::SubAgents, findings)
            && taken.insert(export.name.clone())
        {
            exports.push(export);
        }
    }
    exports
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    Exports,
    SubAgents,
}

fn export(raw: RawExport, origin: Origin, findings: &mut Findings) -> Option<Export> {
    const LONGEST: usize = 256;
    let name = raw.name;
    let callable = !name.value.is_empty()
        && name.value.len() <= LONGEST
        && !name.value.contains(|c: char| c.is_control() || c == '/');
    if !callable {
        let shown = shown(&name.value);
        findings.add(
            name.at,
            &name.field,
            format!("`{shown}` is not a name that can be called"),
        );
        return None;
    }
    let handler = raw.handler.and_then(|text| {
        let entry = EntryPoint::parse_dotted(&text.value);
        noted(entry, text.at, &text.field, findings)
    });
    Some(Export {
        name: name.value,
        handler,
        public: raw.public,
        sub_agent: origin == Origin::SubAgents,
        description: raw.description,
    })
}
