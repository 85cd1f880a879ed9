//! `cargo xtask protobuf`: the Rust of our protobuf files, which is committed, so that no build needs a generator.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use protox::prost::Message as _;

const PROTO: &str = "crates/par-protocol/proto";
const GENERATED: &str = "crates/par-protocol/src/protobuf";
/// What reflection tells clients.
const DESCRIPTORS: &str = "descriptors.bin";

pub(crate) fn generate() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let proto = root.join(PROTO);
    let descriptors = protox::compile(files(&proto)?, [&proto])?;
    let generated = root.join(GENERATED);
    fs::create_dir_all(&generated)?;
    fs::write(generated.join(DESCRIPTORS), descriptors.encode_to_vec())?;
    prost_build::Config::new()
        .btree_map(["."])
        .bytes(["."])
        .out_dir(&generated)
        .compile_fds(descriptors)
        .context("failed to write the Rust of the protobuf files")
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
