//! `par build`: what goes in, and that it is always the same.

use std::fs;
use std::io::Cursor;
use std::os::unix::fs::symlink;
use std::path::Path;

use par_package::{Limits, PackError, Packed, pack};
use proptest::prelude::*;
use tempfile::TempDir;

use crate::{Bench, MANIFEST};

fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), "agent.yaml", MANIFEST);
    for (name, content) in files {
        write(folder.path(), name, content);
    }
    folder
}

fn write(folder: &Path, name: &str, content: &str) {
    let path = folder.join(name);
    fs::create_dir_all(path.parent().expect("inside the folder")).expect("made");
    fs::write(path, content).expect("written");
}

fn packed(folder: &Path) -> (Vec<u8>, Packed) {
    let mut out = Cursor::new(vec![]);
    let packed = pack(folder, &mut out, &Limits::default()).expect("a good folder");
    (out.into_inner(), packed)
}

fn error(folder: &Path) -> PackError {
    pack(folder, Cursor::new(vec![]), &Limits::default()).expect_err("the folder must be refused")
}

fn names(bytes: &[u8]) -> Vec<String> {
    let zip = zip::ZipArchive::new(Cursor::new(bytes)).expect("a zip file");
    zip.file_names()
        .map(|name| name.expect("UTF-8").into_owned())
        .collect()
}

#[test]
fn everything_but_caches_and_version_control_is_packed_in_order() {
    let folder = folder(&[
        ("src/main.py", ""),
        ("main.py", ""),
        ("data/x.bin", ""),
        (".env", "A=1"),
        ("core/target/x", ""),
        ("dist/ui/index.html", ""),
        ("src/__pycache__/main.cpython-311.pyc", ""),
        ("src/old.pyc", ""),
        (".git/config", ""),
        (".venv/bin/x", ""),
        ("my-env/pyvenv.cfg", ""),
        ("node_modules/x/y.js", ""),
        ("target/x", ""),
        ("hello-0.1.0.apkg", ""),
        (".DS_Store", ""),
    ]);
    let (bytes, packed) = packed(folder.path());
    let expected = [
        ".env",
        ".pixell/package.json",
        "agent.yaml",
        "core/target/x",
        "data/x.bin",
        "dist/ui/index.html",
        "main.py",
        "src/main.py",
    ];
    assert_eq!(names(&bytes), expected);
    assert_eq!(
        (packed.label.as_str(), packed.entries, packed.bytes),
        ("hello@0.1.0", 8, bytes.len() as u64)
    );
    assert_eq!(
        packed.warnings,
        [".env is packed: whoever has the package can read it"]
    );
}

#[test]
fn what_was_packed_is_admitted() {
    let folder = folder(&[
        ("src/main.py", "def handler(x): return x"),
        ("requirements.txt", "a==1"),
    ]);
    let package = Bench::new()
        .admit(&packed(folder.path()).0)
        .expect("what we pack is good");
    assert_eq!(package.requirements().text(), "a==1\n");
}

#[test]
fn a_description_that_is_there_is_kept() {
    let folder = folder(&[(".pixell/package.json", "{\"own\": 1}")]);
    let bench = Bench::new();
    let package = bench.admit(&packed(folder.path()).0).expect("good");
    let kept = fs::read_to_string(package.root.join(".pixell/package.json")).expect("unpacked");
    assert_eq!(kept, "{\"own\": 1}");
}

#[test]
fn links_are_refused_by_name() {
    let folder = folder(&[]);
    symlink("/etc/passwd", folder.path().join("secrets")).expect("a link");
    assert!(matches!(error(folder.path()), PackError::Link(name) if name == "secrets"));
}

#[test]
fn a_mistake_in_the_manifest_is_reported_before_anything_is_written() {
    let folder = folder(&[("agent.yaml", "name: a\nversion: 1\nentrypoint: nope\n")]);
    let mut out = Cursor::new(vec![]);
    let error = pack(folder.path(), &mut out, &Limits::default()).expect_err("a mistake");
    assert!(
        error
            .to_string()
            .starts_with("agent.yaml:3:13: entrypoint: "),
        "{error}"
    );
    assert!(out.into_inner().is_empty());
}

#[test]
fn a_folder_without_a_manifest_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    assert_eq!(error(folder.path()).to_string(), "agent.yaml: missing");
}

#[test]
fn limits_hold_for_folders_too() {
    let folder = folder(&[("a", "xxxxxxxxxx"), ("b", ""), ("c", "")]);
    let few = Limits {
        entries: 3,
        ..Limits::default()
    };
    assert!(matches!(
        pack(folder.path(), Cursor::new(vec![]), &few),
        Err(PackError::TooManyFiles { .. })
    ));
    let small = Limits {
        unpacked_bytes: 64,
        ..Limits::default()
    };
    assert!(matches!(
        pack(folder.path(), Cursor::new(vec![]), &small),
        Err(PackError::TooLarge { .. })
    ));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn a_folder_packs_to_the_same_bytes_twice_and_comes_back_as_it_was(
        files in prop::collection::btree_map("[a-c]/[a-c]/[a-z]{1,4}\\.txt|[d-f]{1,3}\\.dat", prop::collection::vec(any::<u8>(), 0..200), 0..12)
    ) {
        let (one, two) = (folder(&[]), folder(&[]));
        for (name, content) in &files {
            write(one.path(), name, "");
            fs::write(one.path().join(name), content).expect("written");
        }
        // The other folder is filled in the opposite order.
        for (name, content) in files.iter().rev() {
            write(two.path(), name, "");
            fs::write(two.path().join(name), content).expect("written");
        }
        let (bytes, _) = packed(one.path());
        prop_assert_eq!(&bytes, &packed(two.path()).0);
        let bench = Bench::new();
        let package = bench.admit(&bytes).expect("what we pack is good");
        for (name, content) in &files {
            prop_assert_eq!(&fs::read(package.root.join(name)).expect("unpacked"), content);
        }
    }
}
