//! The control API says what is wrong, always in the same shape, and is as it describes itself.

use par_testkit::{Answer, PackageBuilder};
use serde_json::{Value, json};

use crate::scene::Scene;

const ECHO: &str = "def handler(body):\n    print('hello')\n    return body\n";

fn ask(scene: &Scene, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let answer = scene.http().request(method, path, headers, body.as_bytes());
    answer.expect("an answer")
}

/// Fails unless the answer has the status, and a `detail` that holds the words.
#[track_caller]
fn refused(answer: &Answer, status: u16, words: &str) {
    assert_eq!(answer.status, status, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    let body = answer.json();
    let detail = body["detail"].as_str().unwrap_or_default();
    assert!(detail.contains(words), "{body}");
    assert!(!detail.is_empty(), "{body}");
}

#[test]
fn a_wrong_body_is_400_and_a_wrong_field_is_422_and_named() {
    let scene = Scene::start();
    let spawn = |body: &str| ask(&scene, "POST", "/supervisor/spawn", &[], body);
    for text in ["", "{", "nope", "\u{feff}{}", "{\"agent_id\": \"a\""] {
        refused(&spawn(text), 400, "not JSON");
    }
    let right = json!({"agent_id": "a", "package_path": "/nowhere.apkg"});
    for (field, value) in [
        ("agent_id", json!(7)),
        ("agent_id", json!("../x")),
        ("agent_id", json!("")),
        ("package_path", json!(["x"])),
        ("package_path", json!("")),
        ("package_path", json!("a\u{0}b")),
        ("env_vars", json!("A=1")),
        ("env_vars", json!({"A": 1})),
        ("memory_limit_mb", json!(-1)),
        ("memory_limit_mb", json!(1)),
        ("cpu_limit", json!("all")),
        ("pids_limit", json!(1)),
        ("open_files_limit", json!("many")),
        ("workspace_limit_mb", json!(0)),
        ("priority", json!("urgent")),
        ("require_limits", json!("yes")),
        ("restart_policy", json!("sometimes")),
        ("max_restarts", json!(-1)),
        ("restart_delay_seconds", json!(-0.5)),
        ("backoff_multiplier", json!(0)),
        ("max_restart_delay_seconds", json!("long")),
    ] {
        let mut request = right.clone();
        request[field] = value;
        refused(&spawn(&request.to_string()), 422, field);
    }
    refused(&spawn("{}"), 422, "agent_id");
    refused(&spawn(r#"{"agent_id": "a"}"#), 422, "package_path");
    refused(&spawn("[]"), 422, "");
    refused(&spawn(&right.to_string()), 400, "/nowhere.apkg");
    assert_eq!(scene.status()["processes"], json!({}));
}

#[test]
fn environment_names_that_cannot_be_are_refused() {
    let scene = Scene::start();
    for name in ["", "A=B", "A\u{0}"] {
        let package = PackageBuilder::new("env").main(ECHO);
        let answer = scene.spawn(&package, &json!({"env_vars": {name: "x"}}));
        refused(&answer, 422, "env_vars");
    }
    let answer = scene.spawn(
        &PackageBuilder::new("env").main(ECHO),
        &json!({"env_vars": {"A": "b\u{0}c"}}),
    );
    refused(&answer, 422, "env_vars");
    assert_eq!(scene.status()["processes"], json!({}));
}

#[test]
fn what_is_unknown_is_404_and_what_runs_already_is_409() {
    let scene = Scene::start();
    for (method, path) in [
        ("POST", "/supervisor/stop/par-ghost"),
        ("POST", "/supervisor/stop/ghost"),
        ("POST", "/supervisor/start/par-ghost"),
        ("POST", "/supervisor/restart/par-ghost"),
        ("DELETE", "/supervisor/agents/par-ghost"),
    ] {
        refused(&ask(&scene, method, path, &[], ""), 404, "ghost");
    }
    let package = PackageBuilder::new("echo").main(ECHO);
    scene.serve(&package, &json!({}));
    refused(&scene.spawn(&package, &json!({})), 409, "echo");
    assert_eq!(scene.call("echo", &json!(1)).status, 200, "it goes on");
    refused(&ask(&scene, "GET", "/no/such/path", &[], ""), 404, "");
    refused(&ask(&scene, "GET", "/agents/", &[], ""), 404, "");
    refused(
        &ask(&scene, "POST", "/agents/echo/exports/ghost", &[], "{}"),
        404,
        "Export 'ghost' not found",
    );
    refused(
        &ask(&scene, "GET", "/agents/echo/no/such", &[], ""),
        404,
        "",
    );
    refused(
        &ask(&scene, "POST", "/agents/echo/invoke", &[], "{nope"),
        400,
        "not JSON",
    );
    refused(&ask(&scene, "GET", "/supervisor/spawn", &[], ""), 405, "");
    refused(&ask(&scene, "GET", "/agents/echo/invoke", &[], ""), 405, "");
    refused(
        &ask(&scene, "GET", "/supervisor/logs?limit=many", &[], ""),
        400,
        "limit",
    );
    refused(
        &ask(&scene, "GET", "/supervisor/logs?level=loud", &[], ""),
        400,
        "level",
    );
    for (query, words) in [
        ("since=yesterday", "since"),
        ("agent=../x", "agent"),
        ("after=-1", "after"),
        ("follow=maybe", "follow"),
    ] {
        let path = format!("/supervisor/events?{query}");
        refused(&ask(&scene, "GET", &path, &[], ""), 400, words);
    }
    let seen = [("last-event-id", "x")];
    let path = "/supervisor/events?follow=true";
    refused(&ask(&scene, "GET", path, &seen, ""), 400, "last-event-id");
}

#[test]
fn pages_of_other_origins_and_foreign_host_names_are_403() {
    let scene = Scene::start();
    let evil = [("origin", "http://evil.example")];
    refused(
        &ask(&scene, "GET", "/supervisor/status", &evil, ""),
        403,
        "",
    );
    refused(
        &ask(&scene, "POST", "/supervisor/spawn", &evil, "{}"),
        403,
        "",
    );
    let own = scene.system.url().to_owned();
    let same = [("origin", own.as_str())];
    assert_eq!(
        ask(&scene, "GET", "/supervisor/status", &same, "").status,
        200
    );
}

#[test]
fn a_refused_package_leaves_nothing_in_the_state_folder() {
    let scene = Scene::start();
    let files = || {
        let mut files = vec![];
        all_files(scene.system.state(), &mut files);
        files
    };
    let before = files();
    let path = scene.folder().join("broken.apkg");
    std::fs::write(&path, "no zip").expect("written");
    let request = json!({"agent_id": "broken", "package_path": path});
    let answer = scene
        .http()
        .post("/supervisor/spawn", &request)
        .expect("an answer");
    refused(&answer, 400, "zip");
    let upload = [("content-type", "multipart/form-data; boundary=b")];
    let form = "--b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"x.apkg\"\r\n\r\nno zip\r\n--b--\r\n";
    refused(
        &ask(&scene, "POST", "/supervisor/deploy", &upload, form),
        400,
        "zip",
    );
    assert_eq!(files(), before);
    assert_eq!(scene.system.descendants(), Vec::<u32>::new());
    assert_eq!(scene.status()["processes"], json!({}));
}

fn all_files(folder: &std::path::Path, into: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all_files(&path, into);
        }
        // A lock says nothing about any package, and that somebody asked is to be kept.
        let is_of_packages = |name: &std::ffi::OsStr| name != ".lock" && name != "changes.jsonl";
        if path.file_name().is_some_and(is_of_packages) {
            into.push(path);
        }
    }
    into.sort();
}

/// Each path and method, with what a path's parameters are replaced by.
fn documented(description: &Value) -> Vec<(String, String)> {
    let paths = description["paths"].as_object().expect("paths");
    let of_path = |(path, methods): (&String, &Value)| {
        let methods = methods.as_object().expect("methods").clone();
        let path = path.clone();
        methods
            .into_iter()
            .map(move |(method, _)| (method.to_uppercase(), path.clone()))
    };
    paths
        .iter()
        .flat_map(|entry| of_path(entry).collect::<Vec<_>>())
        .collect()
}

#[test]
fn everything_that_is_described_is_there() {
    let scene = Scene::start();
    let description = ask(&scene, "GET", "/openapi.json", &[], "").json();
    let documented = documented(&description);
    assert!(documented.len() > 10, "{documented:?}");
    for (method, path) in documented {
        let (before, after) = path.split_once('{').unwrap_or((&path, ""));
        let filled = match after.split_once('}') {
            Some((_, after)) => format!("{before}ghost{after}"),
            None => path.clone(),
        };
        let answer = ask(&scene, &method, &filled, &[], "");
        assert_ne!(answer.status, 405, "{method} {path}");
        // An unknown agent or deployment is found to be unknown; an unknown path is just not found.
        assert_ne!(
            answer.text(),
            r#"{"detail":"Not Found"}"#,
            "{method} {path}"
        );
    }
}

/// Fails unless `value` has the properties that the schema requires, and none that it does not know.
#[track_caller]
fn conforms(description: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.strip_prefix('#').expect("a reference within");
            description.pointer(pointer).expect("it is there")
        }
        None => schema,
    };
    for required in schema["required"].as_array().into_iter().flatten() {
        let name = required.as_str().expect("a name");
        assert!(value.get(name).is_some(), "{place} lacks {name}: {value}");
    }
    if let Some(allowed) = schema["enum"].as_array() {
        assert!(
            allowed.contains(value),
            "{place}: {value} is not of {allowed:?}"
        );
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        if let Some(inner) = value.get(name).filter(|inner| !inner.is_null()) {
            conforms(description, property, inner, &format!("{place}.{name}"));
        }
    }
    if let Some(items) = schema.get("items") {
        for item in value.as_array().expect("a list") {
            conforms(description, items, item, &format!("{place}[]"));
        }
    }
    match schema.get("additionalProperties") {
        Some(each @ Value::Object(_)) => {
            for (name, inner) in value.as_object().expect("a map") {
                conforms(description, each, inner, &format!("{place}.{name}"));
            }
        }
        _ if schema.get("properties").is_some() => {
            let known = schema["properties"].as_object().expect("a map");
            for name in value.as_object().expect("an object").keys() {
                assert!(
                    known.contains_key(name),
                    "{place} has {name}, which is not described"
                );
            }
        }
        _ => {}
    }
}

#[test]
fn answers_are_as_they_are_described() {
    let scene = Scene::start();
    scene.agent("echo", ECHO);
    scene.call("echo", &json!(1));
    scene.wait_for_log("echo", "hello");
    scene.spawn(&PackageBuilder::new("broken").main("1 / 0\n"), &json!({}));
    scene.wait_until("broken", "failed");
    let description = ask(&scene, "GET", "/openapi.json", &[], "").json();
    for path in [
        "/supervisor/status",
        "/supervisor/health",
        "/supervisor/logs",
        "/supervisor/events",
        "/runtime/health",
    ] {
        let answer = ask(&scene, "GET", path, &[], "").json();
        let content = &description["paths"][path]["get"]["responses"]["200"]["content"];
        let schema = &content["application/json"]["schema"];
        assert!(schema.is_object(), "{path} is not described: {content}");
        conforms(&description, schema, &answer, path);
    }
    let status = scene.status();
    assert_eq!(status["supervisor"], "running");
    assert_eq!(status["routes"], json!(["echo"]));
    for (name, shown) in [("par-echo", "running"), ("par-broken", "failed")] {
        assert_eq!(status["processes"][name]["state"], shown);
    }
    let health = ask(&scene, "GET", "/supervisor/health", &[], "").json();
    assert_eq!(health["agent_health"]["echo"]["status"], "healthy");
}
