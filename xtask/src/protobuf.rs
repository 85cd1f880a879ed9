//! `cargo xtask protobuf`: the Rust of our protobuf files, which is committed, so that no build needs a generator.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use protox::prost::Message as _;

const PROTO: &str = "crates/par-protocol/proto";
const GENERATED: &str = "crates/par-protocol/src/protobuf";
/// What reflection tells clients.
const DESCRIPTORS: &str = "descriptors.bin";

/// Writes all of it in its place.
pub(crate) fn generate() -> anyhow::Result<()> {
    let generated = root().join(GENERATED);
    fs::create_dir_all(&generated)?;
    generate_into(&generated)
}

fn generate_into(folder: &Path) -> anyhow::Result<()> {
    let proto = root().join(PROTO);
    let descriptors = protox::compile(files(&proto)?, [&proto])?;
    fs::write(folder.join(DESCRIPTORS), descriptors.encode_to_vec())?;
    prost_build::Config::new()
        .btree_map(["."])
        .bytes(["."])
        .out_dir(folder)
        .compile_fds(descriptors)
        .context("failed to write the Rust of the protobuf files")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(proto: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = vec![];
    for folder in fs::read_dir(proto)? {
        for file in fs::read_dir(folder?.path())? {
            files.push(file?.path());
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_committed_is_what_the_protobuf_files_say() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        generate_into(folder.path()).expect("the files are right");
        let committed = root().join(GENERATED);
        for entry in fs::read_dir(folder.path()).expect("written") {
            let name = entry.expect("an entry").file_name();
            let read = |folder: &Path| fs::read(folder.join(&name)).unwrap_or_default();
            let same = read(folder.path()) == read(&committed);
            assert!(same, "{}: run `cargo xtask protobuf`", name.display());
        }
    }
}
