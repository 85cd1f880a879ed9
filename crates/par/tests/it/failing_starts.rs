//! An agent that cannot start is `failed`, with the reason everywhere one looks, and is not tried for ever.

use std::time::{Duration, Instant};

use par_testkit::PackageBuilder;
use serde_json::json;

use crate::ran::par_in;
use crate::scene::Scene;

/// Agent, its `src/main.py`, and what must be said of it.
const BROKEN: [(&str, &str, &str); 5] = [
    ("not-callable", "handler = 7\n", "not callable"),
    ("missing", "def other(body):\n    pass\n", "handler"),
    (
        "raises",
        "def load():\n    raise ValueError('bad luck')\nload()\n",
        "bad luck",
    ),
    (
        "segfaults",
        "import ctypes\nctypes.string_at(0)\n",
        "SIGSEGV",
    ),
    ("leaves", "import os\nos._exit(9)\n", "exited with code 9"),
];

#[test]
fn an_agent_that_cannot_start_is_failed_and_its_status_and_log_say_why() {
    let scene = Scene::start();
    for (name, python, _) in BROKEN {
        let answer = scene.spawn(&PackageBuilder::new(name).main(python), &json!({}));
        assert_eq!(answer.status, 200, "{name}: {}", answer.text());
    }
    for (name, _, reason) in BROKEN {
        let process = scene.wait_until(name, "failed");
        let error = process["error"].as_str().unwrap_or_default();
        assert!(error.contains(reason), "{name}: {process}");
        assert_eq!(process["restart_count"], 0, "{name}");
        let line = scene.wait_for_log(name, reason);
        assert_eq!(line["level"], "ERROR", "{name}: {line}");
    }
    assert_eq!(scene.system.descendants(), Vec::<u32>::new());
    assert_eq!(scene.status()["routes"], json!([]));
}

#[test]
fn the_traceback_of_an_import_is_in_status_logs_and_ps() {
    let scene = Scene::start();
    let (name, python, _) = BROKEN[2];
    scene.spawn(&PackageBuilder::new(name).main(python), &json!({}));
    let process = scene.wait_until(name, "failed");
    let traceback = process["traceback"].as_str().unwrap_or_default();
    for line in ["in load", "src/main.py\", line 2", "ValueError: bad luck"] {
        assert!(traceback.contains(line), "{traceback}");
        scene.wait_for_log(name, line);
    }
    let url = scene.system.url();
    let shown = par_in(scene.folder(), ["--url", url, "ps", name], "");
    assert!(shown.stdout.contains("in load"), "{shown:?}");
    assert!(shown.stdout.contains("bad luck"), "{shown:?}");
}

#[test]
fn a_module_that_is_not_there_is_named() {
    let scene = Scene::start();
    let package = PackageBuilder::new("astray")
        .main("import no_such_library_here\ndef handler(body):\n    pass\n");
    scene.spawn(&package, &json!({}));
    let process = scene.wait_until("astray", "failed");
    let error = process["error"].as_str().unwrap_or_default();
    assert!(error.contains("no_such_library_here"), "{process}");
}

#[test]
fn an_import_that_hangs_is_ended_at_the_start_timeout() {
    let scene = Scene::with(|builder| builder.arguments(["--start-timeout", "1"]));
    let hanging = [
        ("sleeps", "import time\ntime.sleep(600)\n"),
        ("spins", "while True:\n    pass\n"),
        (
            "floods",
            "import os\nwhile True:\n    os.write(1, b'x' * 65536)\n",
        ),
    ];
    let begin = Instant::now();
    for (name, python) in hanging {
        scene.spawn(&PackageBuilder::new(name).main(python), &json!({}));
        let health = scene.http().get("/runtime/health").expect("an answer");
        assert_eq!(health.status, 200);
    }
    for (name, _) in hanging {
        let process = scene.wait_until(name, "failed");
        assert_eq!(process["error"], "not ready within 1s", "{name}");
        scene.wait_for_log(name, "not ready within 1s");
    }
    assert!(begin.elapsed() >= Duration::from_secs(1));
    assert_eq!(scene.system.descendants(), Vec::<u32>::new());
}

#[test]
fn deploy_returns_what_an_agent_could_not_start_with() {
    let scene = Scene::start();
    for (name, python, reason) in BROKEN {
        let package = PackageBuilder::new(name).main(python);
        package.folder(scene.folder()).expect("written");
        let words = ["--url", scene.system.url(), "deploy", name];
        let ran = par_in(scene.folder(), words, "").ended_with(1);
        assert!(ran.stderr.contains(reason), "{name}: {ran:?}");
    }
}

#[test]
fn a_failed_agent_starts_once_its_package_is_mended() {
    let scene = Scene::start();
    let broken = PackageBuilder::new("learner").main("raise ValueError('not yet')\n");
    scene.spawn(&broken, &json!({}));
    scene.wait_until("learner", "failed");
    scene.agent("learner", "def handler(body):\n    return 'learnt'\n");
    assert_eq!(scene.call("learner", &json!({})).json(), "learnt");
}
