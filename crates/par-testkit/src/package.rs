//! Packages written in the test that needs them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use par_package::{Limits, pack};

/// An agent's folder, file by file.
#[derive(Clone, Debug)]
pub struct PackageBuilder {
    name: String,
    entrypoint: Option<String>,
    manifest_tail: String,
    files: Vec<(String, Vec<u8>)>,
}

impl PackageBuilder {
    /// An agent `name` whose entrypoint is `handler` in `src/main.py`.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            entrypoint: Some("src.main:handler".to_owned()),
            manifest_tail: String::new(),
            files: vec![],
        }
    }

    /// The text of `src/main.py`.
    #[must_use]
    pub fn main(self, python: &str) -> Self {
        self.file("src/main.py", python)
    }

    #[must_use]
    pub fn file(mut self, path: &str, content: impl AsRef<[u8]>) -> Self {
        self.files
            .push((path.to_owned(), content.as_ref().to_vec()));
        self
    }

    /// `module:function`, or none when there is only a surface.
    #[must_use]
    pub fn entrypoint(mut self, entrypoint: Option<&str>) -> Self {
        self.entrypoint = entrypoint.map(str::to_owned);
        self
    }

    /// More lines of `agent.yaml`, at its top level.
    #[must_use]
    pub fn manifest(mut self, yaml: &str) -> Self {
        self.manifest_tail.push_str(yaml.trim_end());
        self.manifest_tail.push('\n');
        self
    }

    /// Writes `{parent}/{name}` as a folder that `par deploy` takes.
    pub fn folder(&self, parent: &Path) -> io::Result<PathBuf> {
        let folder = parent.join(&self.name);
        for (path, content) in self.entries() {
            let target = folder.join(path);
            fs::create_dir_all(target.parent().expect("an entry lies in a folder"))?;
            fs::write(target, content)?;
        }
        Ok(folder)
    }

    /// Writes `{parent}/{name}.apkg`, packed as `par build` would.
    ///
    /// # Panics
    /// When what was put together is no package.
    #[track_caller]
    pub fn apkg(&self, parent: &Path) -> PathBuf {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let source = self
            .folder(folder.path())
            .expect("its files can be written");
        let path = parent.join(format!("{}.apkg", self.name));
        let file = fs::File::create(&path).expect("the package can be created");
        pack(&source, file, &Limits::default()).expect("it is a package");
        path
    }

    fn entries(&self) -> Vec<(String, Vec<u8>)> {
        let mut entries = vec![("agent.yaml".to_owned(), self.agent_yaml().into_bytes())];
        entries.extend(self.files.iter().cloned());
        entries
    }

    fn agent_yaml(&self) -> String {
        let mut yaml = format!("version: \"1.0\"\nname: {}\n", self.name);
        if let Some(entrypoint) = &self.entrypoint {
            yaml.push_str(&format!("entrypoint: {entrypoint}\n"));
        }
        yaml.push_str(&self.manifest_tail);
        if !self.manifest_tail.contains("metadata:") {
            yaml.push_str("metadata:\n  version: 0.1.0\n");
        }
        yaml
    }
}
