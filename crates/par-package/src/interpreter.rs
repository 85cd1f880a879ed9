//! A Python that runs agents, as it described itself.

use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    /// The real executable: not a shim, and not of a virtual environment.
    pub path: PathBuf,
    pub version: (u8, u8, u8),
    /// `cpython`
    pub implementation: String,
}

#[derive(Debug, thiserror::Error)]
#[error("the interpreter did not describe itself")]
pub struct UnknownInterpreter(#[source] serde_json::Error);

#[derive(Deserialize)]
struct Description {
    path: PathBuf,
    version: (u8, u8, u8),
    implementation: String,
}

impl Interpreter {
    /// Give this to `python -I -c`, and what it prints to [`Interpreter::parse`].
    ///
    /// In a virtual environment `sys._base_executable` is the interpreter that it was made from.
    pub const PROBE: &str = "import json, os, sys; \
        print(json.dumps({'path': os.path.realpath(getattr(sys, '_base_executable', None) or sys.executable), \
        'version': list(sys.version_info[:3]), 'implementation': sys.implementation.name}))";

    pub fn parse(json: &str) -> Result<Self, UnknownInterpreter> {
        let described: Description = serde_json::from_str(json).map_err(UnknownInterpreter)?;
        Ok(Self {
            path: described.path,
            version: described.version,
            implementation: described.implementation,
        })
    }

    /// Such as `python3.11`: the name of its folder of installed modules.
    pub fn folder_name(&self) -> String {
        let (major, minor, _) = self.version;
        format!("python{major}.{minor}")
    }
}

impl fmt::Display for Interpreter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor, patch) = self.version;
        let name = match self.implementation.as_str() {
            "cpython" => "Python",
            other => other,
        };
        write!(f, "{name} {major}.{minor}.{patch}")
    }
}
