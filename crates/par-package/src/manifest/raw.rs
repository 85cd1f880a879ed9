//! What was written in `agent.yaml`: every field has the right type, nothing has been understood yet.

use std::collections::BTreeMap;

use serde_json::Value as Json;

use super::fields::{Fields, Findings, Written};
use crate::yaml::{Node, Value};

/// Fields of the newer kit that are kept and shown, and not acted on.
const SHOWN: [&str; 6] = [
    "data_access",
    "permissions",
    "plan_mode",
    "required_ui_capabilities",
    "translation",
    "ui_spec_version",
];

type Text = Option<Written<String>>;

#[derive(Debug, Default)]
pub(crate) struct RawManifest {
    pub(crate) name: Text,
    /// `metadata.version`, else `version`.
    pub(crate) version: Text,
    pub(crate) display_name: Text,
    pub(crate) description: Text,
    pub(crate) author: Text,
    pub(crate) license: Text,
    pub(crate) entrypoint: Text,
    pub(crate) runtime: Option<RawRuntime>,
    pub(crate) exports: Vec<RawExport>,
    pub(crate) sub_agents: Vec<RawExport>,
    pub(crate) capabilities: Vec<Written<String>>,
    pub(crate) environment: Vec<(String, Written<String>)>,
    pub(crate) dependencies: Vec<Written<String>>,
    pub(crate) rest_entry: Text,
    pub(crate) a2a_service: Text,
    pub(crate) asgi_app: Text,
    pub(crate) ui_path: Text,
    pub(crate) ui_base_path: Text,
    pub(crate) mcp: Option<RawMcp>,
    pub(crate) network: Vec<Written<String>>,
    /// One word, or several.
    pub(crate) role_required: Vec<Written<String>>,
    pub(crate) shown: BTreeMap<String, Json>,
    pub(crate) unknown: BTreeMap<String, Json>,
}

#[derive(Debug)]
pub(crate) enum RawRuntime {
    /// `python3.11`
    Name(Written<String>),
    /// `{python: ">=3.8"}`
    Language {
        name: String,
        bounds: Written<String>,
    },
}

#[derive(Debug)]
pub(crate) struct RawExport {
    pub(crate) name: Written<String>,
    pub(crate) handler: Text,
    pub(crate) public: bool,
    pub(crate) description: Option<String>,
}

#[derive(Debug)]
pub(crate) struct RawMcp {
    pub(crate) enabled: bool,
    pub(crate) config_file: Text,
}

impl RawManifest {
    pub(crate) fn read(root: &Node, findings: &mut Findings) -> Self {
        let Some(mut fields) = Fields::of(root, "", findings) else {
            return Self::default();
        };
        let mut raw = Self::default();
        raw.read_texts(&mut fields, findings);
        raw.read_surfaces(&mut fields, findings);
        raw.read_metadata(&mut fields, findings);
        raw.runtime = read_runtime(&mut fields, findings);
        raw.exports = read_exports(&mut fields, "exports", findings);
        raw.role_required = fields.words("role_required", findings);
        raw.mcp = read_mcp(&mut fields, findings);
        for name in SHOWN {
            let node = fields.node(name);
            raw.shown
                .extend(node.map(|node| (name.to_owned(), node.value.to_json())));
        }
        raw.unknown.extend(fields.rest());
        raw
    }

    fn read_texts(&mut self, fields: &mut Fields, findings: &mut Findings) {
        self.name = fields.text("name", findings);
        self.version = fields.text("version", findings);
        self.display_name = fields.text("display_name", findings);
        self.description = fields.text("description", findings);
        self.author = fields.text("author", findings);
        self.license = fields.text("license", findings);
        let older_spelling = fields.text("entry_point", findings);
        self.entrypoint = fields.text("entrypoint", findings).or(older_spelling);
        self.capabilities = fields.texts("capabilities", findings);
        self.environment = fields.text_map("environment", findings);
        self.dependencies = fields.texts("dependencies", findings);
        self.network = fields.texts("network", findings);
    }

    fn read_metadata(&mut self, fields: &mut Fields, findings: &mut Findings) {
        let Some(mut metadata) = fields.section("metadata", findings) else {
            return;
        };
        if let Some(version) = metadata.text("version", findings) {
            self.version = Some(version);
        }
        self.sub_agents = read_exports(&mut metadata, "sub_agents", findings);
        self.keep_unknown("metadata", metadata);
    }

    fn read_surfaces(&mut self, fields: &mut Fields, findings: &mut Findings) {
        if let Some(mut rest) = fields.section("rest", findings) {
            self.rest_entry = rest.text("entry", findings);
            self.keep_unknown("rest", rest);
        }
        let mut server = None;
        if let Some(mut a2a) = fields.section("a2a", findings) {
            let entry = a2a.text("entry", findings);
            server = a2a.text("http_server", findings);
            // The newer kit copies `http_server` into an `entry` that was not given.
            let mirrored = |entry: &Written<String>| {
                server
                    .as_ref()
                    .is_some_and(|server| server.value == entry.value)
            };
            let entry = entry.filter(|entry| !mirrored(entry));
            self.a2a_service = a2a.text("service", findings).or(entry);
            self.keep_unknown("a2a", a2a);
        }
        let own_server = fields.text("http_server", findings);
        self.asgi_app = server.or(own_server);
        if let Some(mut ui) = fields.section("ui", findings) {
            self.ui_path = ui.text("path", findings);
            self.ui_base_path = ui.text("basePath", findings);
            self.keep_unknown("ui", ui);
        }
    }

    fn keep_unknown(&mut self, section: &str, fields: Fields) {
        let rest = fields.rest();
        if !rest.is_empty() {
            self.unknown
                .insert(section.to_owned(), Json::Object(rest.into_iter().collect()));
        }
    }
}

fn read_runtime(fields: &mut Fields, findings: &mut Findings) -> Option<RawRuntime> {
    let node = fields.node("runtime")?;
    let Value::Map(entries) = &node.value.value else {
        let Some(text) = node.value.text() else {
            findings.add(
                node.at,
                &node.field,
                format!("expected text or a mapping, found {}", node.value.kind()),
            );
            return None;
        };
        return Some(RawRuntime::Name(Written {
            value: text.to_owned(),
            at: node.at,
            field: node.field,
        }));
    };
    let [entry] = &entries[..] else {
        findings.add(
            node.at,
            &node.field,
            "expected one language, such as `{python: \">=3.9\"}`",
        );
        return None;
    };
    let field = format!("{}.{}", node.field, crate::problem::shown(&entry.key));
    let Some(text) = entry.value.text() else {
        findings.add(
            entry.value.at,
            &field,
            format!("expected text, found {}", entry.value.kind()),
        );
        return None;
    };
    let bounds = Written {
        value: text.to_owned(),
        at: entry.value.at,
        field,
    };
    Some(RawRuntime::Language {
        name: entry.key.clone(),
        bounds,
    })
}

fn read_exports(fields: &mut Fields, list: &str, findings: &mut Findings) -> Vec<RawExport> {
    let items = fields.items(list, findings);
    items
        .into_iter()
        .filter_map(|item| read_export(&item, findings))
        .collect()
}

fn read_export(item: &Written<std::rc::Rc<Node>>, findings: &mut Findings) -> Option<RawExport> {
    if let Some(name) = item.value.text() {
        let name = Written {
            value: name.to_owned(),
            at: item.at,
            field: item.field.clone(),
        };
        return Some(RawExport {
            name,
            handler: None,
            public: true,
            description: None,
        });
    }
    let mut export = Fields::of(&item.value, &item.field, findings)?;
    let handler = export.text("handler", findings);
    let public = export.truth("public", findings).unwrap_or(true);
    let description = export.text("description", findings).map(|text| text.value);
    let name = export.text("name", findings);
    if name.is_none() && !findings.mention(&format!("{}.name", item.field)) {
        findings.add(item.at, &item.field, "`name` is missing");
    }
    Some(RawExport {
        name: name?,
        handler,
        public,
        description,
    })
}

fn read_mcp(fields: &mut Fields, findings: &mut Findings) -> Option<RawMcp> {
    let mut mcp = fields.section("mcp", findings)?;
    Some(RawMcp {
        enabled: mcp.truth("enabled", findings).unwrap_or(false),
        config_file: mcp.text("config_file", findings),
    })
}
