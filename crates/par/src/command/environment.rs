//! Variables for an agent, from the command line and from files.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context as _, anyhow};
use par_package::Dotenv;

use crate::exit::{Exit, Problem};

/// `KEY=VALUE`
#[derive(Clone)]
pub(super) struct Variable {
    key: String,
    value: String,
}

impl Variable {
    pub(super) fn into_pair(self) -> (String, String) {
        (self.key, self.value)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("write it as KEY=VALUE; a key is letters, digits and `_`")]
pub(super) struct NotAVariable;

impl FromStr for Variable {
    type Err = NotAVariable;

    fn from_str(text: &str) -> Result<Self, NotAVariable> {
        let (key, value) = text.split_once('=').ok_or(NotAVariable)?;
        let named = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let starts_well = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if !starts_well || !key.bytes().all(named) {
            return Err(NotAVariable);
        }
        Ok(Self {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    }
}

/// A file in the form of a package's `.env`. Its broken lines are a mistake: nobody asks for half of a file.
pub(super) fn of_file(path: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let shown = path.display();
    let bytes = std::fs::read(path).with_context(|| format!("failed to read `{shown}`"))?;
    let read = Dotenv::parse(&bytes);
    if !read.warnings.is_empty() {
        let message = format!("`{shown}` has lines that are no KEY=VALUE");
        let lines = read.warnings.join("\n");
        return Err(Problem::new(Exit::Usage, message)
            .because(anyhow!(lines))
            .into());
    }
    let pairs = read.variables.iter();
    Ok(pairs
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect())
}

/// The value of a variable of our own.
pub(super) fn of_ours(key: &str) -> anyhow::Result<String> {
    std::env::var(key).map_err(|_| {
        let message = format!("there is no variable `{key}` here to take the secret from");
        let help = format!("set it before: `export {key}`, or write it into a --secret-file");
        Problem::new(Exit::Usage, message).help(help).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variable_has_a_name_and_may_have_any_value() {
        let pair = |text: &str| text.parse().ok().map(Variable::into_pair);
        let expected = Some(("A".to_owned(), "b=c d".to_owned()));
        assert_eq!(pair("A=b=c d"), expected);
        for bad in ["A", "=x", "1A=x", "A-B=x", ""] {
            assert_eq!(pair(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_file_of_variables_is_read_line_by_line() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("prod.env");
        std::fs::write(&path, "# keys\n\nexport A='x y'\nB=1\n").expect("written");
        let read = of_file(&path).expect("valid");
        let expected = [("A", "x y"), ("B", "1")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(read, BTreeMap::from(expected));
    }

    #[test]
    fn a_broken_line_is_named_and_its_content_is_not_shown() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("prod.env");
        std::fs::write(&path, "A=1\nsecret\n").expect("written");
        let told = format!("{:#}", of_file(&path).expect_err("refused"));
        assert!(told.contains(":2") && !told.contains("secret"), "{told}");
    }
}
