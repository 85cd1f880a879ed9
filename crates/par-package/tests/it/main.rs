//! Packages made in code, plain and hostile, go through the public doors of the crate.

mod admit;
mod environment;
mod inspect;
mod manifest;
mod mend;
mod pack;
mod python;
mod raw_zip;
mod refusals;

use std::path::{Path, PathBuf};

use par_package::{Limits, Package, PackageError, Store};
use raw_zip::RawZip;
use tempfile::TempDir;

const MANIFEST: &str = "name: hello\nversion: 0.1.0\nentrypoint: src.main:handler\n";

/// A store in a folder of its own.
struct Bench {
    folder: TempDir,
    store: Store,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Store::open(&folder.path().join("packages")).expect("an empty store opens");
        Self { folder, store }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        path
    }

    fn admit(&self, bytes: &[u8]) -> Result<Package, PackageError> {
        let apkg = self.write("x.apkg", bytes);
        self.store.admit(&apkg, &Limits::default())
    }

    /// Names in the store, but for its lock.
    fn stored(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path().join("packages")).expect("the store is there");
        let names = entries.map(|entry| {
            entry
                .expect("readable")
                .file_name()
                .into_string()
                .expect("UTF-8")
        });
        names.filter(|name| name != ".lock").collect()
    }
}

/// A package of these files, beside a manifest that is right.
fn package(files: &[(&str, &str)]) -> Vec<u8> {
    with_manifest(MANIFEST, files)
}

fn with_manifest(manifest: &str, files: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = RawZip::default();
    zip.file("agent.yaml", manifest.as_bytes());
    for (name, content) in files {
        zip.file(name, content.as_bytes());
    }
    zip.finish()
}

/// The whole chain of an error.
fn told(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
