//! What somebody changed in a stored package does not outlive its next admission.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Barrier;

use par_package::{Limits, Store};

use crate::{Bench, package};

const MAIN: &str = "def handler(x): return x";

fn bytes() -> Vec<u8> {
    package(&[("src/main.py", MAIN), ("data/deep/x.txt", "x")])
}

/// Asserts that a package with this change is as it was once it is admitted again.
fn is_mended(change: impl FnOnce(&Path)) {
    let bench = Bench::new();
    let root = bench.admit(&bytes()).expect("a good package").root;
    change(&root);
    let again = bench.admit(&bytes()).expect("a good package");
    assert_eq!(again.root, root);
    assert_eq!(
        listed(&root),
        [
            "agent.yaml",
            "data",
            "data/deep",
            "data/deep/x.txt",
            "src",
            "src/main.py"
        ]
    );
    let main = fs::read_to_string(root.join("src/main.py")).expect("there");
    assert_eq!(main, MAIN);
    assert_eq!(bench.stored(), [again.digest.as_str()]);
}

fn listed(root: &Path) -> Vec<String> {
    let mut found = vec![];
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(root).expect("below").to_str();
            found.push(name.expect("UTF-8").to_owned());
            if path.is_dir() {
                folders.push(path);
            }
        }
    }
    found.sort();
    found
}

fn rewrite(path: &Path, content: &str) {
    fs::remove_file(path).expect("there");
    fs::write(path, content).expect("writable");
}

fn lock(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o555)).expect("ours");
}

#[test]
fn a_changed_file_is_mended() {
    is_mended(|root| {
        rewrite(
            &root.join("src/main.py"),
            &MAIN.replace("return x", "return y"),
        )
    });
    is_mended(|root| rewrite(&root.join("src/main.py"), &format!("{MAIN}; evil()")));
    is_mended(|root| rewrite(&root.join("agent.yaml"), "name: other"));
}

#[test]
fn what_was_added_is_removed() {
    is_mended(|root| fs::write(root.join("src/json.py"), "evil()").expect("writable"));
    is_mended(|root| fs::create_dir(root.join("src/json")).expect("writable"));
    is_mended(|root| symlink("/", root.join("data/root")).expect("writable"));
}

#[test]
fn what_is_missing_comes_back() {
    is_mended(|root| fs::remove_file(root.join("src/main.py")).expect("there"));
    is_mended(|root| fs::remove_dir_all(root.join("data")).expect("there"));
    is_mended(|root| fs::remove_dir_all(root).expect("there"));
}

#[test]
fn a_thing_of_another_kind_is_mended() {
    is_mended(|root| {
        fs::rename(root.join("src"), root.join("../aside")).expect("there");
        symlink(root.join("../aside"), root.join("src")).expect("writable");
        fs::remove_dir_all(root.join("../aside")).expect("there");
    });
    is_mended(|root| {
        let main = root.join("src/main.py");
        fs::remove_file(&main).expect("there");
        symlink(root.join("agent.yaml"), &main).expect("writable");
    });
    is_mended(|root| {
        fs::remove_dir_all(root).expect("there");
        symlink("/", root).expect("writable");
    });
    is_mended(|root| {
        fs::remove_dir_all(root).expect("there");
        fs::write(root, "").expect("writable");
    });
}

#[test]
fn folders_that_were_locked_are_replaced_and_swept_all_the_same() {
    is_mended(|root| {
        rewrite(&root.join("src/main.py"), "evil()");
        for folder in ["data/deep", "data", "src", ""] {
            lock(&root.join(folder));
        }
    });
    let bench = Bench::new();
    let left = bench.path().join("packages/.incoming-dead/unpacked");
    fs::create_dir_all(left.join("src/a")).expect("made");
    for folder in ["src/a", "src", ""] {
        lock(&left.join(folder));
    }
    Store::open(&bench.path().join("packages")).expect("opens");
    assert!(bench.stored().is_empty());
}

#[test]
fn a_package_with_other_modes_is_the_same_package() {
    let bench = Bench::new();
    let root = bench.admit(&bytes()).expect("a good package").root;
    let main = root.join("src/main.py");
    fs::set_permissions(&main, Permissions::from_mode(0o644)).expect("ours");
    let unpacked = fs::metadata(&main).expect("there").ino();
    bench.admit(&bytes()).expect("a good package");
    assert_eq!(fs::metadata(&main).expect("there").ino(), unpacked);
}

#[test]
fn many_mend_at_once_and_the_first_one_to_do_it_is_kept() {
    let bench = Bench::new();
    let root = bench.admit(&bytes()).expect("a good package").root;
    rewrite(&root.join("src/main.py"), "evil()");
    let apkg = bench.write("x.apkg", &bytes());
    let barrier = Barrier::new(8);
    let mended = || {
        barrier.wait();
        let package = bench.store.admit(&apkg, &Limits::default());
        let root = package.expect("a good package").root;
        let main = fs::read_to_string(root.join("src/main.py")).expect("never away");
        assert_eq!(main, MAIN);
        fs::metadata(root).expect("never away").ino()
    };
    let inodes: Vec<u64> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(mended)).collect();
        let inodes = all.into_iter().map(|one| one.join().expect("no panic"));
        inodes.collect()
    });
    assert!(inodes.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(bench.stored().len(), 1);
}
