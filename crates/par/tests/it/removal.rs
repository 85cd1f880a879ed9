//! Removing an agent takes its folder along, at once to whoever looks, and in the end from the disk.

use par_testkit::{PackageBuilder, wait_for};
use serde_json::json;

use crate::scene::{PATIENCE, Scene};

const WRITER: &str = "import os\nos.makedirs('a/b', exist_ok=True)\ndef handler(body):\n    pass\n";

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
