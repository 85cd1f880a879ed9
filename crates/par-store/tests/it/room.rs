//! Disks that are full, or may not be written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use par_store::{Bounds, Change, Store, StoreError};

use super::model::{Model, RELEASES, workload};
use super::{add, agent, commit, folder, open, refusal};

const ROOM: &str = "PAR_STORE_TEST_ROOM";

#[test]
fn a_file_at_its_bound_says_so_and_keeps_what_it_held() {
    let folder = folder();
    let bounds = Bounds {
        bytes: 160 << 10,
        ..Bounds::default()
    };
    let store = Store::open(folder.path(), bounds).expect("it opens");
    let mut agents = 0;
    let error = loop {
        let revision = store.revision().expect("read");
        match store.commit(revision, &[add(&format!("agent-{agents}"), 1)]) {
            Ok(_) => agents += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Full { .. }), "{error:?}");
    assert!(error.to_string().contains("par.db"), "{error}");
    assert!(agents > 10);
    assert_eq!(store.agents().expect("read").len(), agents);
    let gone = (0..10).map(|number| Change::RemoveAgent(agent(&format!("agent-{number}"))));
    commit(&store, &gone.collect::<Vec<_>>());
    commit(&store, &[add("new", 1)]);
    drop(store);
    assert_eq!(
        open(folder.path()).agents().expect("read").len(),
        agents - 9
    );
}

/// Runs a child test with a small disk of its own; does nothing where the machine gives no mount namespace.
fn on_a_disk(options: &str, child: &str) {
    let probe = Command::new("unshare").args(["-rm", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        return;
    }
    let folder = folder();
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c"])
        .arg("mount -t tmpfs -o \"$1\" none \"$2\" && exec \"$3\" --exact \"$4\" --nocapture")
        .args(["sh", options])
        .arg(folder.path())
        .arg(std::env::current_exe().expect("this program"))
        .arg(child)
        .env(ROOM, folder.path())
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn room() -> Option<PathBuf> {
    std::env::var_os(ROOM).map(PathBuf::from)
}

#[test]
fn a_full_disk_is_told_and_nothing_is_lost() {
    on_a_disk("size=2m", "room::child_on_a_full_disk");
}

/// Not a test of its own.
#[test]
fn child_on_a_full_disk() {
    let Some(folder) = room() else { return };
    let bounds = Bounds {
        releases: RELEASES,
        ..Bounds::default()
    };
    let open = || Store::open(&folder, bounds).expect("it opens");
    let mut store = open();
    let mut model = Model::default();
    let mut refusals = 0;
    for (index, ops) in workload(3, 120).into_iter().enumerate() {
        if index % 30 == 15 {
            fill(&folder);
        }
        let mut next = model.clone();
        let changes = next.apply(&ops);
        let revision = store.revision().expect("read");
        match store.commit(revision, &changes) {
            Ok(_) => model = next,
            Err(StoreError::Full { .. }) => {
                refusals += 1;
                assert_eq!(Model::of(&store), model);
                fs::remove_file(folder.join("ballast")).expect("removed");
                store
                    .commit(revision, &changes)
                    .expect("there is room again");
                model = next;
            }
            Err(other) => panic!("{other:?}"),
        }
        assert_eq!(Model::of(&store), model);
        if index % 20 == 0 {
            drop(store);
            store = open();
        }
    }
    assert!(refusals > 0, "the disk was full at times");
}

/// Leaves no room at all.
fn fill(folder: &Path) {
    let mut size = 1 << 20;
    while size > 0 {
        let mut options = fs::OpenOptions::new();
        let ballast = options
            .create(true)
            .append(true)
            .open(folder.join("ballast"));
        let written = std::io::Write::write(&mut ballast.expect("opened"), &vec![1; size]);
        if written.is_err() {
            size /= 2;
        }
    }
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    on_a_disk("ro", "room::child_on_a_disk_that_may_not_be_written");
    let folder = folder();
    let gone = refusal(&folder.path().join("nowhere"));
    assert!(matches!(gone, StoreError::NotWritable { .. }), "{gone:?}");
    let file = folder.path().join("file");
    fs::write(&file, "").expect("written");
    assert!(matches!(refusal(&file), StoreError::NotWritable { .. }));
}

/// Not a test of its own.
#[test]
fn child_on_a_disk_that_may_not_be_written() {
    let Some(folder) = room() else { return };
    let error = refusal(&folder);
    assert!(matches!(error, StoreError::NotWritable { .. }), "{error:?}");
    let shown = error.to_string();
    assert!(shown.contains(&folder.display().to_string()), "{shown}");
    assert!(shown.contains("--state"), "{shown}");
}
