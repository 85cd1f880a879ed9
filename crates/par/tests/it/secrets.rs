//! Secrets reach those whom they are for, and nobody and nothing else.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use par_testkit::{PackageBuilder, wait_for};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned, crypto::ring};

use crate::egress::{ASKING, ask, asking, command};
use crate::scene::{PATIENCE, Scene};
use crate::upstream::Upstream;

fn ask_with(scene: &Scene, agent: &str, url: &str, header: &str) -> Value {
    let headers = json!({ "X-Key": header });
    scene
        .call(agent, &json!({ "url": url, "headers": headers }))
        .json()
}

fn variable(scene: &Scene, agent: &str, name: &str) -> String {
    let value = scene.call(agent, &json!({ "env": name })).json();
    value.as_str().unwrap_or_default().to_owned()
}

#[test]
fn the_agent_has_a_placeholder_and_the_host_that_it_is_for_gets_the_value() {
    let scene = Scene::start();
    let upstream = Upstream::start();
    let words = ["secret", "set", "keyed", "KEY", "--host", "127.0.0.1"];
    command(&scene, &words, "first-value\n").ended_with(0);
    asking(
        &scene,
        "keyed",
        &["--grant-network", &upstream.address.to_string()],
    );
    let placeholder = variable(&scene, "keyed", "KEY");
    assert!(placeholder.starts_with("par-secret-KEY-"), "{placeholder}");
    assert_eq!(
        ask_with(&scene, "keyed", &upstream.url(), &placeholder)["status"],
        200
    );
    let heads = upstream.heads();
    assert!(heads[0].contains("x-key: first-value\r\n"), "{heads:?}");

    command(&scene, &words, "second-value\n").ended_with(0);
    let changed = || {
        ask_with(&scene, "keyed", &upstream.url(), &placeholder);
        let last = upstream.heads().pop()?;
        last.contains("x-key: second-value").then_some(())
    };
    wait_for("the new value", PATIENCE, changed);
    command(&scene, &["secret", "remove", "keyed", "KEY"], "").ended_with(0);
    let gone = || {
        ask_with(&scene, "keyed", &upstream.url(), &placeholder);
        let last = upstream.heads().pop()?;
        last.contains(&format!("x-key: {}", placeholder.to_lowercase()))
            .then_some(())
    };
    wait_for("the value to be gone", PATIENCE, gone);
}

#[test]
fn a_placeholder_for_another_host_is_refused_and_never_filled_in() {
    let scene = Scene::start();
    let upstream = Upstream::start();
    let words = ["secret", "set", "keyed", "KEY", "--host", "api.example.org"];
    let ran = command(&scene, &words, "the-value").ended_with(0);
    assert!(
        ran.stderr
            .contains("par network grant keyed https://api.example.org"),
        "{ran:?}"
    );
    asking(
        &scene,
        "keyed",
        &["--grant-network", &upstream.address.to_string()],
    );
    let placeholder = variable(&scene, "keyed", "KEY");
    let refused = ask_with(&scene, "keyed", &upstream.url(), &placeholder);
    assert_eq!(refused["status"], 403, "{refused}");
    scene.wait_for_log("keyed", "the secret KEY is not bound to 127.0.0.1");
    assert!(upstream.heads().is_empty());
}

#[test]
fn the_proxy_speaks_tls_for_the_agent_and_puts_the_header_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let CertifiedKey { cert, signing_key } = made.expect("a certificate");
    let roots = folder.path().join("roots.pem");
    fs::write(&roots, cert.pem()).expect("written");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    let config = Arc::new(config.expect("a certificate and its key"));
    let upstream = Upstream::speaking(move |stream: TcpStream| {
        let connection = ServerConnection::new(Arc::clone(&config));
        let connection = connection.map_err(std::io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    });
    let scene = Scene::with(|builder| builder.variable("SSL_CERT_FILE", &roots));
    let words = [
        "secret",
        "set",
        "keyed",
        "KEY",
        "--host",
        "127.0.0.1",
        "--header",
    ];
    let words = [&words[..], &["Authorization: Bearer {}"]].concat();
    command(&scene, &words, "the-value").ended_with(0);
    let granted = format!("https://{}", upstream.address);
    asking(&scene, "keyed", &["--grant-network", &granted]);
    assert_eq!(ask(&scene, "keyed", &upstream.url())["body"], "hello");
    let heads = upstream.heads();
    assert!(
        heads[0].contains("authorization: bearer the-value\r\n"),
        "{heads:?}"
    );
}

#[test]
fn a_server_that_cannot_prove_who_it_is_gets_nothing() {
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]);
    let CertifiedKey { cert, signing_key } = made.expect("a certificate");
    let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key);
    let config = Arc::new(config.expect("a certificate and its key"));
    let upstream = Upstream::speaking(move |stream: TcpStream| {
        let connection = ServerConnection::new(Arc::clone(&config));
        let connection = connection.map_err(std::io::Error::other)?;
        Ok(StreamOwned::new(connection, stream))
    });
    let scene = Scene::start();
    let granted = format!("https://{}", upstream.address);
    asking(&scene, "keyed", &["--grant-network", &granted]);
    let refused = ask(&scene, "keyed", &upstream.url());
    assert_eq!(refused["status"], 502, "{refused}");
    assert!(upstream.heads().is_empty());
}

#[test]
fn what_no_header_can_have_is_refused_and_the_value_is_not_shown() {
    let scene = Scene::start();
    let set = ["secret", "set", "keyed", "KEY", "--host", "api.example.org"];
    let refused = command(&scene, &set, "two\nlines\n");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("--as-env"), "{refused:?}");
    assert!(
        !refused.stderr.contains("lines\n") || !refused.stderr.contains("two"),
        "{refused:?}"
    );
    command(
        &scene,
        &["secret", "set", "keyed", "PYTHONPATH", "--as-env"],
        "x",
    )
    .ended_with(1);
    command(&scene, &["secret", "set", "keyed", "KEY"], "x").ended_with(2);
    let list = command(&scene, &["--json", "secret", "list", "keyed"], "").ended_with(0);
    assert_eq!(list.json()["secrets"], json!([]));
}

#[test]
fn a_key_that_is_gone_wrong_or_open_is_an_error_and_never_another_key() {
    let mut scene = Scene::with(|builder| builder.lasting(0.0));
    command(&scene, &["secret", "set", "keyed", "KEY", "--as-env"], "x").ended_with(0);
    scene.system.rest();
    let key = scene.system.state().join("secret.key");
    let bytes = fs::read(&key).expect("a key");
    assert_eq!(
        fs::metadata(&key).expect("there").permissions().mode() & 0o777,
        0o600
    );
    let start = |words: &str| {
        let port = ["up", "--port", "0", "--state"];
        let state = scene.system.state().to_str().expect("a path");
        let ran = crate::ran::par([&port[..], &[state]].concat());
        assert_ne!(ran.code, 0);
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    };
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("set");
    start("can be read by others (mode 0644)");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    fs::write(&key, &bytes[1..]).expect("written");
    start("is no file of 32 bytes");
    let other: Vec<u8> = bytes.iter().map(|byte| !byte).collect();
    fs::write(&key, other).expect("written");
    start("is not the one");
    fs::remove_file(&key).expect("removed");
    start("is gone");
    assert!(!key.exists(), "no other was made");
    fs::write(&key, bytes).expect("written");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).expect("set");
    scene.system.again();
    let list = command(&scene, &["--json", "secret", "list", "keyed"], "").ended_with(0);
    assert_eq!(list.json()["secrets"][0]["name"], "KEY");
}

/// Values that stand for secrets, one for each way in.
const CANARIES: [&str; 4] = [
    "canary-of-the-proxy-5f1d",
    "canary-of-the-environment-a07c",
    "canary-of-a-file-91be",
    "canary-of-a-variable-e44d",
];

#[track_caller]
fn holds_none(what: &str, bytes: &[u8]) {
    for canary in CANARIES {
        let found = bytes
            .windows(canary.len())
            .any(|part| part == canary.as_bytes());
        assert!(!found, "{canary} is in {what}");
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => found.extend(files_below(&path)),
            false => found.push(path),
        }
    }
    found
}

/// Files, pages and processes, as whoever looks for secrets would look.
#[track_caller]
fn nothing_shows_them(scene: &Scene) {
    for path in files_below(scene.system.state()) {
        // Sockets are no files to be read.
        if let Ok(bytes) = fs::read(&path) {
            holds_none(&path.display().to_string(), &bytes);
        }
    }
    for path in [
        "/supervisor/status",
        "/supervisor/logs?limit=10000",
        "/supervisor/events?limit=10000",
        "/supervisor/agents/keyed/releases",
        "/supervisor/agents/keyed/network",
        "/supervisor/agents/keyed/secrets",
        "/metrics",
        "/agents/keyed/.par/metrics",
        "/agents/keyed/health",
        "/openapi.json",
    ] {
        let answer = scene.http().get(path).expect("answered");
        holds_none(path, answer.text().as_bytes());
    }
    let agent = scene.pid("keyed", "agent_pid");
    let supervisor = scene.system.pid();
    for pid in scene.system.descendants().into_iter().chain([supervisor]) {
        let read = |what| fs::read(format!("/proc/{pid}/{what}")).unwrap_or_default();
        holds_none(&format!("the arguments of {pid}"), &read("cmdline"));
        if pid != agent {
            holds_none(&format!("the environment of {pid}"), &read("environ"));
        }
    }
}

#[test]
fn no_canary_is_seen_anywhere_but_where_it_was_meant_for() {
    let mut scene = Scene::with(|builder| builder.lasting(0.0));
    let upstream = Upstream::start();
    let [proxied, as_env, of_file, of_variable] = CANARIES;
    let set = ["secret", "set", "keyed", "PROXIED", "--host", "127.0.0.1"];
    let told = [
        command(&scene, &set, proxied).ended_with(0),
        command(
            &scene,
            &["secret", "set", "keyed", "AS_ENV", "--as-env"],
            as_env,
        )
        .ended_with(0),
    ];
    assert!(
        told[1].stderr.contains("its code can read it"),
        "{:?}",
        told[1]
    );
    let outside = tempfile::tempdir().expect("a folder");
    let file = outside.path().join("keys.env");
    fs::write(&file, format!("OF_FILE={of_file}\n")).expect("written");
    let file = file.to_str().expect("a path");
    let granted = upstream.address.to_string();
    let package = PackageBuilder::new("keyed").main(&format!(
        "{ASKING}\nimport os as _os\n_handler = handler\ndef handler(body):\n    if body.get('end'):\n        _os._exit(7)\n    return _handler(body)\n"
    ));
    package.folder(scene.folder()).expect("written");
    let deploy = || {
        let words = [
            "deploy",
            "keyed",
            "--secret-file",
            file,
            "--secret-env",
            "OF_VARIABLE",
        ];
        let deployed = Command::new(env!("CARGO_BIN_EXE_par"))
            .args(["--url", scene.system.url()])
            .args(words)
            .args(["--grant-network", &granted])
            .env("OF_VARIABLE", of_variable)
            .current_dir(scene.folder())
            .output()
            .expect("the binary starts");
        assert!(deployed.status.success(), "it is deployed");
        holds_none("what a command said", &deployed.stdout);
        holds_none("what a command said", &deployed.stderr);
    };
    deploy();
    for ran in &told {
        holds_none("what a command said", ran.stdout.as_bytes());
        holds_none("what a command said", ran.stderr.as_bytes());
    }
    assert_eq!(variable(&scene, "keyed", "AS_ENV"), as_env);
    assert_eq!(variable(&scene, "keyed", "OF_FILE"), of_file);
    let placeholder = variable(&scene, "keyed", "PROXIED");
    assert_eq!(
        ask_with(&scene, "keyed", &upstream.url(), &placeholder)["status"],
        200
    );
    assert!(
        upstream.heads()[0].contains(proxied),
        "it was meant for that"
    );
    ask_with(&scene, "keyed", "http://elsewhere.invalid/", &placeholder);
    nothing_shows_them(&scene);

    let crash = scene.call("keyed", &json!({ "end": true }));
    assert_eq!(crash.status, 502);
    scene.wait_for_process("keyed", "up again", |it| {
        it["state"] == "running" && it["restart_count"] == 1
    });
    deploy();
    let rolled = command(&scene, &["rollback", "keyed"], "").ended_with(0);
    holds_none("what a command said", rolled.stdout.as_bytes());
    for words in [
        &["inspect", "keyed"][..],
        &["secret", "list", "keyed"],
        &["ps", "keyed"],
    ] {
        let ran = command(&scene, words, "").ended_with(0);
        holds_none("what a command said", ran.stdout.as_bytes());
    }
    nothing_shows_them(&scene);
    scene.system.rest();
    for path in files_below(scene.system.state()) {
        holds_none(
            &path.display().to_string(),
            &fs::read(&path).unwrap_or_default(),
        );
    }
    scene.system.again();
    scene.wait_until("keyed", "running");
    assert_eq!(
        variable(&scene, "keyed", "OF_VARIABLE"),
        of_variable,
        "they are kept"
    );
    let ended = scene.system.stop();
    holds_none("what the supervisor wrote", ended.log.as_bytes());
}
