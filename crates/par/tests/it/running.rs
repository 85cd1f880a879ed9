//! A real supervisor, and the commands that ask it.

use std::path::Path;

use par_testkit::{PackageBuilder, System};
use tempfile::TempDir;

use crate::ran::{Ran, par_in};

/// A supervisor and a folder for packages.
pub(crate) struct Running {
    pub(crate) system: System,
    folder: TempDir,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self {
            system: System::start(env!("CARGO_BIN_EXE_par")),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Runs `par` against this supervisor, in its folder.
    pub(crate) fn par(&self, words: &[&str]) -> Ran {
        let words = ["--url", self.system.url()]
            .into_iter()
            .chain(words.iter().copied());
        par_in(self.folder(), words, "")
    }

    /// Writes an agent's folder; its name is what `par deploy` takes.
    pub(crate) fn write(&self, package: &PackageBuilder) {
        package
            .folder(self.folder())
            .expect("its files can be written");
    }

    /// Writes and deploys an agent whose entrypoint is `handler` in `python`.
    #[track_caller]
    pub(crate) fn deploy(&self, name: &str, python: &str) -> Ran {
        self.write(&PackageBuilder::new(name).main(python));
        self.par(&["deploy", name]).ended_with(0)
    }
}
