//! One requirement, as PEP 508 has it: a name, extras, versions, a marker. Nothing that names a place to fetch from.

use std::fmt;
use std::str::FromStr;

use super::marker;
use crate::problem::shown;

/// A requirement in its normal form, so that two spellings of one are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    name: String,
    extras: Vec<String>,
    specifiers: Vec<String>,
    marker: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRequirement {
    #[error("options such as `{}` are not allowed; list plain requirements only", shown(.0))]
    PipOption(String),
    #[error("`{}` names a place to fetch from; list a name and versions instead", shown(.0))]
    Place(String),
    #[error("`{}` is not a requirement, such as `name[extra]>=1.0`", shown(.0))]
    Name(String),
    #[error("`{}` is not a list of versions, such as `>=1.0,<2`", shown(.0))]
    Versions(String),
    #[error("`{}` is not a marker, such as `python_version < \"3.11\"`", shown(.0))]
    Marker(String),
}

impl Requirement {
    /// Lowercase, with `-` for every run of `-`, `_` and `.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it says how new a version may be at most.
    pub(crate) fn is_bounded_above(&self) -> bool {
        let lower = |specifier: &String| specifier.starts_with('>') || specifier.starts_with("!=");
        !self.specifiers.iter().all(lower)
    }
}

impl FromStr for Requirement {
    type Err = InvalidRequirement;

    fn from_str(text: &str) -> Result<Self, InvalidRequirement> {
        let text = text.trim();
        refuse_places(text)?;
        let (what, marker) = match text.split_once(';') {
            Some((what, marker)) => (what, Some(marker)),
            None => (text, None),
        };
        let end_of_name = what
            .find(|c: char| !is_name_letter(c))
            .unwrap_or(what.len());
        let (name, rest) = what.split_at(end_of_name);
        if !is_name(name) {
            return Err(InvalidRequirement::Name(text.to_owned()));
        }
        let (extras, versions) =
            split_extras(rest.trim()).ok_or_else(|| InvalidRequirement::Name(text.to_owned()))?;
        let marker = marker
            .map(|marker| {
                marker::normalised(marker)
                    .ok_or_else(|| InvalidRequirement::Marker(marker.trim().to_owned()))
            })
            .transpose()?;
        Ok(Self {
            name: normalised(name),
            extras,
            specifiers: parse_versions(versions)?,
            marker,
        })
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if !self.extras.is_empty() {
            write!(f, "[{}]", self.extras.join(","))?;
        }
        f.write_str(&self.specifiers.join(","))?;
        if let Some(marker) = &self.marker {
            write!(f, " ; {marker}")?;
        }
        Ok(())
    }
}

fn refuse_places(text: &str) -> Result<(), InvalidRequirement> {
    const ARCHIVES: [&str; 6] = [".whl", ".zip", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz"];
    if text.starts_with('-') || text.contains(" --") {
        let option = text.split_whitespace().find(|word| word.starts_with('-'));
        return Err(InvalidRequirement::PipOption(
            option.unwrap_or(text).to_owned(),
        ));
    }
    let what = text
        .split(';')
        .next()
        .unwrap_or(text)
        .trim_end()
        .to_ascii_lowercase();
    // Any part may come last in the normal form, where an installer would take it for a file.
    let is_archive = what
        .split([',', '(', ')', ' '])
        .any(|part| ARCHIVES.iter().any(|ending| part.ends_with(ending)));
    if what.contains(['@', '/', '\\', '$', '%']) || what.starts_with(['.', '~']) || is_archive {
        return Err(InvalidRequirement::Place(text.to_owned()));
    }
    Ok(())
}

fn is_name_letter(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

fn is_name(text: &str) -> bool {
    const LONGEST: usize = 128;
    let ends_well = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    text.len() <= LONGEST
        && ends_well(text.as_bytes().first())
        && ends_well(text.as_bytes().last())
        && text.chars().all(is_name_letter)
}

fn normalised(name: &str) -> String {
    let parts: Vec<&str> = name
        .split(['-', '_', '.'])
        .filter(|part| !part.is_empty())
        .collect();
    parts.join("-").to_ascii_lowercase()
}

/// Splits `[a,b]>=1` into sorted extras and the rest.
fn split_extras(text: &str) -> Option<(Vec<String>, &str)> {
    let Some(text) = text.strip_prefix('[') else {
        return Some((vec![], text));
    };
    let (inside, rest) = text.split_once(']')?;
    if inside.trim().is_empty() {
        return Some((vec![], rest));
    }
    let mut extras = vec![];
    for extra in inside.split(',').map(str::trim) {
        if !is_name(extra) {
            return None;
        }
        extras.push(normalised(extra));
    }
    extras.sort_unstable();
    extras.dedup();
    Some((extras, rest))
}

fn parse_versions(text: &str) -> Result<Vec<String>, InvalidRequirement> {
    let invalid = || InvalidRequirement::Versions(text.trim().to_owned());
    let text = text.trim();
    let inside = match text.strip_prefix('(') {
        Some(rest) => rest.strip_suffix(')').ok_or_else(invalid)?,
        None => text,
    };
    if inside.trim().is_empty() {
        return Ok(vec![]);
    }
    let mut specifiers = vec![];
    // A trailing comma is allowed.
    for specifier in inside.trim().trim_end_matches(',').split(',') {
        specifiers.push(parse_specifier(specifier.trim()).ok_or_else(invalid)?);
    }
    specifiers.sort_unstable();
    specifiers.dedup();
    Ok(specifiers)
}

fn parse_specifier(text: &str) -> Option<String> {
    const OPERATORS: [&str; 8] = ["===", "~=", "==", "!=", "<=", ">=", "<", ">"];
    let operator = OPERATORS
        .iter()
        .find(|operator| text.starts_with(**operator))?;
    let version = text[operator.len()..].trim();
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b".*+!_-".contains(&b);
    let plausible = version.bytes().all(allowed)
        && version
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric());
    plausible.then(|| format!("{operator}{version}"))
}
