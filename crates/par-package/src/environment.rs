//! The environment of an agent, layer upon layer, lowest first:
//! `.env`, `agent.yaml`, `deploy.json`, what the deployer gave, the runtime's own.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use indexmap::IndexMap;

use crate::expand::{LONGEST_VALUE, expand};
use crate::package::Package;
use crate::papers::{DEPLOY, DOTENV, MANIFEST};
use crate::problem::{note, shown};

/// Variables in the order in which they were written. Shows names alone: values may be secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Variables(IndexMap<String, String>);

impl Variables {
    pub(crate) fn insert(&mut self, name: String, value: String) {
        self.0.insert(name, value);
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

impl serde::Serialize for Variables {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.names())
    }
}

/// What all values of the package may take together: more would not fit into a new process anyway.
const LARGEST_ENVIRONMENT: usize = 1 << 20;

/// The variables of an agent, and a warning for each that was left out.
///
/// Values of `agent.yaml` and `deploy.json` may refer to lower layers, to variables before them, and to the
/// runtime's own.
pub fn agent_environment(
    package: &Package,
    deployer: &BTreeMap<String, String>,
    runtime: &BTreeMap<String, String>,
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut layers = Layers::over(runtime);
    layers.lay(DOTENV, package.dotenv().iter(), Values::Literal);
    layers.lay(
        MANIFEST,
        package.manifest.environment.iter(),
        Values::Expanded,
    );
    layers.lay(
        DEPLOY,
        package.deploy_environment().iter(),
        Values::Expanded,
    );
    let given = deployer
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()));
    layers.lay("the deployment", given, Values::Literal);
    layers.finish()
}

#[derive(Clone, Copy)]
enum Values {
    Literal,
    Expanded,
}

struct Layers<'a> {
    runtime: &'a BTreeMap<String, String>,
    variables: HashMap<String, String>,
    bytes: usize,
    warnings: Vec<String>,
}

impl<'a> Layers<'a> {
    fn over(runtime: &'a BTreeMap<String, String>) -> Self {
        Self {
            runtime,
            variables: HashMap::new(),
            bytes: 0,
            warnings: vec![],
        }
    }

    fn lay<'v>(
        &mut self,
        layer: &str,
        variables: impl Iterator<Item = (&'v str, &'v str)>,
        values: Values,
    ) {
        for (name, value) in variables {
            let reason = match self.settle(layer, name, value, values) {
                Ok(value) => self.keep(name, value),
                Err(reason) => Some(reason),
            };
            let ignored =
                reason.map(|reason| format!("{layer}: `{}` {reason}; ignored", shown(name)));
            if let Some(ignored) = ignored {
                note(&mut self.warnings, ignored);
            }
        }
    }

    /// The value that a variable gets, or why it gets none.
    fn settle(
        &mut self,
        layer: &str,
        name: &str,
        value: &str,
        values: Values,
    ) -> Result<String, String> {
        if is_reserved(name) {
            return Err("is set by the runtime alone".to_owned());
        }
        if !crate::manifest::is_variable_name(name) || value.contains('\0') {
            return Err("cannot be a variable of a process".to_owned());
        }
        match values {
            Values::Literal => Ok(value.to_owned()),
            Values::Expanded => self.expanded(layer, name, value),
        }
    }

    fn expanded(&mut self, layer: &str, name: &str, value: &str) -> Result<String, String> {
        let mut missing = vec![];
        let lookup = |name: &str| {
            self.runtime
                .get(name)
                .or_else(|| self.variables.get(name))
                .map(String::as_str)
        };
        let expanded = expand(value, &lookup, &mut missing).map_err(|error| error.to_string())?;
        for variable in missing {
            let warning = format!("{layer}: `{name}` refers to `{variable}`, which is not set");
            note(&mut self.warnings, warning);
        }
        Ok(expanded)
    }

    fn keep(&mut self, name: &str, value: String) -> Option<String> {
        let bytes = name.len() + value.len() + 2;
        if bytes > LONGEST_VALUE {
            return Some(format!("is longer than {LONGEST_VALUE} bytes"));
        }
        let before = self
            .variables
            .get(name)
            .map_or(0, |known| name.len() + known.len() + 2);
        if self.bytes - before + bytes > LARGEST_ENVIRONMENT {
            return Some(format!(
                "does not fit: an environment has at most {LARGEST_ENVIRONMENT} bytes"
            ));
        }
        self.bytes = self.bytes - before + bytes;
        self.variables.insert(name.to_owned(), value);
        None
    }

    fn finish(self) -> (BTreeMap<String, String>, Vec<String>) {
        let mut all: BTreeMap<String, String> = self.variables.into_iter().collect();
        all.extend(self.runtime.clone());
        (all, self.warnings)
    }
}

/// Names that neither a package nor its deployer may set: the runtime's own, and those that change what runs.
pub fn is_reserved(name: &str) -> bool {
    const PREFIXES: [&str; 3] = ["PAR_", "LD_", "PYTHON"];
    name == "A2A_PORT" || name == "PATH" || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}
