//! Where agents may go: where the operator let them, as long as that holds, and nowhere else.

use par_testkit::{PackageBuilder, wait_for};
use serde_json::{Value, json};

use crate::ran::{Ran, par, par_in};
use crate::scene::{PATIENCE, Scene};
use crate::upstream::Upstream;

/// Asks a URL, or tells a variable.
pub(crate) const ASKING: &str = r#"
import os
import urllib.error
import urllib.request

def handler(body):
    if "env" in body:
        return os.environ.get(body["env"])
    request = urllib.request.Request(body["url"], headers=body.get("headers", {}))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return {"status": answer.status, "body": answer.read().decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "reason": error.reason, "body": error.read().decode()}
    except OSError as error:
        return {"status": 0, "reason": str(error)}
"#;

pub(crate) fn command(scene: &Scene, words: &[&str], input: &str) -> Ran {
    let all = ["--url", scene.system.url()]
        .into_iter()
        .chain(words.iter().copied());
    par_in(scene.folder(), all, input)
}

/// Deploys an agent that asks, with more flags.
pub(crate) fn asking(scene: &Scene, agent: &str, flags: &[&str]) -> Ran {
    let package = PackageBuilder::new(agent).main(ASKING);
    package.folder(scene.folder()).expect("written");
    command(scene, &[&["deploy", agent], flags].concat(), "").ended_with(0)
}

pub(crate) fn ask(scene: &Scene, agent: &str, url: &str) -> Value {
    scene.call(agent, &json!({ "url": url })).json()
}

#[test]
fn an_agent_goes_where_it_was_granted_and_what_is_granted_changes_while_it_runs() {
    let mut scene = Scene::with(|builder| builder.lasting(0.0));
    let (one, other) = (Upstream::start(), Upstream::start());
    let (to_one, to_other) = (one.address.to_string(), other.address.to_string());
    asking(&scene, "goes", &["--grant-network", &to_one]);
    assert_eq!(ask(&scene, "goes", &one.url())["body"], "hello");
    let pid = scene.pid("goes", "agent_pid");

    let refused = ask(&scene, "goes", &other.url());
    assert_eq!(refused["status"], 403, "{refused}");
    let way = format!("par network grant goes {to_other}");
    assert!(
        refused["body"].as_str().is_some_and(|it| it.contains(&way)),
        "{refused}"
    );
    assert!(
        refused["reason"]
            .as_str()
            .is_some_and(|it| it.contains(&way)),
        "{refused}"
    );
    scene.wait_for_log("goes", &way);
    assert!(other.heads().is_empty());

    command(&scene, &["network", "grant", "goes", &to_other], "").ended_with(0);
    let granted = || (ask(&scene, "goes", &other.url())["status"] == 200).then_some(());
    wait_for("the grant to hold", PATIENCE, granted);
    command(&scene, &["network", "revoke", "goes", &to_other], "").ended_with(0);
    let revoked = || (ask(&scene, "goes", &other.url())["status"] == 403).then_some(());
    wait_for("the grant to be gone", PATIENCE, revoked);
    assert_eq!(
        scene.pid("goes", "agent_pid"),
        pid,
        "it was not started again"
    );

    scene.system.rest();
    scene.system.again();
    scene.wait_until("goes", "running");
    assert_eq!(
        ask(&scene, "goes", &one.url())["status"],
        200,
        "grants are kept"
    );
    assert_eq!(ask(&scene, "goes", &other.url())["status"], 403);
    par(["--url", scene.system.url(), "rm", "goes"]).ended_with(0);
    let list = command(&scene, &["--json", "network", "list", "goes"], "").ended_with(0);
    assert_eq!(
        list.json()["granted"],
        json!([]),
        "they go with their agent"
    );
}

#[test]
fn what_goes_out_is_counted_and_so_is_what_does_not() {
    let scene = Scene::start();
    let upstream = Upstream::start();
    asking(
        &scene,
        "counted",
        &["--grant-network", &upstream.address.to_string()],
    );
    assert_eq!(ask(&scene, "counted", &upstream.url())["status"], 200);
    assert_eq!(
        ask(&scene, "counted", "http://nowhere.invalid/")["status"],
        403
    );
    let process = scene.wait_for_process("counted", "counted", |process| {
        process["egress"]["refused"]["not_granted"] == 1
    });
    assert_eq!(process["egress"]["connections"], 1);
    assert!(
        process["egress"]["sent_bytes"].as_u64() > Some(0),
        "{process}"
    );
    for path in ["/metrics", "/agents/counted/.par/metrics"] {
        let page = scene.http().get(path).expect("answered").text();
        let refused = page
            .lines()
            .find(|line| line.starts_with("par_egress_refused_total"));
        let refused = refused.unwrap_or_else(|| panic!("{page}"));
        assert!(
            refused.contains("rule=\"not_granted\"") && refused.ends_with(" 1"),
            "{refused}"
        );
    }
}

#[test]
fn no_grant_leads_to_the_runtime_itself_and_a_wrong_one_is_explained() {
    let scene = Scene::start();
    let own = scene.system.url().strip_prefix("http://").expect("HTTP");
    let refused = command(&scene, &["network", "grant", "any", own], "");
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("the runtime's own"), "{refused:?}");
    for (wrong, words) in [
        ("api.example.org", "no port"),
        ("localhost:80", "write its address"),
        ("0x7f000001:80", "four decimal numbers"),
        ("*.org:443", "two parts at least"),
    ] {
        let refused = command(&scene, &["network", "grant", "any", wrong], "").ended_with(2);
        assert!(refused.stderr.contains(words), "{refused:?}");
    }
    let list = command(&scene, &["--json", "network", "list", "any"], "").ended_with(0);
    assert_eq!(list.json()["granted"], json!([]), "nothing was granted");
}

#[test]
fn a_release_asks_and_without_a_word_of_the_operator_it_may_not() {
    let scene = Scene::start();
    let package = PackageBuilder::new("asks").main(ASKING);
    let asks = package.manifest("network:\n  - api.example.org:443\n");
    asks.folder(scene.folder()).expect("written");
    let ran = command(&scene, &["deploy", "asks"], "").ended_with(0);
    assert!(
        ran.stderr
            .contains("par network grant asks api.example.org:443"),
        "{ran:?}"
    );
    let list = command(&scene, &["--json", "network", "list", "asks"], "").ended_with(0);
    assert_eq!(list.json()["not_granted"], json!(["api.example.org:443"]));
    let refused = ask(&scene, "asks", "https://api.example.org/");
    let reason = refused["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("is not granted"), "{refused}");
}

#[test]
fn what_a_manifest_asks_for_wrongly_is_named_with_its_place() {
    let scene = Scene::start();
    let package = PackageBuilder::new("asks").main(ASKING);
    let asks = package.manifest("network:\n  - api.example.org:443\n  - 127.1:80\n");
    asks.folder(scene.folder()).expect("written");
    let ran = command(&scene, &["deploy", "asks"], "");
    assert_ne!(ran.code, 0);
    for words in [
        "agent.yaml:",
        "network[1]",
        "`127.1:80`",
        "four decimal numbers",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

#[test]
fn an_adopted_worker_hears_what_changes() {
    let mut scene = Scene::with(|builder| builder.lasting(30.0));
    let upstream = Upstream::start();
    let address = upstream.address.to_string();
    asking(&scene, "kept", &["--grant-network", &address]);
    let pid = scene.pid("kept", "agent_pid");
    scene.system.crash();
    scene.system.again();
    scene.wait_until("kept", "running");
    assert_eq!(ask(&scene, "kept", &upstream.url())["status"], 200);
    command(&scene, &["network", "revoke", "kept", &address], "").ended_with(0);
    let revoked = || (ask(&scene, "kept", &upstream.url())["status"] == 403).then_some(());
    wait_for("the grant to be gone", PATIENCE, revoked);
    assert_eq!(scene.pid("kept", "agent_pid"), pid, "it was adopted");
}
