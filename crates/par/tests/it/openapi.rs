//! The control API keeps to its own description, whatever is sent: schemathesis (PyPI) makes requests of it, right ones and wrong ones.

use std::path::Path;
use std::process::Command;

use par_testkit::python_environment;

use crate::scene::Scene;

const PACKAGES: [&str; 1] = ["schemathesis>=4.32.5,<5"];

/// Not the checks that a description says all there is to say about values: bounds that depend on one another are told
/// by 422, not by a schema.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
                      response_schema_conformance,missing_required_header,unsupported_method,use_after_free";

fn schemathesis(scene: &Scene, more: &[&str]) {
    let python = python_environment(Path::new(env!("CARGO_TARGET_TMPDIR")), &PACKAGES);
    let ran = Command::new(python.join("bin/schemathesis"))
        .current_dir(scene.folder())
        .arg("run")
        .arg(format!("{}/openapi.json", scene.system.url()))
        .args(["--checks", CHECKS])
        .args([
            "--phases",
            "examples,coverage,fuzzing",
            "--max-examples",
            "25",
        ])
        .args(["--seed", "5", "--generation-database", "none"])
        .args(["--suppress-health-check", "all"])
        .args(["--request-timeout", "20", "--no-color"])
        // It would put whatever binary it is told in our place.
        .args(["--exclude-path", "/supervisor/upgrade"])
        .args(more)
        .output()
        .expect("the program is there");
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(
        ran.status.success(),
        "{said}\n{}",
        String::from_utf8_lossy(&ran.stderr)
    );
    // It has asked, and not just looked.
    let asked = format!("Tested: {}", operations(scene));
    assert!(said.contains(&asked), "{said}");
}

/// All that is described, but for the one that is left out.
fn operations(scene: &Scene) -> usize {
    let described = scene.http().get("/openapi.json").expect("an answer").json();
    let paths = described["paths"].as_object().expect("paths");
    let of_path = |path: &serde_json::Value| path.as_object().map_or(0, serde_json::Map::len);
    paths.values().map(of_path).sum::<usize>() - 1
}

#[test]
fn the_control_api_is_as_it_describes_itself_whatever_it_is_sent() {
    let scene = Scene::start();
    scene.agent("echo", "def handler(body):\n    return body\n");
    schemathesis(&scene, &[]);
}
