//! Agents call agents: what is private stays among them, and circles end.

use par_testkit::PackageBuilder;
use serde_json::json;

use crate::scene::{Scene, exports};

const KEEPER: &str = r#"
def handler(body):
    return {"invoked": body}

def open_one(body):
    return "open"

def secret_one(body):
    return "secret"
"#;

const SUB_AGENTS: &str = "metadata:
  version: 0.1.0
  sub_agents:
    - name: open-one
      description: for all
      public: true
    - name: secret-one
      description: for agents
      public: false
";

const ASKER: &str = r#"
from pixell_agent_runtime.a2a_client import get_a2a_client

async def handler(body):
    try:
        return {"answer": await get_a2a_client().call(body["agent"], body["export"], body.get("params"))}
    except Exception as error:
        return {"error": str(error)}

async def circle(body):
    turn = body.get("turn", 0) + 1
    try:
        return await get_a2a_client().call("asker", "circle", {"turn": turn})
    except Exception as error:
        return {"turn": turn, "error": str(error)}

def sync(body):
    return get_a2a_client().call_sync("keeper", "open-one", {})
"#;

fn two() -> Scene {
    let scene = Scene::start();
    scene.serve(
        &PackageBuilder::new("keeper")
            .main(KEEPER)
            .manifest(SUB_AGENTS),
        &json!({}),
    );
    let asker = PackageBuilder::new("asker")
        .main(ASKER)
        .manifest(&exports(&["circle", "sync"]));
    scene.serve(&asker, &json!({}));
    scene
}

#[test]
fn a_private_export_is_not_found_from_outside_whatever_the_caller_claims() {
    let scene = two();
    let ask = |export: &str, headers: &[(&str, &str)]| {
        let path = format!("/agents/keeper/exports/{export}");
        let answer = scene.http().request("POST", &path, headers, b"{}");
        answer.expect("an answer")
    };
    assert_eq!(ask("open-one", &[]).json(), "open");
    for headers in [
        &[][..],
        &[("x-par-caller", "asker")],
        &[("X-Par-Caller", "asker"), ("x-par-hops", "1")],
        &[("connection", "x-par-caller"), ("x-par-caller", "asker")],
    ] {
        for export in ["secret-one", "secret%2Done"] {
            let answer = ask(export, headers);
            assert_eq!(answer.status, 404, "{export} {headers:?}");
            assert_eq!(
                answer.json(),
                json!({"detail": "Export 'secret-one' not found"})
            );
        }
    }
    // The agent's own port is no way around.
    let port = scene.process("keeper")["port"].as_u64().expect("a port");
    let own = par_testkit::Http::new(&format!("http://127.0.0.1:{port}"));
    let headers = [("x-par-caller", "asker")];
    let answer = own.request("POST", "/exports/secret-one", &headers, b"{}");
    assert_eq!(answer.expect("an answer").status, 404);
}

#[test]
fn another_agent_may_call_a_private_export() {
    let scene = two();
    let ask = |export: &str| {
        let question = json!({"agent": "keeper", "export": export});
        scene.call("asker", &question).json()
    };
    assert_eq!(ask("secret-one"), json!({"answer": "secret"}));
    assert_eq!(ask("open-one"), json!({"answer": "open"}));
    let missing = ask("no-such").to_string();
    assert!(missing.contains("A2A call failed: 404"), "{missing}");
    assert_eq!(scene.call_within(20.0, "asker", "sync").json(), "open");
}

#[test]
fn calls_to_agents_that_are_not_there_fail_as_the_client_says() {
    let scene = two();
    let question = json!({"agent": "ghost", "export": "x"});
    let said = scene.call("asker", &question).json().to_string();
    assert!(said.contains("A2A call failed: 404"), "{said}");
    assert!(said.contains("Agent ghost not found"), "{said}");
}

#[test]
fn agents_that_call_each_other_in_a_circle_are_stopped() {
    let scene = two();
    let answer = scene.call_within(30.0, "asker", "circle").json();
    let error = answer["error"].as_str().unwrap_or_default();
    assert!(
        error.contains("more than 16 agents called each other"),
        "{answer}"
    );
    assert_eq!(answer["turn"], 17);
    assert_eq!(scene.call_within(20.0, "asker", "sync").json(), "open");
}
