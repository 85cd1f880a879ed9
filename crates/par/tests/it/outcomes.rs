//! What whoever deploys is told.

use par_testkit::{Answer, PackageBuilder};
use serde_json::json;

use crate::scene::Scene;

const UPLOAD: [(&str, &str); 1] = [("content-type", "multipart/form-data; boundary=b")];

/// A form with fields as `name` or `name"; filename="x` and their content.
fn form(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut form = vec![];
    for (name, content) in fields {
        let head = format!("--b\r\ncontent-disposition: form-data; name=\"{name}\"\r\n\r\n");
        form.extend_from_slice(head.as_bytes());
        form.extend_from_slice(content);
        form.extend_from_slice(b"\r\n");
    }
    form.extend_from_slice(b"--b--\r\n");
    form
}

fn upload(scene: &Scene, path: &str, fields: &[(&str, &[u8])]) -> Answer {
    let answer = scene.http().request("POST", path, &UPLOAD, &form(fields));
    answer.expect("an answer")
}

fn apkg(scene: &Scene, name: &str, python: &str) -> Vec<u8> {
    let path = PackageBuilder::new(name).main(python).apkg(scene.folder());
    std::fs::read(path).expect("a package")
}

const FILE: &str = "file\"; filename=\"x.apkg";

#[test]
fn whoever_deploys_an_agent_that_hangs_is_told_that_it_was_not_ready_in_time() {
    let scene = Scene::with(|builder| builder.arguments(["--start-timeout", "1"]));
    let package = apkg(&scene, "hangs", "import time\ntime.sleep(600)\n");
    let answer = upload(&scene, "/supervisor/deploy", &[(FILE, &package)]);
    assert_eq!(answer.status, 422, "{}", answer.text());
    let detail = answer.json()["detail"].clone();
    let detail = detail.as_str().unwrap_or_default();
    assert!(detail.contains("not ready within 1s"), "{detail}");
}

#[test]
fn a_text_field_without_end_is_refused_and_an_unknown_one_is_read_past() {
    let scene = Scene::start();
    let stock = "/api/agent-apps/kit/packages/deploy";
    let large = vec![b' '; 3 << 20];
    for (path, name) in [
        ("/supervisor/deploy", "options"),
        (stock, "environment"),
        (stock, "force_overwrite"),
    ] {
        let answer = upload(&scene, path, &[(name, &large)]);
        assert_eq!(answer.status, 413, "{name}: {}", answer.text());
        let detail = answer.json()["detail"].clone();
        assert!(detail.to_string().contains(name), "{detail}");
    }
    assert_eq!(scene.status()["processes"], json!({}));
    let package = apkg(&scene, "kit", "def handler(body):\n    return 'up'\n");
    let answer = upload(&scene, stock, &[("notes", &large), (FILE, &package)]);
    assert_eq!(answer.status, 202, "{}", answer.text());
    scene.wait_until("kit", "running");
}

#[test]
fn variables_that_are_too_large_together_are_refused_and_the_largest_ones_arrive() {
    let scene = Scene::start();
    let python = "import os\ndef handler(body):\n    return len(os.environ['A'])\n";
    let package = PackageBuilder::new("large").main(python);
    // One that takes the most room on the way.
    let value = "\u{1}".repeat((120 << 10) - 1);
    let answer = scene.spawn(&package, &json!({"env_vars": {"A": value, "B": "x"}}));
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("env_vars"), "{}", answer.text());
    let upload_path = "/api/agent-apps/large/packages/deploy";
    let environment = json!({"A": value, "B": "x"}).to_string();
    let answer = upload(
        &scene,
        upload_path,
        &[("environment", environment.as_bytes())],
    );
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("env_vars"), "{}", answer.text());

    scene.serve(&package, &json!({"env_vars": {"A": value}}));
    assert_eq!(scene.call("large", &json!({})).json(), value.len());
    let options = json!({"agent_id": "large", "package_path": "/", "package_id": "x".repeat(2000)});
    let answer = scene.http().post("/supervisor/spawn", &options);
    let answer = answer.expect("an answer");
    assert_eq!(answer.status, 422, "{}", answer.text());
    assert!(answer.text().contains("package_id"), "{}", answer.text());
}

#[test]
fn what_is_to_be_an_object_and_is_another_value_is_refused_in_plain_words() {
    let scene = Scene::start();
    for body in [
        json!([]),
        json!(["a", "", "/x.apkg", {}]),
        json!(7),
        json!(null),
    ] {
        let answer = scene.http().post("/supervisor/spawn", &body);
        let spawned = answer.expect("an answer");
        let options = body.to_string();
        let deployed = upload(
            &scene,
            "/supervisor/deploy",
            &[("options", options.as_bytes())],
        );
        for answer in [spawned, deployed] {
            assert_eq!(answer.status, 422, "{}", answer.text());
            let words = answer.text();
            assert!(words.contains("not a JSON object"), "{words}");
        }
    }
}
