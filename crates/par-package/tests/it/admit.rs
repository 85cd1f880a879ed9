//! What a good package becomes.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::sync::Barrier;

use par_package::{Limits, Package, PackageError, Store};
use sha2::{Digest, Sha256};

use crate::raw_zip::RawZip;
use crate::{Bench, MANIFEST, package, told, with_manifest};

#[test]
fn a_package_is_unpacked_under_the_digest_of_its_bytes() {
    let bench = Bench::new();
    let bytes = package(&[
        ("src/main.py", "def handler(x): ..."),
        ("data/a b.txt", "ü"),
    ]);
    let package = bench.admit(&bytes).expect("a good package");
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(package.digest.as_str(), digest);
    assert_eq!(package.root, bench.path().join("packages").join(&digest));
    assert_eq!(package.label(), "hello@0.1.0");
    let content = fs::read_to_string(package.root.join("data/a b.txt")).expect("unpacked");
    assert_eq!(content, "ü");
    assert_eq!(bench.stored(), [digest]);
}

#[test]
fn an_admitted_package_can_be_read_again() {
    let bench = Bench::new();
    let admitted = bench
        .admit(&package(&[("requirements.txt", "a==1")]))
        .expect("a good package");
    let read = Package::open(&admitted.root).expect("stored");
    assert_eq!(read.label(), admitted.label());
    assert_eq!(read.digest, admitted.digest);
    assert_eq!(read.requirements().text(), "a==1\n");
    let found = bench
        .store
        .get(&admitted.digest)
        .expect("readable")
        .expect("stored");
    assert_eq!(found.root, admitted.root);
    assert!(matches!(
        Package::open(bench.path()),
        Err(PackageError::NotStored(_))
    ));
}

#[test]
fn admitting_twice_is_admitting_once() {
    let bench = Bench::new();
    let bytes = package(&[("src/main.py", "")]);
    let first = bench.admit(&bytes).expect("a good package");
    let unpacked = fs::metadata(&first.root).expect("there").ino();
    let second = bench.admit(&bytes).expect("a good package");
    assert_eq!(first.root, second.root);
    assert_eq!(fs::metadata(&second.root).expect("there").ino(), unpacked);
}

#[test]
fn two_admit_at_once_and_both_get_the_package() {
    let bench = Bench::new();
    let files: Vec<(String, String)> = (0..50)
        .map(|n| (format!("src/m{n}.py"), "x".repeat(n * 10)))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (name.as_str(), text.as_str()))
        .collect();
    let apkg = bench.write("x.apkg", &package(&files));
    let barrier = Barrier::new(8);
    let root = bench.path().join("packages");
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                barrier.wait();
                // Opening sweeps: it must not take away what another is working on.
                let store = Store::open(&root).expect("opens");
                let package = store
                    .admit(&apkg, &Limits::default())
                    .expect("a good package");
                assert!(package.root.join("src/m49.py").is_file());
            });
        }
    });
    assert_eq!(bench.stored().len(), 1);
}

#[test]
fn modes_are_plain_whatever_the_archive_asks_for() {
    let bench = Bench::new();
    let mut zip = RawZip::default();
    zip.file("agent.yaml", MANIFEST.as_bytes());
    zip.file("run", b"").mode = 0o106_777;
    zip.file("locked", b"").mode = 0o100_000;
    zip.file("bin/", b"").mode = 0o042_777;
    zip.file("bare/x", b"").mode = 0;
    let package = bench.admit(&zip.finish()).expect("a good package");
    let mode = |path: &str| {
        fs::metadata(package.root.join(path))
            .expect("unpacked")
            .permissions()
            .mode()
            & 0o7777
    };
    assert_eq!(["run", "locked", "bare/x"].map(mode), [0o444; 3]);
    assert_eq!(["", "bin", "bare"].map(mode), [0o755; 3]);
}

#[test]
fn folders_may_come_after_what_they_hold() {
    let bench = Bench::new();
    let mut zip = RawZip::default();
    zip.file("src/a/x.py", b"");
    zip.file("agent.yaml", MANIFEST.as_bytes());
    zip.file("src/a/", b"").mode = 0o040_755;
    zip.file("src/", b"").mode = 0o040_755;
    assert!(bench.admit(&zip.finish()).is_ok());
}

#[test]
fn a_zip64_archive_is_read_like_any_other() {
    let mut zip = RawZip {
        zip64: true,
        ..RawZip::default()
    };
    zip.file("agent.yaml", MANIFEST.as_bytes());
    assert!(Bench::new().admit(&zip.finish()).is_ok());
}

#[test]
fn names_that_differ_in_case_alone_are_two_files() {
    let bench = Bench::new();
    let package = bench
        .admit(&package(&[("AGENT.YAML", "name: other")]))
        .expect("a good package");
    assert_eq!(package.label(), "hello@0.1.0");
}

#[test]
fn leftovers_of_a_killed_process_are_swept_when_the_store_opens() {
    let bench = Bench::new();
    let root = bench.path().join("packages");
    let kept = bench.admit(&package(&[])).expect("a good package");
    fs::create_dir_all(root.join(".incoming-dead/unpacked/src")).expect("made");
    fs::write(root.join(".incoming-dead/copy"), "half").expect("written");
    Store::open(&root).expect("opens");
    assert_eq!(bench.stored(), [kept.digest.as_str()]);
}

#[test]
fn a_package_that_cannot_be_read_is_the_callers_mistake() {
    let bench = Bench::new();
    for path in [bench.path().join("absent.apkg"), bench.path().to_owned()] {
        let error = bench
            .store
            .admit(&path, &Limits::default())
            .expect_err("nothing to read");
        assert!(error.blames_the_package(), "{}", told(&error));
    }
}

#[test]
fn a_package_larger_than_its_limit_is_refused() {
    let bench = Bench::new();
    let limits = Limits {
        packed_bytes: 100,
        ..Limits::default()
    };
    let apkg = bench.write("x.apkg", &package(&[("a", &"x".repeat(200))]));
    assert!(matches!(
        bench.store.admit(&apkg, &limits),
        Err(PackageError::TooLarge { limit: 100 })
    ));
    assert_eq!(bench.stored(), [] as [&str; 0]);
}

#[test]
fn mistakes_of_all_files_are_reported_together() {
    let bench = Bench::new();
    let files = [("requirements.txt", "--pre\n"), ("deploy.json", "{")];
    let error = bench
        .admit(&with_manifest(
            "name: A\nversion: 1\nentrypoint: a:b\n",
            &files,
        ))
        .expect_err("three mistakes");
    let PackageError::Invalid(problems) = error else {
        panic!("{}", told(&error));
    };
    let places: Vec<_> = problems
        .0
        .iter()
        .map(|problem| problem.place.as_str())
        .collect();
    assert_eq!(
        places,
        ["agent.yaml:1:7", "deploy.json:1:1", "requirements.txt:1"]
    );
    assert_eq!(bench.stored(), [] as [&str; 0]);
}

#[test]
fn the_ui_is_where_the_manifest_says_or_where_the_kit_puts_it() {
    let bench = Bench::new();
    let manifest = "name: a\nversion: 1\nui: {path: ui}\n";
    let own = bench
        .admit(&with_manifest(manifest, &[("ui/index.html", "")]))
        .expect("good");
    assert_eq!(own.ui_folder(), Some(own.root.join("ui")));
    let kit = bench
        .admit(&with_manifest(manifest, &[("dist/ui/index.html", "")]))
        .expect("good");
    assert_eq!(kit.ui_folder(), Some(kit.root.join("dist/ui")));
    let none = bench.admit(&package(&[])).expect("good");
    assert_eq!(none.ui_folder(), None);
}

#[test]
fn rest_brings_fastapi_unless_it_is_asked_for() {
    let bench = Bench::new();
    let manifest = "name: a\nversion: 1\nentrypoint: main:f\nrest: {entry: mount}\n";
    let brought = bench.admit(&with_manifest(manifest, &[])).expect("good");
    assert_eq!(brought.requirements().text(), "fastapi\n");
    let asked = bench
        .admit(&with_manifest(
            manifest,
            &[("requirements.txt", "FastAPI==0.1")],
        ))
        .expect("good");
    assert_eq!(asked.requirements().text(), "fastapi==0.1\n");
    let manifest = format!("{manifest}dependencies: ['b>1', fastapi]\n");
    let union = bench
        .admit(&with_manifest(&manifest, &[("requirements.txt", "a")]))
        .expect("good");
    assert_eq!(union.requirements().text(), "a\nb>1\nfastapi\n");
}
