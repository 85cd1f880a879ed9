//! Removing an agent takes its folder along, at once to whoever looks, and in the end from the disk. A worker that is
//! killed leaves nothing either.

use std::path::{Path, PathBuf};

use par_testkit::{PackageBuilder, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::scene::{PATIENCE, Scene};

const WRITER: &str = "import os\nos.makedirs(os.environ['HOME'] + '/a/b', exist_ok=True)\ndef handler(body):\n    pass\n";

#[test]
fn a_removed_agent_leaves_no_folder_and_one_that_an_earlier_life_left_is_swept() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let agents = state.path().join("agents");
    std::fs::create_dir_all(agents.join(".gone-before/0/below")).expect("made");
    let scene = Scene::with(|builder| builder.state(state.path()));
    scene.serve(&PackageBuilder::new("writer").main(WRITER), &json!({}));
    assert!(agents.join("writer").is_dir());
    let answer = scene.http().delete("/supervisor/agents/par-writer");
    assert_eq!(answer.expect("an answer").status, 200);
    assert!(!agents.join("writer").exists());
    wait_for("an empty folder", PATIENCE, || {
        let mut left = std::fs::read_dir(&agents).expect("a folder");
        left.next().is_none().then_some(())
    });
}

/// Sockets in the state folder, of workers and the supervisor.
fn sockets(state: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(state.join("run")).expect("a folder");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    found.sort();
    found
}

#[test]
fn a_worker_that_is_killed_leaves_no_socket() {
    let state = tempfile::tempdir().expect("a temporary folder");
    let scene = Scene::with(|builder| builder.state(state.path()));
    let before = sockets(state.path());
    let never = json!({"restart_policy": "never"});
    scene.serve(&PackageBuilder::new("writer").main(WRITER), &never);
    assert!(sockets(state.path()).len() > before.len());
    let worker = Pid::from_raw(scene.pid("writer", "pid").cast_signed());
    kill_process(worker.expect("an id"), Signal::KILL).expect("it can be killed");
    scene.wait_until("writer", "crashed");
    assert_eq!(sockets(state.path()), before);
}
