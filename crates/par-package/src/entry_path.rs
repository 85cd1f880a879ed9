//! The one rule for paths that come out of a package: what it accepts stays below the folder it is joined to.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::Serialize;

use crate::problem::shown;

/// A relative path of plain components, joined by `/`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct EntryPath(String);

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the path `{}` {reason}", shown(path))]
pub struct InvalidPath {
    path: String,
    reason: &'static str,
}

/// The longest name that file systems take for one component.
const LONGEST_COMPONENT: usize = 255;

impl EntryPath {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn depth(&self) -> usize {
        self.0.split('/').count()
    }

    /// Every folder that this path lies in, outermost first.
    pub fn parents(&self) -> impl Iterator<Item = &str> {
        self.0.match_indices('/').map(|(end, _)| &self.0[..end])
    }

    fn broken_rule(path: &str) -> Option<&'static str> {
        if path.is_empty() {
            return Some("is empty");
        }
        if path.starts_with('/') {
            return Some("is absolute");
        }
        if path.contains('\\') {
            return Some("contains a backslash");
        }
        if path.contains(char::is_control) {
            return Some("contains a control character");
        }
        if path.as_bytes().get(1) == Some(&b':') && path.as_bytes()[0].is_ascii_alphabetic() {
            return Some("begins with a drive");
        }
        path.split('/').find_map(|component| match component {
            "" => Some("has an empty component"),
            "." | ".." => Some("has a component `.` or `..`"),
            long if long.len() > LONGEST_COMPONENT => Some("has a component longer than 255 bytes"),
            _ => None,
        })
    }
}

impl FromStr for EntryPath {
    type Err = InvalidPath;

    fn from_str(path: &str) -> Result<Self, InvalidPath> {
        match Self::broken_rule(path) {
            None => Ok(Self(path.to_owned())),
            Some(reason) => Err(InvalidPath {
                path: path.to_owned(),
                reason,
            }),
        }
    }
}

impl AsRef<Path> for EntryPath {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl fmt::Display for EntryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Component;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn plain_relative_paths_are_accepted() {
        for good in [
            "a",
            "src/main.py",
            ".env",
            "a b/c",
            "ü/ž",
            "..a",
            "a..",
            "ab:c",
        ] {
            assert!(good.parse::<EntryPath>().is_ok(), "{good}");
        }
    }

    #[test]
    fn whatever_could_lead_elsewhere_is_refused() {
        for bad in [
            "", "/", "/a", "..", "../a", "a/../b", "a/..", "./a", ".", "a//b", "a/", "C:/a", "c:",
            "a\\b", "a\0b", "a\nb",
        ] {
            assert!(bad.parse::<EntryPath>().is_err(), "{bad}");
        }
        assert!("x".repeat(256).parse::<EntryPath>().is_err());
    }

    #[test]
    fn parents_are_listed_from_the_outside() {
        let path: EntryPath = "a/b/c".parse().expect("valid");
        assert_eq!(path.parents().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(path.depth(), 3);
    }

    proptest! {
        #[test]
        fn an_accepted_path_has_only_normal_components(path in "[a-c./\\\\:\\x00-\\x1f]{0,20}|.{0,40}") {
            if let Ok(accepted) = path.parse::<EntryPath>() {
                let components: Vec<_> = accepted.as_ref().components().collect();
                prop_assert!(components.iter().all(|part| matches!(part, Component::Normal(_))));
                prop_assert_eq!(components.len(), accepted.depth());
            }
        }
    }
}
