//! The runtime that a manifest asks for, and whether an interpreter will do.

use serde::Serialize;

use crate::interpreter::Interpreter;
use crate::problem::shown;

/// Such as `python3.11`, `node18` or `{python: ">=3.8"}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runtime {
    written: String,
    wants: Wants,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Wants {
    Python(PythonRange),
    Foreign,
}

/// `at_least <= version < below`, in major and minor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct PythonRange {
    at_least: Minor,
    below: Option<Minor>,
}

type Minor = (u8, u8);

/// What the harness needs.
const OLDEST_PYTHON: Minor = (3, 9);

/// The agent runs, on something that it did not ask for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("runtime `{wanted}` is asked for; running it on {found}")]
pub struct OtherPython {
    wanted: String,
    found: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    #[error("runtime `{wanted}` is not supported on this machine; it runs {found}")]
    Foreign { wanted: String, found: String },
    #[error("runtime `{wanted}` needs a newer Python than {found}")]
    TooNew { wanted: String, found: String },
    #[error("agents need CPython 3.9 or newer, found {found}")]
    Interpreter { found: String },
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a range of versions, such as `>=3.9`", shown(.0))]
pub struct InvalidRange(String);

impl Runtime {
    pub fn any_python() -> Self {
        Self::python(
            "python3",
            PythonRange {
                at_least: (3, 0),
                below: None,
            },
        )
    }

    /// `python3.11`; everything else is kept by its name.
    pub fn named(name: &str) -> Self {
        let range = match name {
            "python" | "python3" => {
                return Self::python(
                    name,
                    PythonRange {
                        at_least: (3, 0),
                        below: None,
                    },
                );
            }
            _ => name
                .strip_prefix("python")
                .and_then(parse_minor)
                .map(exactly),
        };
        match range {
            Some(range) => Self::python(name, range),
            None => Self {
                written: name.to_owned(),
                wants: Wants::Foreign,
            },
        }
    }

    /// `{python: ">=3.8"}`
    pub fn of_language(language: &str, bounds: &str) -> Result<Self, InvalidRange> {
        let written = format!("{language} {bounds}");
        if language != "python" {
            return Ok(Self {
                written,
                wants: Wants::Foreign,
            });
        }
        let range = PythonRange::parse(bounds).ok_or_else(|| InvalidRange(bounds.to_owned()))?;
        Ok(Self::python(&written, range))
    }

    fn python(written: &str, range: PythonRange) -> Self {
        Self {
            written: written.to_owned(),
            wants: Wants::Python(range),
        }
    }

    pub fn as_str(&self) -> &str {
        &self.written
    }

    /// Whether this is exactly what was asked for, so that the best of several interpreters can be chosen.
    pub fn prefers(&self, interpreter: &Interpreter) -> bool {
        matches!(self.accepts(interpreter), Ok(None))
    }

    pub fn accepts(&self, interpreter: &Interpreter) -> Result<Option<OtherPython>, Unsupported> {
        let found = interpreter.to_string();
        let wanted = self.written.clone();
        let Wants::Python(range) = &self.wants else {
            return Err(Unsupported::Foreign { wanted, found });
        };
        let (major, minor, _) = interpreter.version;
        let version = (major, minor);
        if interpreter.implementation != "cpython" || version < OLDEST_PYTHON || major != 3 {
            return Err(Unsupported::Interpreter { found });
        }
        if version < range.at_least {
            return Err(Unsupported::TooNew { wanted, found });
        }
        let newer = range.below.is_some_and(|below| version >= below);
        Ok(newer.then_some(OtherPython { wanted, found }))
    }
}

impl Serialize for Runtime {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.written)
    }
}

impl PythonRange {
    fn parse(bounds: &str) -> Option<Self> {
        let mut range = Self {
            at_least: (3, 0),
            below: None,
        };
        for bound in bounds.split(',').map(str::trim) {
            let version_at = bound.find(|c: char| c.is_ascii_digit())?;
            let (operator, version) = bound.split_at(version_at);
            let version = parse_minor(version)?;
            let after = after(version);
            match operator.trim() {
                ">=" | ">" => range.at_least = range.at_least.max(version),
                "~=" | "^" => range.at_least = range.at_least.max(version),
                "<" => range.lower_end(version),
                "<=" => range.lower_end(after),
                "==" | "" => {
                    range.at_least = range.at_least.max(version);
                    range.lower_end(after);
                }
                "!=" => {}
                _ => return None,
            }
        }
        Some(range)
    }

    fn lower_end(&mut self, below: Minor) {
        self.below = Some(self.below.map_or(below, |known| known.min(below)));
    }
}

fn exactly(version: Minor) -> PythonRange {
    PythonRange {
        at_least: version,
        below: Some(after(version)),
    }
}

fn after((major, minor): Minor) -> Minor {
    (major, minor.saturating_add(1))
}

/// `3`, `3.11`, `3.11.4` or `3.11.*`, to major and minor.
fn parse_minor(text: &str) -> Option<Minor> {
    let mut parts = text.trim().split('.');
    let major = parts.next()?.parse().ok()?;
    let minor = match parts.next() {
        None | Some("*") => 0,
        Some(minor) => minor.parse().ok()?,
    };
    let patch_is_fine = parts
        .next()
        .is_none_or(|patch| patch == "*" || patch.parse::<u16>().is_ok());
    (patch_is_fine && parts.next().is_none()).then_some((major, minor))
}
