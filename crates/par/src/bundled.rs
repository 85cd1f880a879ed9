//! The example agents, carried in the binary for `par demo` and `par init`.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;

use clap::ValueEnum;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Example {
    /// Greets whoever is named
    Hello,
    /// Asks another agent
    Asker,
    /// Answers piece by piece
    Stream,
    /// Runs code; an agent without a line of its own is nothing to begin with
    #[value(skip)]
    Python,
}

macro_rules! files {
    ($example:literal) => {
        &[
            (
                "agent.yaml",
                include_str!(concat!(
                    "../../../examples/agents/",
                    $example,
                    "/agent.yaml"
                )),
            ),
            (
                "src/main.py",
                include_str!(concat!(
                    "../../../examples/agents/",
                    $example,
                    "/src/main.py"
                )),
            ),
            (
                "README.md",
                include_str!(concat!("../../../examples/agents/", $example, "/README.md")),
            ),
            (
                ".env",
                include_str!(concat!("../../../examples/agents/", $example, "/.env")),
            ),
        ]
    };
}

impl Example {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Asker => "asker",
            Self::Stream => "stream",
            Self::Python => "python",
        }
    }

    /// What to ask it under the name that it has got, in words for `par`.
    pub(crate) fn question(self, name: &str) -> String {
        match self {
            Self::Hello => format!(r#"call {name} '{{"name": "Ada"}}'"#),
            Self::Asker => format!(r#"call {name} '{{"agent": "hello", "name": "Ada"}}'"#),
            Self::Stream => format!(r#"call {name} '{{"to": 3}}'"#),
            Self::Python => format!("exec {name} -c 'print(1 + 1)'"),
        }
    }

    fn files(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Hello => files!("hello"),
            Self::Asker => files!("asker"),
            Self::Stream => files!("stream"),
            Self::Python => &[(
                "agent.yaml",
                include_str!("../../../examples/agents/python/agent.yaml"),
            )],
        }
    }

    /// Writes the agent into `folder` under another name. Never replaces a file.
    pub(crate) fn write(self, folder: &Path, name: &str) -> io::Result<Vec<&'static str>> {
        let mut written = vec![];
        for &(path, text) in self.files() {
            let target = folder.join(path);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent)?;
            }
            let mut file = fs::File::create_new(target)?;
            file.write_all(self.renamed(path, text, name).as_bytes())?;
            written.push(path);
        }
        Ok(written)
    }

    fn renamed(self, path: &str, text: &str, name: &str) -> String {
        let old = self.name();
        match path {
            "agent.yaml" => {
                text.replacen(&format!("\nname: {old}\n"), &format!("\nname: {name}\n"), 1)
            }
            "README.md" => text
                .replacen(&format!("# {old}\n"), &format!("# {name}\n"), 1)
                .replace(&format!("par call {old} "), &format!("par call {name} ")),
            _ => text.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_example_takes_another_name_wherever_its_own_stands() {
        for example in Example::value_variants() {
            let folder = tempfile::tempdir().expect("a temporary folder");
            example.write(folder.path(), "weather").expect("written");
            let read = |file: &str| fs::read_to_string(folder.path().join(file)).expect("read");
            assert!(
                read("agent.yaml").contains("\nname: weather\n"),
                "{example:?}"
            );
            assert!(read("README.md").starts_with("# weather\n"), "{example:?}");
            assert!(
                read("README.md").contains("par call weather "),
                "{example:?}"
            );
        }
    }

    #[test]
    fn nothing_that_is_there_is_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::write(folder.path().join("README.md"), "mine").expect("written");
        assert!(Example::Hello.write(folder.path(), "x").is_err());
        assert_eq!(
            fs::read_to_string(folder.path().join("README.md")).expect("read"),
            "mine"
        );
    }
}
