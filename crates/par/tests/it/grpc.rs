//! gRPC as clients of other people's making speak it: grpcio from PyPI, to agents and through the supervisor.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use par_testkit::{PackageBuilder, python_environment, wait_for};
use serde_json::{Value, json};

use crate::scene::{PATIENCE, Scene};

const PACKAGES: [&str; 2] = ["grpcio>=1.73.1,<2", "protobuf>=6.31.1,<7"];

const AGENT_SERVICE: &str = "pixell.agent.AgentService";
const PYTHON_AGENT: &str = "pixell.python_agent.PythonAgent";

/// A grpcio client in a process of its own.
pub(crate) struct Client {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Client {
    pub(crate) fn start() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let python = python_environment(Path::new(env!("CARGO_TARGET_TMPDIR")), &PACKAGES);
        let mut child = Command::new(python.join("bin/python"))
            .arg(here.join("tests/it/grpc_client.py"))
            .arg(here.join("../par-protocol/src/protobuf/descriptors.bin"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter is there");
        let questions = child.stdin.take().expect("it was spawned with a pipe");
        let answers = child.stdout.take().expect("it was spawned with a pipe");
        Self {
            child,
            questions,
            answers: BufReader::new(answers),
        }
    }

    #[track_caller]
    pub(crate) fn ask(&mut self, question: &Value) -> Value {
        writeln!(self.questions, "{question}").expect("it reads");
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("it answers");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("{question}: {line:?}"))
    }

    /// One message to one of the runtime's own services.
    #[track_caller]
    pub(crate) fn unary(&mut self, way: &Way, method: &str, message: &Value) -> Value {
        self.ask(&way.question(json!({ "call": "unary", "method": method, "message": message })))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it is ours");
    }
}

/// How an agent is reached.
pub(crate) enum Way {
    /// On its own port.
    Direct { port: u64 },
    /// Through the supervisor, named in the metadata.
    Named { supervisor: String, agent: String },
    /// Through the supervisor, named in the path.
    Below { supervisor: String, agent: String },
}

impl Way {
    pub(crate) fn all(scene: &Scene, agent: &str) -> [Self; 3] {
        let supervisor = scene.system.url().replace("http://", "");
        let (one, other) = (supervisor.clone(), supervisor);
        let agent = agent.to_owned();
        [
            Self::direct(scene, &agent),
            Self::Named {
                supervisor: one,
                agent: agent.clone(),
            },
            Self::Below {
                supervisor: other,
                agent,
            },
        ]
    }

    pub(crate) fn direct(scene: &Scene, agent: &str) -> Self {
        let port = scene.process(agent)["grpc_port"].as_u64();
        Self::Direct {
            port: port.expect("it has one"),
        }
    }

    pub(crate) fn question(&self, mut question: Value) -> Value {
        match self {
            Self::Direct { port } => question["target"] = json!(format!("127.0.0.1:{port}")),
            Self::Named { supervisor, agent } => {
                question["target"] = json!(supervisor);
                question["metadata"] = json!([["x-agent-id", agent]]);
            }
            Self::Below { supervisor, agent } => {
                question["target"] = json!(supervisor);
                question["prefix"] = json!(format!("/agents/{agent}"));
            }
        }
        question
    }
}

const ACTIONS: &str = r#"
import asyncio

def handler(body):
    return {"echo": body}

def secret(body):
    return "for agents"

async def upper(parameters):
    return parameters["text"].upper()

def add(parameters):
    return {"sum": float(parameters["a"]) + float(parameters["b"])}

async def fail(parameters):
    raise ValueError("no such luck")

async def slow(parameters):
    await asyncio.sleep(float(parameters["s"]))

def make():
    return {"custom_handlers": {"upper": upper, "add": add, "fail": fail, "slow": slow}}
"#;

fn actions(name: &str) -> PackageBuilder {
    PackageBuilder::new(name).main(ACTIONS).manifest(
        "a2a:\n  service: src.main:make\nexports:\n  - name: echo\n    handler: src.main:handler\n\
         metadata:\n  version: 0.1.0\n  sub_agents:\n    - name: secret\n      public: false\n",
    )
}

#[test]
fn every_agent_is_an_agent_service_on_its_port_and_through_the_supervisor() {
    let scene = Scene::start();
    scene.serve(&actions("acting"), &json!({}));
    let mut client = Client::start();
    for way in Way::all(&scene, "acting") {
        let mut ask = |method: &str, message: Value| {
            client.unary(&way, &format!("{AGENT_SERVICE}/{method}"), &message)["answer"].clone()
        };
        assert_eq!(ask("Health", json!({}))["ok"], true);
        assert_eq!(ask("Ping", json!({}))["message"], "pong");
        let described = ask("DescribeCapabilities", json!({}));
        assert_eq!(
            described["methods"],
            json!(["upper", "add", "fail", "slow", "echo", "invoke"])
        );
        assert_eq!(described["metadata"]["agent_id"], "acting");
        let mut invoke = |action: &str, parameters: Value| {
            let message = json!({ "action": action, "parameters": parameters, "request_id": "r1" });
            ask("Invoke", message)
        };
        let said = invoke("upper", json!({ "text": "abc" }));
        assert_eq!(
            (&said["success"], &said["result"], &said["request_id"]),
            (&json!(true), &json!("ABC"), &json!("r1"))
        );
        assert_eq!(
            invoke("add", json!({ "a": "2", "b": "3" }))["result"],
            "{'sum': 5.0}"
        );
        assert_eq!(
            invoke("echo", json!({ "x": "1" }))["result"],
            "{'echo': {'x': '1'}}"
        );
        let failed = invoke("fail", json!({}));
        assert_eq!(
            (&failed["success"], &failed["error"]),
            (&json!(false), &json!("no such luck"))
        );
        for hidden in ["nope", "secret", "\0upper", ""] {
            let unknown = invoke(hidden, json!({}));
            assert_eq!(
                unknown["error"],
                format!("No handler found for action: {hidden}")
            );
        }
        let made_up = ask("Invoke", json!({ "action": "echo" }));
        assert!(
            made_up["request_id"]
                .as_str()
                .is_some_and(|id| id.starts_with("req_")),
            "{made_up}"
        );
    }
}

#[test]
fn failures_have_the_codes_of_the_one_table() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("par.toml");
    std::fs::write(&config, "body_limit_mb = 1\n").expect("written");
    let scene = Scene::with(|builder| builder.arguments(["--config".as_ref(), config.as_os_str()]));
    scene.serve(&actions("acting"), &json!({}));
    let mut client = Client::start();
    let [direct, named, below] = Way::all(&scene, "acting");
    let mut code = |question: Value| {
        let said = client.ask(&question);
        (
            said["code"].as_str().unwrap_or("none").to_owned(),
            said["details"].as_str().unwrap_or("").to_owned(),
        )
    };
    let ping = json!({ "call": "unary", "method": format!("{AGENT_SERVICE}/Ping"), "message": {} });
    let slow = json!({
        "call": "unary", "method": format!("{AGENT_SERVICE}/Invoke"), "timeout": 0.3,
        "message": { "action": "slow", "parameters": { "s": "30" } },
    });
    for way in [&direct, &named, &below] {
        assert_eq!(code(way.question(slow.clone())).0, "DEADLINE_EXCEEDED");
        let raw = |path: &str, message: &str| {
            way.question(json!({ "call": "raw", "kind": "unary_unary", "path": path, "messages": [message] }))
        };
        assert_eq!(code(raw("/no.such.Service/Method", "")).0, "UNIMPLEMENTED");
        assert_eq!(
            code(raw(&format!("/{AGENT_SERVICE}/NoSuchMethod"), "")).0,
            "UNIMPLEMENTED"
        );
        assert_eq!(
            code(raw(&format!("/{PYTHON_AGENT}/Execute"), "")).0,
            "UNIMPLEMENTED"
        );
        assert_eq!(
            code(raw(&format!("/{AGENT_SERVICE}/Invoke"), "ffff")).0,
            "INTERNAL"
        );
    }
    let large = json!({
        "call": "unary", "method": format!("{AGENT_SERVICE}/Invoke"),
        "message": { "action": "echo", "parameters": { "x": "x".repeat(2 << 20) } },
    });
    assert_eq!(code(direct.question(large)).0, "RESOURCE_EXHAUSTED");
    let supervisor = scene.system.url().replace("http://", "");
    let ghost = Way::Named {
        supervisor: supervisor.clone(),
        agent: "ghost".to_owned(),
    };
    assert_eq!(
        code(ghost.question(ping.clone())),
        ("NOT_FOUND".to_owned(), "Agent ghost not found".to_owned())
    );
    let mut nobody = ping.clone();
    nobody["target"] = json!(supervisor);
    assert_eq!(code(nobody).0, "INVALID_ARGUMENT");
    let mut mistaken = direct.question(ping.clone());
    mistaken["metadata"] = json!([["x-agent-id", "other"]]);
    assert_eq!(
        code(mistaken).0,
        "NOT_FOUND",
        "a port that has another agent by now"
    );
    let stopped = scene.http().post("/supervisor/stop/par-acting", &json!({}));
    assert_eq!(stopped.expect("answered").status, 200);
    assert_eq!(code(named.question(ping)).0, "UNAVAILABLE");
}

#[test]
fn health_and_reflection_are_as_every_grpc_tool_expects_them() {
    let scene = Scene::start();
    scene.serve(&actions("acting"), &json!({}));
    let mut client = Client::start();
    for way in Way::all(&scene, "acting") {
        let check = json!({ "call": "raw", "kind": "unary_unary", "path": "/grpc.health.v1.Health/Check", "messages": [""] });
        assert_eq!(
            client.ask(&way.question(check))["answers"],
            json!(["0801"]),
            "SERVING"
        );
        for version in ["v1", "v1alpha"] {
            let path = format!("/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo");
            // list_services, then file_containing_symbol of the first.
            let symbol = hex(format!("\x22\x19{AGENT_SERVICE}").as_bytes());
            let question = json!({ "call": "raw", "kind": "stream_stream", "path": path, "messages": ["3a00", symbol] });
            let said = client.ask(&way.question(question));
            let answers = said["answers"]
                .as_array()
                .unwrap_or_else(|| panic!("{said}"));
            assert!(unhex(&answers[0]).contains(AGENT_SERVICE), "{said}");
            assert!(
                unhex(&answers[1]).contains("DescribeCapabilities"),
                "{said}"
            );
        }
    }
}

/// Dependencies come from a package index, which may be slow.
#[track_caller]
fn wait_until_installed(scene: &Scene, agent: &str) {
    wait_for(&format!("{agent} runs"), 10 * PATIENCE, || {
        let process = scene.process(agent);
        let state = process["state"].as_str().unwrap_or_default();
        assert_ne!(state, "failed", "{process}");
        (state == "running").then_some(())
    });
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &Value) -> String {
    let digits = text.as_str().expect("hexadecimal digits").as_bytes();
    let bytes = digits.chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).expect("digits");
        u8::from_str_radix(pair, 16).expect("digits")
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

/// Serves all four kinds of methods by itself, without generated code, and asks the other one like it.
const SERVING: &str = r#"
import grpc
from pixell_agent_runtime.a2a_client import get_a2a_client
from pixell_agent_runtime.a2a_grpc_client import A2AGrpcClient, A2AGrpcServer

class Shop:
    async def Echo(self, request, context):
        seen = dict(context.invocation_metadata())
        context.set_trailing_metadata((("x-seen", seen.get("x-word", "")), ("x-left", str(context.time_remaining() is not None))))
        return request + b"!"

    async def Count(self, request, context):
        for number in range(request[0]):
            yield bytes([number])

    async def Sum(self, requests, context):
        return bytes([sum([part[0] async for part in requests])])

    async def Talk(self, requests, context):
        async for part in requests:
            yield part * 2

    async def Fail(self, request, context):
        await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "closed on sundays: é")

def add(shop, server):
    methods = {
        "Echo": grpc.unary_unary_rpc_method_handler(shop.Echo),
        "Count": grpc.unary_stream_rpc_method_handler(shop.Count),
        "Sum": grpc.stream_unary_rpc_method_handler(shop.Sum),
        "Talk": grpc.stream_stream_rpc_method_handler(shop.Talk),
        "Fail": grpc.unary_unary_rpc_method_handler(shop.Fail),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.v1.Shop", methods),))

A2AGrpcServer(50051).start(Shop(), add)

async def handler(body):
    if "ask" in body:
        client = A2AGrpcClient()
        answer = await client.call_grpc_method(body["ask"], None, "shop.v1.Shop", "Echo", b"hi")
        return answer.decode()
    if "describe" in body:
        return await get_a2a_client().call_grpc(body["describe"], "pixell.agent.AgentService", "Invoke", {"action": "greet"})
    if "loop" in body:
        return await get_a2a_client().call_grpc(body["loop"], "pixell.agent.AgentService", "Invoke", {"action": "loop", "parameters": body})

def greet(body):
    return "hello"

def secret(body):
    return "for agents"

async def ask_secret(body):
    answer = await get_a2a_client().call_grpc(body["agent"], "pixell.agent.AgentService", "Invoke", {"action": "secret"})
    return answer

async def loop(body):
    return await handler(body)
"#;

fn serving(name: &str) -> PackageBuilder {
    PackageBuilder::new(name)
        .main(SERVING)
        .file("requirements.txt", PACKAGES.join("\n"))
        .manifest(
            "exports:\n  - name: greet\n    handler: src.main:greet\n  - name: loop\n    handler: src.main:loop\n  - name: ask_secret\n    handler: src.main:ask_secret\n\
             metadata:\n  version: 0.1.0\n  sub_agents:\n    - name: secret\n      public: false\n",
        )
}

#[test]
fn what_an_agent_serves_itself_is_there_beside_the_runtime_and_agents_call_each_other() {
    let scene = Scene::start();
    for agent in ["shop", "other"] {
        let answer = scene.spawn(&serving(agent), &json!({}));
        assert_eq!(answer.status, 200, "{}", answer.text());
        wait_until_installed(&scene, agent);
    }
    let mut client = Client::start();
    for way in Way::all(&scene, "shop") {
        all_kinds(&mut client, &way);
        let ping = client.unary(&way, &format!("{AGENT_SERVICE}/Ping"), &json!({}));
        assert_eq!(ping["answer"]["message"], "pong");
        let question = json!({ "call": "raw", "kind": "stream_stream", "path": "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "messages": ["3a00"] });
        assert!(unhex(&client.ask(&way.question(question))["answers"][0]).contains("shop.v1.Shop"));
    }
    agents_call_each_other(&scene);
}

fn all_kinds(client: &mut Client, way: &Way) {
    let mut raw = |kind: &str, method: &str, messages: Value| {
        let mut question = way.question(json!({
            "call": "raw", "kind": kind, "path": format!("/shop.v1.Shop/{method}"), "messages": messages,
        }));
        let metadata = question["metadata"].as_array().cloned().unwrap_or_default();
        question["metadata"] = json!([metadata, vec![json!(["x-word", "w"])]].concat());
        client.ask(&question)
    };
    let echo = raw("unary_unary", "Echo", json!(["6869"]));
    assert_eq!(echo["answers"], json!(["686921"]), "{echo}");
    let trailers = echo["trailers"].as_array().expect("trailers");
    assert!(trailers.contains(&json!(["x-seen", "w"])), "{echo}");
    assert!(
        trailers.contains(&json!(["x-left", "True"])),
        "its deadline came along: {echo}"
    );
    assert_eq!(
        raw("unary_stream", "Count", json!(["03"]))["answers"],
        json!(["00", "01", "02"])
    );
    assert_eq!(
        raw("stream_unary", "Sum", json!(["01", "02", "03"]))["answers"],
        json!(["06"])
    );
    let failed = raw("unary_unary", "Fail", json!([""]));
    assert_eq!(
        failed,
        json!({ "code": "FAILED_PRECONDITION", "details": "closed on sundays: é" })
    );
    let talk =
        json!({ "call": "talk", "path": "/shop.v1.Shop/Talk", "messages": ["01", "02", "03"] });
    assert_eq!(
        client.ask(&way.question(talk))["answers"],
        json!(["0101", "0202", "0303"])
    );
}

fn agents_call_each_other(scene: &Scene) {
    let call = |body: Value| scene.call("shop", &body);
    assert_eq!(call(json!({ "ask": "other" })).json(), "hi!");
    let described = call(json!({ "describe": "other" })).json();
    assert_eq!(
        (&described["success"], &described["result"]),
        (&json!(true), &json!("hello"))
    );
    let missing = call(json!({ "describe": "ghost" }));
    assert_eq!(missing.status, 500);
    assert!(missing.text().contains("NOT_FOUND"), "{}", missing.text());
    let private = scene.http().post(
        "/agents/shop/exports/ask_secret",
        &json!({ "agent": "other" }),
    );
    assert_eq!(private.expect("answered").json()["result"], "for agents");
    let looped = call(json!({ "loop": "shop" })).text();
    assert!(looped.contains("16 agents called each other"), "{looped}");
}

/// A package in the style of the execution backend's own adapter: stubs made by grpcio-tools 1.73.1, requirements that
/// ask for less.
fn code_runner() -> PackageBuilder {
    PackageBuilder::new("code-runner")
        .entrypoint(Some("src.adapter:PixellAdapter"))
        .manifest("capabilities: [code-execution, python-runtime]\nenvironment:\n  A2A_PORT: \"${A2A_PORT:-50051}\"")
        .file("requirements.txt", include_str!("code_runner/requirements.txt"))
        .file("src/adapter.py", include_str!("code_runner/src/adapter.py"))
        .file("src/a2a/python_agent_pb2.py", include_str!("code_runner/src/a2a/python_agent_pb2.py"))
        .file("src/a2a/python_agent_pb2_grpc.py", include_str!("code_runner/src/a2a/python_agent_pb2_grpc.py"))
}

#[test]
fn a_package_made_for_the_execution_backend_works_unmodified() {
    let scene = Scene::start();
    for agent in ["agent-a", "agent-b"] {
        let answer = scene.spawn(&code_runner(), &json!({ "agent_id": agent }));
        assert_eq!(answer.status, 200, "{}", answer.text());
        wait_until_installed(&scene, agent);
    }
    for agent in ["agent-a", "agent-b"] {
        let execute = |body: &Value| {
            let answer = scene
                .http()
                .post(&format!("/agents/{agent}/exports/execute"), body);
            answer.expect("the supervisor answers").json()
        };
        let ran = execute(&json!({ "code": "x = 40\nprint('hi')\nx + 2", "session_id": "s" }));
        assert_eq!(
            (&ran["status"], &ran["stdout"]),
            (&json!("success"), &json!("hi\n")),
            "{ran}"
        );
        assert_eq!(
            ran["results"],
            json!({ "x": "28", "_": "2a" }),
            "MessagePack"
        );
        let failed = execute(&json!({ "code": "1 / 0", "session_id": "s" }));
        assert_eq!(failed["status"], "error");
        assert!(
            failed["message"]
                .as_str()
                .is_some_and(|why| why.contains("ZeroDivisionError")),
            "{failed}"
        );
        let info = scene
            .http()
            .post(&format!("/agents/{agent}/exports/get_info"), &json!({}));
        let target = info.expect("answered").json()["target"].clone();
        assert_eq!(target, "unix:/tmp/pixell-python-agent-50051.sock");
    }
    for action in ["ask_over_http", "ask_over_grpc"] {
        let asked = json!({ "action": action, "agent": "agent-b", "code": "print(6 * 7)" });
        let answer = scene.call("agent-a", &asked);
        assert_eq!(
            answer.json()["stdout"],
            "42\n",
            "{action}: {}",
            answer.text()
        );
    }
    let mut client = Client::start();
    for (number, way) in Way::all(&scene, "agent-b").iter().enumerate() {
        the_whole_backend(&mut client, way, &format!("direct-{number}"));
    }
}

fn the_whole_backend(client: &mut Client, way: &Way, session: &str) {
    let mut ask = |method: &str, mut message: Value| {
        message["session_id"] = json!(session);
        client.unary(way, &format!("{PYTHON_AGENT}/{method}"), &message)
    };
    let ran = ask("Execute", json!({ "code": "x = 1\nx" }))["answer"].clone();
    assert_eq!(
        (&ran["success"], &ran["results"]["x"]),
        (&json!(true), &json!("AQ==")),
        "{ran}"
    );
    let carried = ask("Execute", json!({ "code": "x += 1\nprint(x)" }))["answer"].clone();
    assert_eq!(carried["stdout"], "2\n");
    let state = ask("GetSessionState", json!({}))["answer"].clone();
    assert_eq!(state["variables"], json!({ "x": "Ag==" }));
    assert!(state["created_at"].as_str() > Some("1"), "{state}");
    let edits = json!([{ "line_number": 2, "old_line": "print(x)", "new_line": "print(x * 100)" }]);
    let patched = ask("RetryWithPatch", json!({ "patch": { "edits": edits } }))["answer"].clone();
    assert_eq!(
        (&patched["success"], &patched["stdout"]),
        (&json!(true), &json!("300\n")),
        "{patched}"
    );
    let wrong = json!([{ "line_number": 9, "old_line": "", "new_line": "" }]);
    let unpatched = ask("RetryWithPatch", json!({ "patch": { "edits": wrong } }))["answer"].clone();
    assert!(
        unpatched["error"]
            .as_str()
            .is_some_and(|why| why.contains("line 9")),
        "{unpatched}"
    );
    let code =
        "import time\nfor n in range(3):\n    print(n)\n    time.sleep(0.3)\nprogress(1, 'done')";
    let stream = json!({ "call": "stream", "method": format!("{PYTHON_AGENT}/StreamExecute"), "message": { "code": code, "session_id": session } });
    let said = client.ask(&way.question(stream));
    let chunks = said["answers"]
        .as_array()
        .unwrap_or_else(|| panic!("{said}"));
    let kinds = chunks.iter().filter_map(|chunk| chunk["type"].as_str());
    let mut kinds: Vec<&str> = kinds.collect();
    kinds.dedup(); // a `print` may come in pieces
    assert_eq!(kinds, ["STDOUT", "PROGRESS", "RESULT"], "{said}");
    let after = |chunk: Option<&Value>| chunk.and_then(|chunk| chunk["after"].as_f64());
    let (first, last) = (after(chunks.first()), after(chunks.last()));
    assert!(
        last > first.map(|first| first + 0.5),
        "the first came long before the end: {said}"
    );
    let endless = json!({
        "call": "stream", "method": format!("{PYTHON_AGENT}/StreamExecute"), "most": 1,
        "message": { "code": "import time\nprint('begun')\nwhile True: time.sleep(0.01)", "session_id": session },
    });
    assert_eq!(
        client.ask(&way.question(endless))["answers"][0]["type"],
        "STDOUT"
    );
    let after = json!({ "code": "x", "session_id": session });
    let after = client.unary(way, &format!("{PYTHON_AGENT}/Execute"), &after)["answer"].clone();
    assert_eq!(
        after["success"], true,
        "a caller that left ended the run, and not the session: {after}"
    );
    let failing = json!({ "call": "stream", "method": format!("{PYTHON_AGENT}/StreamExecute"), "message": { "code": "int('x')" } });
    let failed = client.ask(&way.question(failing));
    assert_eq!(failed["answers"][0]["type"], "ERROR", "{failed}");
    let long = "for _ in range(1000): print('x' * 1000)"; // more than waits in any buffer
    let long = json!({ "call": "stream", "method": format!("{PYTHON_AGENT}/StreamExecute"), "message": { "code": long } });
    let long = client.ask(&way.question(long));
    let last = long["answers"].as_array().and_then(|chunks| chunks.last());
    assert_eq!(last.expect("chunks came")["type"], "RESULT");
    refusals_of_the_backend(client, way);
}

fn refusals_of_the_backend(client: &mut Client, way: &Way) {
    let mut code = |method: &str, message: Value| {
        let said = client.unary(way, &format!("{PYTHON_AGENT}/{method}"), &message);
        said["code"].as_str().unwrap_or("none").to_owned()
    };
    let long = "x".repeat(10_000);
    for session in ["a/b", "..", "a\0b", &long] {
        let message = json!({ "code": "1", "session_id": session });
        assert_eq!(
            code("Execute", message),
            "INVALID_ARGUMENT",
            "{session:.20}"
        );
    }
    assert_eq!(
        code("Execute", json!({ "code": "1", "timeout_seconds": -1 })),
        "INVALID_ARGUMENT"
    );
    assert_eq!(
        code(
            "Execute",
            json!({ "code": "1", "timeout_seconds": i32::MAX })
        ),
        "INVALID_ARGUMENT"
    );
    assert_eq!(
        code("GetSessionState", json!({ "session_id": "ghost" })),
        "NOT_FOUND"
    );
    assert_eq!(
        code("RetryWithPatch", json!({ "session_id": "ghost" })),
        "NOT_FOUND"
    );
    let bad = json!({ "code": "1", "context": { "x": "wQ==" } });
    let said = client.unary(way, &format!("{PYTHON_AGENT}/Execute"), &bad)["answer"].clone();
    assert_eq!(said["success"], false);
    assert!(
        said["error"]
            .as_str()
            .is_some_and(|why| why.contains("context")),
        "{said}"
    );
    let never = json!({ "session_id": "unsuccessful", "code": "1 / 0" });
    client.unary(way, &format!("{PYTHON_AGENT}/Execute"), &never);
    let retry = client.unary(
        way,
        &format!("{PYTHON_AGENT}/RetryWithPatch"),
        &json!({ "session_id": "unsuccessful" }),
    );
    assert_eq!(retry["answer"]["error"], "No previous execution to retry");
}

#[test]
fn first_calls_that_come_together_share_one_connection() {
    let scene = Scene::start();
    let answer = scene.spawn(&serving("shop"), &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    wait_until_installed(&scene, "shop");
    let way = Way::direct(&scene, "shop");
    let mut client = Client::start();
    let question =
        json!({ "call": "many", "path": "/shop.v1.Shop/Echo", "messages": ["6869"], "count": 30 });
    let said = client.ask(&way.question(question));
    assert_eq!(said["codes"], json!({ "OK": 30 }), "{said}");
}
