//! An agent's environment is made from nothing, and what is secret in it is shown to nobody.

use par_testkit::PackageBuilder;
use serde_json::{Value, json};

use crate::scene::Scene;

const TELLS: &str = r#"
import os, sys

AT_IMPORT = os.environ.get("A2A_PORT")
print("with", len(os.environ), "variables")

def handler(body):
    return {"env": dict(os.environ), "at_import": AT_IMPORT, "fds": sorted(os.listdir("/proc/self/fd"))}
"#;

const CANARY: &str = "canary-7f3a-in-the-coal-mine";
const SECRET: &str = "s3cr3t-of-the-deployer";

#[test]
fn nothing_of_the_supervisors_environment_reaches_an_agent() {
    let scene = Scene::with(|builder| {
        builder
            .variable("CANARY", CANARY)
            .variable("PIP_CANARY", CANARY)
            .variable("LC_CANARY", CANARY)
            .variable("HTTP_PROXY", CANARY)
            .variable("AWS_SECRET_ACCESS_KEY", CANARY)
    });
    scene.agent("tells", TELLS);
    let told = scene.call("tells", &json!({})).json();
    assert!(!told.to_string().contains(CANARY), "{told}");
    let agent = scene.pid("tells", "agent_pid");
    let environ = std::fs::read(format!("/proc/{agent}/environ")).expect("our grandchild");
    assert!(!String::from_utf8_lossy(&environ).contains(CANARY));
}

#[test]
fn an_agent_is_told_who_and_where_it_is() {
    let scene = Scene::start();
    scene.agent("tells", TELLS);
    let told = scene.call("tells", &json!({})).json();
    let process = scene.process("tells");
    let number = |field: &str| process[field].to_string();
    let env = &told["env"];
    assert_eq!(env["PAR_AGENT_ID"], "tells");
    assert_eq!(env["PAR_PACKAGE_ID"], process["package_id"]);
    assert_eq!(env["PAR_PORT"], number("port").as_str());
    assert_eq!(env["PAR_MODE"], "worker");
    assert_eq!(env["PAR_SUPERVISOR_URL"], scene.system.url());
    assert_eq!(env["A2A_PORT"], number("grpc_port").as_str());
    assert_eq!(told["at_import"], env["A2A_PORT"], "set before the import");
    assert_eq!(env["PYTHONUNBUFFERED"], "1");
    let path = env["PAR_PACKAGE_PATH"].as_str().expect("a path");
    assert!(std::path::Path::new(path).join("agent.yaml").is_file());
}

#[test]
fn each_layer_wins_over_the_one_below_and_the_runtime_over_all() {
    let scene = Scene::start();
    let package = PackageBuilder::new("tells")
        .main(TELLS)
        .file(".env", "A=dotenv\nB=dotenv\nC=dotenv\nPAR_PORT=1\nLD_PRELOAD=/x.so\n")
        .manifest("environment:\n  B: manifest\n  C: manifest\n  E: \"${A}-${NONE:-default}\"\n  PATH: /evil\n");
    scene.serve(
        &package,
        &json!({"env_vars": {"C": "deployer", "PYTHONPATH": "/evil"}}),
    );
    let env = scene.call("tells", &json!({})).json()["env"].take();
    assert_eq!(env["A"], "dotenv");
    assert_eq!(env["B"], "manifest");
    assert_eq!(env["C"], "deployer");
    assert_eq!(env["E"], "dotenv-default");
    assert_eq!(
        env["PAR_PORT"],
        scene.process("tells")["port"].to_string().as_str()
    );
    for refused in ["LD_PRELOAD", "PYTHONPATH", "PAR_PORT", "PATH"] {
        let line = scene.wait_for_log("tells", refused);
        assert_eq!(line["level"], "WARNING", "{line}");
    }
    for absent in ["LD_PRELOAD", "PYTHONPATH"] {
        assert_eq!(env[absent], Value::Null);
    }
    assert!(!env["PATH"].to_string().contains("evil"));
}

#[test]
fn a_secret_of_the_deployer_is_in_no_log_status_or_command_line() {
    let scene = Scene::start();
    let package = PackageBuilder::new("keeps").main(TELLS);
    scene.serve(
        &package,
        &json!({"env_vars": {"TOKEN": SECRET, "LD_TOKEN": SECRET}}),
    );
    let told = scene.call("keeps", &json!({})).json();
    assert_eq!(told["env"]["TOKEN"], SECRET, "the agent itself has it");
    scene.wait_for_log("keeps", "LD_TOKEN");
    let http = scene.http();
    for path in [
        "/supervisor/status",
        "/supervisor/health",
        "/supervisor/logs?limit=10000",
        "/agents/keeps/health",
        "/agents/keeps/meta",
    ] {
        let text = http.get(path).expect("an answer").text();
        assert!(!text.contains(SECRET), "{path}: {text}");
    }
    for pid in scene.system.descendants() {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(
            !String::from_utf8_lossy(&words).contains(SECRET),
            "process {pid}"
        );
    }
    let Scene { system, .. } = scene;
    let log = system.stop().log;
    assert!(!log.contains(SECRET), "{log}");
}

#[test]
fn an_agent_inherits_no_file_of_ours() {
    let scene = Scene::start();
    scene.agent("tells", TELLS);
    let agent = scene.pid("tells", "agent_pid");
    let open = std::fs::read_dir(format!("/proc/{agent}/fd")).expect("our grandchild");
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let targets: Vec<String> = targets
        .map(|path| path.to_string_lossy().into_owned())
        .collect();
    let state = scene.system.state().to_string_lossy();
    let ours = targets
        .iter()
        .filter(|target| target.contains(&*state) && !target.ends_with(".py"));
    assert_eq!(
        ours.collect::<Vec<_>>(),
        Vec::<&String>::new(),
        "{targets:?}"
    );
    let sockets = targets
        .iter()
        .filter(|target| target.starts_with("socket:"));
    // The channel, and what asyncio wakes itself with.
    assert!(sockets.count() <= 4, "{targets:?}");
}
