//! Everything that an agent wants installed: `requirements.txt` or `pyproject.toml`, and the manifest's `dependencies`.

mod line;
mod marker;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::interpreter::Interpreter;
use crate::manifest::Manifest;
use crate::papers::{MANIFEST, PYPROJECT, Papers, REQUIREMENTS};
use crate::problem::{Problem, note};
use crate::{package::Package, text};
pub use line::{InvalidRequirement, Requirement};

/// A set, so that agents which ask for the same share one environment however they spell it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requirements(BTreeSet<Requirement>);

/// Names an environment: what is installed, and for which interpreter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct EnvironmentKey(String);

impl EnvironmentKey {
    /// 64 lowercase hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EnvironmentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Requirements {
    pub fn of(package: &Package) -> &Self {
        package.requirements()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Requirement> {
        self.0.iter()
    }

    /// One requirement a line, in normal form and sorted: fit for `pip install -r`.
    pub fn text(&self) -> String {
        self.0
            .iter()
            .map(|requirement| format!("{requirement}\n"))
            .collect()
    }

    pub fn key(&self, interpreter: &Interpreter) -> EnvironmentKey {
        let mut hash = Sha256::new();
        hash.update(self.text());
        hash.update(interpreter.to_string());
        hash.update([0]);
        hash.update(interpreter.path.as_os_str().as_encoded_bytes());
        EnvironmentKey(par_model::PackageDigest::of_sha256(hash.finalize().into()).into())
    }

    /// Adds versions of `name` that have to hold, and takes out what may not allow them: pins and upper bounds.
    pub(crate) fn require_at_least(&mut self, name: &str, versions: &str) -> Vec<Requirement> {
        let may_forbid = |requirement: &Requirement| {
            requirement.name() == name && requirement.is_bounded_above()
        };
        let overruled: Vec<Requirement> = self.0.extract_if(.., may_forbid).collect();
        let needed = format!("{name}{versions}").parse();
        self.0
            .insert(needed.expect("a name and plain versions are a requirement"));
        overruled
    }

    pub(crate) fn gather(
        papers: &Papers,
        manifest: Option<&Manifest>,
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<String>,
    ) -> Self {
        let mut all = Self::default();
        if let Some(bytes) = &papers.requirements {
            all.add_file(bytes, problems);
        } else if let Some(bytes) = &papers.pyproject {
            all.add_pyproject(bytes, problems, warnings);
        }
        let Some(manifest) = manifest else {
            return all;
        };
        for (index, dependency) in manifest.dependencies.iter().enumerate() {
            all.add(
                dependency,
                || format!("{MANIFEST}: dependencies[{index}]"),
                problems,
            );
        }
        if manifest.rest_entry.is_some()
            && !all
                .0
                .iter()
                .any(|requirement| requirement.name() == "fastapi")
        {
            all.add("fastapi", || MANIFEST.to_owned(), problems);
        }
        all
    }

    fn add(&mut self, text: &str, place: impl FnOnce() -> String, problems: &mut Vec<Problem>) {
        match text.parse() {
            Ok(requirement) => {
                self.0.insert(requirement);
            }
            Err(error) => note(problems, Problem::new(place(), error.to_string())),
        }
    }

    fn add_file(&mut self, bytes: &[u8], problems: &mut Vec<Problem>) {
        let text = match text::decode(bytes) {
            Ok(text) => text,
            Err(error) => return problems.push(Problem::new(REQUIREMENTS, error.to_string())),
        };
        for (number, line) in logical_lines(&text) {
            self.add(&line, || format!("{REQUIREMENTS}:{number}"), problems);
        }
    }

    fn add_pyproject(
        &mut self,
        bytes: &[u8],
        problems: &mut Vec<Problem>,
        warnings: &mut Vec<String>,
    ) {
        let (project, text) = match read_pyproject(bytes) {
            Ok(read) => read,
            Err(problem) => return problems.push(problem),
        };
        if project.dynamic.iter().any(|field| field == "dependencies") {
            warnings.push(format!(
                "{PYPROJECT}: its dependencies are dynamic and are not installed"
            ));
        }
        for dependency in project.dependencies {
            let line = line_at(&text, dependency.span().start);
            self.add(
                dependency.get_ref(),
                || format!("{PYPROJECT}:{line}"),
                problems,
            );
        }
    }
}

impl FromIterator<Requirement> for Requirements {
    fn from_iter<I: IntoIterator<Item = Requirement>>(all: I) -> Self {
        Self(all.into_iter().collect())
    }
}

#[derive(Default, Deserialize)]
struct PyProject {
    #[serde(default)]
    project: Project,
}

#[derive(Default, Deserialize)]
struct Project {
    #[serde(default)]
    dependencies: Vec<toml::Spanned<String>>,
    #[serde(default)]
    dynamic: Vec<String>,
}

fn read_pyproject(bytes: &[u8]) -> Result<(Project, String), Problem> {
    let text = text::decode(bytes).map_err(|error| Problem::new(PYPROJECT, error.to_string()))?;
    match toml::from_str::<PyProject>(&text) {
        Ok(file) => Ok((file.project, text)),
        Err(error) => {
            let line = line_at(&text, error.span().map_or(0, |span| span.start));
            Err(Problem::new(format!("{PYPROJECT}:{line}"), error.message()))
        }
    }
}

fn line_at(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

/// Lines with their numbers: continuations joined, comments and empty lines left out.
fn logical_lines(text: &str) -> Vec<(usize, String)> {
    let mut lines = vec![];
    let mut begun: Option<(usize, String)> = None;
    for (index, line) in text.lines().enumerate() {
        let line = without_comment(line);
        let (number, mut joined) = begun.take().unwrap_or((index + 1, String::new()));
        match line.trim_end().strip_suffix('\\') {
            Some(continued) => {
                joined.push_str(continued);
                joined.push(' ');
                begun = Some((number, joined));
            }
            None => {
                joined.push_str(line);
                lines.push((number, joined));
            }
        }
    }
    lines.extend(begun);
    lines.retain_mut(|(_, line)| {
        *line = line.trim().to_owned();
        !line.is_empty()
    });
    lines
}

fn without_comment(line: &str) -> &str {
    if line.trim_start().starts_with('#') {
        return "";
    }
    let comment = line.find(" #").into_iter().chain(line.find("\t#")).min();
    &line[..comment.unwrap_or(line.len())]
}
