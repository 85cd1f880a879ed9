//! Who may call: every surface with every kind of credential, and what becomes of credentials on the way.

use std::process::{Command, Output};

use par_testkit::{Answer, PackageBuilder, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::scene::{PATIENCE, Scene, exports};

const ECHO: &str = r#"
async def app(scope, receive, send):
    seen = [[name.decode(), value.decode()] for name, value in scope["headers"]]
    import json
    body = json.dumps(seen).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})
"#;

/// A supervisor with this table `[access]`, and the operator's own token.
struct House {
    scene: Scene,
    operator: String,
    _folder: TempDir,
}

impl House {
    fn with(access: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("par.toml");
        std::fs::write(&config, format!("[access]\n{access}")).expect("written");
        let scene = Scene::with(|builder| {
            let config = config.to_string_lossy().into_owned();
            builder
                .lasting(10.0)
                .arguments(["--config".to_owned(), config])
        });
        let mut house = Self {
            scene,
            operator: String::new(),
            _folder: folder,
        };
        house.operator = house.operators_token();
        house
    }

    /// On loopback, too, everybody has to say who it is.
    fn strict() -> Self {
        Self::with("anonymous_loopback = false\n")
    }

    /// What the owner of the state folder reads there.
    fn operators_token(&self) -> String {
        let path = self.scene.system.state().join("operator.json");
        let said = wait_for("the operator's token", PATIENCE, || {
            std::fs::read(&path).ok()
        });
        let said: Value = serde_json::from_slice(&said).expect("JSON");
        said["token"].as_str().expect("a token").to_owned()
    }

    fn ask(&self, token: Option<&str>, method: &str, path: &str, body: &Value) -> Answer {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(bearer.as_deref().map(|bearer| ("authorization", bearer)));
        let body = body.to_string();
        let http = self.scene.http();
        let answer = http.request(method, path, &headers, body.as_bytes());
        answer.expect("the supervisor answers")
    }

    fn as_operator(&self, method: &str, path: &str, body: &Value) -> Answer {
        self.ask(Some(&self.operator), method, path, body)
    }

    #[track_caller]
    fn token(&self, name: &str, more: Value) -> String {
        let mut request = json!({ "name": name });
        let fields = request.as_object_mut().expect("an object");
        fields.extend(more.as_object().cloned().expect("an object"));
        let made = self.as_operator("POST", "/supervisor/tokens", &request);
        assert_eq!(made.status, 200, "{}", made.text());
        made.json()["token"].as_str().expect("a token").to_owned()
    }

    /// Deploys as the operator, and waits until it serves.
    #[track_caller]
    fn deploy(&self, package: &PackageBuilder, options: Value) {
        let path = package.apkg(self.scene.folder());
        let name = path
            .file_stem()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let mut request = json!({ "agent_id": name, "package_path": path });
        let fields = request.as_object_mut().expect("an object");
        fields.extend(options.as_object().cloned().expect("an object"));
        let spawned = self.as_operator("POST", "/supervisor/spawn", &request);
        assert_eq!(spawned.status, 200, "{}", spawned.text());
        wait_for("the agent serves", PATIENCE, || {
            let status = self
                .as_operator("GET", "/supervisor/status", &Value::Null)
                .json();
            let state = &status["processes"][format!("par-{name}")]["state"];
            (state == "running").then_some(())
        });
    }

    fn audit(&self) -> Vec<Value> {
        let page = self.as_operator("GET", "/supervisor/audit?limit=10000", &Value::Null);
        page.json()["entries"].as_array().cloned().expect("a list")
    }
}

fn is_let_in(answer: &Answer) -> bool {
    !matches!(answer.status, 401 | 403)
}

#[test]
fn every_surface_holds_every_credential_against_the_same_rules() {
    let house = House::strict();
    house.deploy(
        &PackageBuilder::new("echo").main("def handler(body):\n    return body\n"),
        json!({}),
    );
    let short = house.token(
        "short",
        json!({ "scopes": ["admin"], "expires_in_seconds": 1 }),
    );
    let revoked = house.token("revoked", json!({ "scopes": ["admin"] }));
    let gone = house.as_operator("DELETE", "/supervisor/tokens/revoked", &Value::Null);
    assert_eq!(gone.status, 200, "{}", gone.text());
    let mut wrong = house.operator.clone();
    let last = if wrong.pop() == Some('0') { '1' } else { '0' };
    wrong.push(last);
    wait_for("the short token expires", PATIENCE, || {
        let asked = house.ask(Some(&short), "GET", "/supervisor/status", &Value::Null);
        (asked.status == 401).then_some(())
    });
    let scoped = |scope: &str| house.token(&scope.replace(':', "-"), json!({ "scopes": [scope] }));
    let tokens =
        ["read", "deploy", "call", "call:echo", "call:other"].map(|scope| (scope, scoped(scope)));
    let surfaces = [
        ("GET", "/supervisor/status", &["read", "deploy"][..]),
        ("GET", "/supervisor/events", &["read", "deploy"]),
        ("GET", "/supervisor/logs", &["read", "deploy"]),
        ("GET", "/metrics", &["read", "deploy"]),
        ("GET", "/openapi.json", &["read", "deploy"]),
        ("POST", "/supervisor/spawn", &["deploy"]),
        ("POST", "/supervisor/agents/echo/scale", &["deploy"]),
        ("GET", "/supervisor/tokens", &[]),
        ("POST", "/supervisor/tokens", &[]),
        ("DELETE", "/supervisor/tokens/nobody", &[]),
        ("GET", "/supervisor/audit", &[]),
        ("POST", "/supervisor/upgrade", &[]),
        ("GET", "/nowhere", &[]),
        ("POST", "/agents/echo/invoke", &["call", "call:echo"]),
        ("GET", "/agents/echo/health", &["call", "call:echo"]),
        ("GET", "/agents/%65cho/health", &["call", "call:echo"]),
        ("GET", "/agents/nobody/health", &["call"]),
    ];
    for (method, path, allowed) in surfaces {
        let ask = |token: Option<&str>| house.ask(token, method, path, &Value::Null);
        for token in [None, Some(&wrong), Some(&revoked), Some(&short)] {
            let answer = ask(token.map(String::as_str));
            assert_eq!(answer.status, 401, "{method} {path}: {}", answer.text());
            let how = answer.header("www-authenticate");
            assert_eq!(how, Some("Bearer realm=\"par\""), "{method} {path}");
        }
        for (scope, token) in &tokens {
            let answer = ask(Some(token));
            let expected = allowed.contains(scope);
            assert_eq!(
                is_let_in(&answer),
                expected,
                "{scope}: {method} {path}: {}",
                answer.text()
            );
        }
        assert!(is_let_in(&ask(Some(&house.operator))), "{method} {path}");
    }
    let alive = house.ask(None, "GET", "/runtime/health", &Value::Null);
    assert_eq!(alive.status, 200);
}

#[test]
fn nothing_that_the_api_describes_answers_to_nobody() {
    let house = House::strict();
    let described = house
        .as_operator("GET", "/openapi.json", &Value::Null)
        .json();
    let reader = house.token("reader", json!({ "scopes": ["read"] }));
    let paths = described["paths"].as_object().expect("paths");
    assert!(paths.len() > 15, "{}", paths.len());
    for (path, methods) in paths {
        for method in methods.as_object().expect("methods").keys() {
            let (method, path) = (method.to_uppercase(), path.replace(['{', '}'], ""));
            let unknown = house.ask(None, &method, &path, &Value::Null);
            let expected = if path == "/runtime/health" { 200 } else { 401 };
            assert_eq!(
                unknown.status,
                expected,
                "{method} {path}: {}",
                unknown.text()
            );
            if method != "GET" {
                let read = house.ask(Some(&reader), &method, &path, &Value::Null);
                assert_eq!(read.status, 403, "{method} {path}: {}", read.text());
            }
        }
    }
    let schemes = &described["components"]["securitySchemes"]["bearer"];
    assert_eq!(schemes["scheme"], "bearer");
}

#[test]
fn an_agents_role_is_required_and_hides_it_from_those_who_may_not_look() {
    let house = House::strict();
    let package = PackageBuilder::new("guarded")
        .main("def handler(body):\n    return body\n")
        .manifest("role_required: staff\n");
    house.deploy(&package, json!({}));
    let status = house
        .as_operator("GET", "/supervisor/status", &Value::Null)
        .json();
    assert_eq!(
        status["processes"]["par-guarded"]["role_required"],
        json!(["staff"])
    );
    let invoke = |token: &str, agent: &str| {
        let path = format!("/agents/{agent}/invoke");
        house.ask(Some(token), "POST", &path, &json!({ "x": 1 }))
    };
    let staff = house.token("staff", json!({ "scopes": ["call"], "roles": ["staff"] }));
    assert_eq!(invoke(&staff, "guarded").json(), json!({ "x": 1 }));
    let blind = house.token("blind", json!({ "scopes": ["call"] }));
    let (guarded, nobody) = (invoke(&blind, "guarded"), invoke(&blind, "nobody-x"));
    assert_eq!((guarded.status, nobody.status), (404, 404));
    assert_eq!(guarded.text().replace("guarded", "nobody-x"), nobody.text());
    let seeing = house.token("seeing", json!({ "scopes": ["call", "read"] }));
    let told = invoke(&seeing, "guarded");
    assert_eq!(told.status, 403);
    assert!(told.text().contains("`staff`"), "{}", told.text());
    let denied: Vec<Value> = house
        .audit()
        .into_iter()
        .filter(|entry| entry["decision"] == "deny" && entry["target"] == "guarded")
        .collect();
    assert_eq!(denied.len(), 2, "{denied:?}");
    assert!(denied.iter().all(|entry| {
        entry["reason"]
            .as_str()
            .is_some_and(|why| why.contains("`staff`"))
    }));
}

#[test]
fn a_token_for_us_reaches_no_agent_and_one_for_the_agent_does() {
    let house = House::with("anonymous_loopback = true\naudit_calls = true\n");
    house.scene.asgi("echo", ECHO);
    let caller = house.token("caller", json!({ "scopes": ["call"] }));
    let ask = |headers: &[(&str, &str)]| {
        let answer = house
            .scene
            .http()
            .request("GET", "/agents/echo/x", headers, b"");
        answer.expect("an answer")
    };
    let ours = format!("Bearer {caller}");
    let answer = ask(&[("authorization", &ours)]);
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(!answer.text().contains("authorization") && !answer.text().contains(&caller));
    let both = ask(&[
        ("x-par-authorization", &ours),
        ("authorization", "Bearer for-the-agent"),
    ]);
    assert!(
        both.text().contains("Bearer for-the-agent"),
        "{}",
        both.text()
    );
    assert!(
        !both.text().contains(&caller) && !both.text().contains("x-par-"),
        "{}",
        both.text()
    );
    let agents = ask(&[("authorization", "Basic QWxhZGRpbjpvcGVu")]);
    assert!(
        agents.text().contains("Basic QWxhZGRpbjpvcGVu"),
        "{}",
        agents.text()
    );
    let wrong = ask(&[("authorization", "Bearer par_0000000000000000_1")]);
    assert_eq!(wrong.status, 401, "a wrong token is not taken for none");
    let port = house.scene.process("echo")["port"]
        .as_u64()
        .expect("a port");
    let own = par_testkit::Http::new(&format!("http://127.0.0.1:{port}"));
    let own = own
        .request("GET", "/x", &[("authorization", &ours)], b"")
        .expect("an answer");
    assert_eq!(own.status, 200);
    assert!(!own.text().contains(&caller), "{}", own.text());
    let audit = house.audit();
    let calls: Vec<_> = audit
        .iter()
        .filter(|entry| entry["action"] == "call")
        .collect();
    assert!(
        calls
            .iter()
            .any(|entry| entry["caller"] == "token:caller" && entry["decision"] == "allow")
    );
    let secret = caller.rsplit('_').next().expect("a secret");
    for file in std::fs::read_dir(house.scene.system.state().join("audit")).expect("a folder") {
        let text = std::fs::read_to_string(file.expect("a file").path()).expect("text");
        assert!(!text.contains(secret));
    }
}

#[test]
fn tokens_outlive_the_supervisor_and_own_ports_stay_closed() {
    let mut house = House::strict();
    house.deploy(
        &PackageBuilder::new("echo").main("def handler(body):\n    return body\n"),
        json!({}),
    );
    let caller = house.token("caller", json!({ "scopes": ["call:echo", "read"] }));
    let before = house.operator.clone();
    let look = |house: &House| {
        let asked = house.ask(Some(&caller), "GET", "/supervisor/status", &Value::Null);
        let status = asked.json();
        let port = status["processes"]["par-echo"]["port"]
            .as_u64()
            .expect("a port");
        let own = par_testkit::Http::new(&format!("http://127.0.0.1:{port}"));
        let own = own.get("/health").expect("an answer");
        assert_eq!(own.status, 403, "{}", own.text());
        assert!(own.text().contains("/agents/echo"), "{}", own.text());
        let called = house.ask(
            Some(&caller),
            "POST",
            "/agents/echo/invoke",
            &json!({ "y": 2 }),
        );
        assert_eq!(called.json(), json!({ "y": 2 }));
    };
    look(&house);
    house.scene.system.crash();
    house.scene.system.again();
    look(&house);
    house.operator = wait_for("another operator's token", PATIENCE, || {
        Some(house.operators_token()).filter(|token| *token != before)
    });
    let late = house.ask(Some(&before), "GET", "/supervisor/status", &Value::Null);
    assert_eq!(late.status, 401, "the token of an earlier life");
    assert_eq!(
        house
            .as_operator("GET", "/supervisor/tokens", &Value::Null)
            .status,
        200
    );
}

const ASKER: &str = r#"
from pixell_agent_runtime.a2a_client import get_a2a_client

def handler(body):
    return body

async def ask(body):
    try:
        return {"answer": await get_a2a_client().call(body["agent"], body["export"], {})}
    except Exception as error:
        return {"error": str(error)}
"#;

#[test]
fn agents_call_those_that_were_granted_to_them() {
    let house = House::with("agents = \"granted\"\n");
    let keeper = PackageBuilder::new("keeper")
        .main("def handler(body):\n    return body\n\ndef one(body):\n    return 1\n")
        .manifest(&exports(&["one"]));
    house.scene.serve(&keeper, &json!({}));
    let asker = |name: &str| {
        PackageBuilder::new(name)
            .main(ASKER)
            .manifest(&exports(&["ask"]))
    };
    house
        .scene
        .serve(&asker("granted"), &json!({ "calls": ["keeper"] }));
    house.scene.serve(&asker("alone"), &json!({}));
    let ask = |name: &str| {
        let path = format!("/agents/{name}/exports/ask");
        let body = json!({ "agent": "keeper", "export": "one" });
        house
            .scene
            .http()
            .post(&path, &body)
            .expect("an answer")
            .text()
    };
    assert!(ask("granted").contains("\"answer\""), "{}", ask("granted"));
    assert!(
        ask("alone").contains("was granted no calls"),
        "{}",
        ask("alone")
    );
    let denied = house.audit();
    let denied = denied
        .iter()
        .find(|entry| entry["caller"] == "agent:alone")
        .expect("it was kept");
    assert_eq!(
        (&denied["target"], &denied["decision"]),
        (&json!("keeper"), &json!("deny"))
    );
}

fn par(arguments: &[&str], state: &std::path::Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_par"));
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"PAR_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("PAR_STATE", state)
        .env("XDG_CONFIG_HOME", state.join("config"))
        .output()
        .expect("the binary runs")
}

#[test]
fn an_address_that_others_reach_is_not_opened_before_there_is_a_token() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let refused = par(&["up", "--host", "0.0.0.0", "--port", "0"], folder.path());
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert_eq!(refused.status.code(), Some(1), "{said}");
    assert!(
        said.contains("par token create NAME --scope admin --state"),
        "{said}"
    );
    let state = folder.path().to_string_lossy();
    let made = par(
        &[
            "token", "create", "first", "--scope", "read", "--state", &state,
        ],
        folder.path(),
    );
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    let token = String::from_utf8_lossy(&made.stdout).trim().to_owned();
    assert!(
        token.starts_with("par_") && token.len() == 85,
        "one line, the token"
    );
    let again = par(
        &[
            "token", "create", "first", "--scope", "read", "--state", &state,
        ],
        folder.path(),
    );
    assert_eq!(again.status.code(), Some(1));
}

#[test]
fn commands_find_their_token_and_never_take_one_from_the_command_line() {
    let house = House::strict();
    let (url, state) = (
        house.scene.system.url().to_owned(),
        house.scene.system.state().to_owned(),
    );
    let run = |arguments: &[&str]| par(&[&["--url", &url], arguments].concat(), &state);
    let listed = run(&["token", "list"]);
    assert!(
        listed.status.success(),
        "the operator of this machine: {}",
        String::from_utf8_lossy(&listed.stderr)
    );
    let made = run(&["token", "create", "reader", "--scope", "read", "--save"]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    assert!(made.stdout.is_empty(), "what is saved is not shown");
    assert!(run(&["ps"]).status.success());
    let denied = run(&["token", "list"]);
    let said = String::from_utf8_lossy(&denied.stderr).into_owned();
    assert!(
        !denied.status.success() && said.contains("no scope `admin`"),
        "{said}"
    );
    let elsewhere = tempfile::tempdir().expect("a temporary folder");
    let nobody = par(&["--url", &url, "ps"], elsewhere.path());
    let said = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(
        said.contains("a token is needed") && said.contains("--token-file"),
        "{said}"
    );
    let file = elsewhere.path().join("token");
    std::fs::write(&file, format!("{}\n", house.operator)).expect("written");
    let file = file.to_string_lossy();
    let with_file = par(
        &["--url", &url, "--token-file", &file, "audit", "--json"],
        elsewhere.path(),
    );
    assert!(
        with_file.status.success(),
        "{}",
        String::from_utf8_lossy(&with_file.stderr)
    );
    let missing = par(
        &["--url", &url, "--token-file", "/nowhere/x", "ps"],
        elsewhere.path(),
    );
    assert_eq!(missing.status.code(), Some(2));
}
