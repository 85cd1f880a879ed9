//! What an agent's processes leave behind when they end is cleared away while the agent lives.

use par_testkit::{PackageBuilder, wait_for};
use serde_json::json;

use crate::scene::{PATIENCE, Scene};

/// Every call starts children whose children nobody waits for.
const FORKING: &str = r#"
import os

def handler(count):
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os.fork()
            os._exit(0)
        os.waitpid(child, 0)
    return "forked"
"#;

/// Zombies whose parent is the process.
fn zombies_of(parent: u32) -> usize {
    let stat_of = |entry: std::io::Result<std::fs::DirEntry>| {
        let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
        let (_, tail) = stat.rsplit_once(") ")?;
        Some(tail.starts_with(&format!("Z {parent} ")))
    };
    let processes = std::fs::read_dir("/proc").expect("processes can be seen");
    processes
        .filter_map(stat_of)
        .filter(|is_one| *is_one)
        .count()
}

#[test]
fn orphans_that_end_below_a_living_agent_leave_no_zombie() {
    let scene = Scene::start();
    scene.serve(&PackageBuilder::new("forking").main(FORKING), &json!({}));
    let worker = scene.pid("forking", "pid");
    assert_eq!(scene.call("forking", &json!(100)).json(), "forked");
    wait_for("no zombie below the worker", PATIENCE, || {
        (zombies_of(worker) == 0).then_some(())
    });
    assert_eq!(scene.pid("forking", "pid"), worker);
    assert_eq!(scene.call("forking", &json!(0)).json(), "forked");
}
