//! Requests and answers pass supervisor and worker as they are.

use par_testkit::Answer;
use serde_json::{Value, json};

use crate::raw::Raw;
use crate::scene::Scene;

/// Tells what it was asked, and answers what its path says.
const MIRROR: &str = r#"
import gzip, json

GZIPPED = gzip.compress(b"hello " * 1000)

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    seen = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "root_path": scope["root_path"],
        "query": scope["query_string"].decode(),
        "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
        "body": body.decode("latin-1"),
    }
    answer, headers, status = json.dumps(seen).encode(), [], 200
    trailers = False
    if scope["path"].endswith("/gzip"):
        answer, headers = GZIPPED, [(b"content-encoding", b"gzip"), (b"etag", b'"x"')]
    elif scope["path"].endswith("/nothing"):
        answer, status = b"", 204
    elif scope["path"].endswith("/teapot"):
        status = 418
    elif scope["path"].endswith("/trailers"):
        trailers, headers = True, [(b"trailer", b"x-sum")]
    elif scope["path"].endswith("/cookies"):
        headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")]
    if scope["method"] == "HEAD":
        headers.append((b"content-length", b"%d" % len(answer)))
    start = {"type": "http.response.start", "status": status, "headers": headers, "trailers": trailers}
    await send(start)
    await send({"type": "http.response.body", "body": answer})
    if trailers:
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"42")]})
"#;

fn mirror() -> Scene {
    let scene = Scene::start();
    scene.asgi("mirror", MIRROR);
    scene
}

fn ask(scene: &Scene, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let path = format!("/agents/mirror{path}");
    let answer = scene.http().request(method, &path, headers, body);
    answer.expect("an answer")
}

fn header_values(seen: &Value, name: &str) -> Vec<String> {
    let headers = seen["headers"].as_array().expect("a list");
    let named = headers.iter().filter(|header| header[0] == name);
    named
        .filter_map(|header| header[1].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn encoded_paths_and_duplicate_query_keys_and_headers_reach_the_agent_unchanged() {
    let scene = mirror();
    let target = "/api/a%2Fb//c%20d;v=1/?k=1&k=2&k=&x=%26+y";
    let headers = [
        ("x-many", "one"),
        ("x-many", "two"),
        ("accept", "a"),
        ("accept", "b"),
    ];
    let seen = ask(&scene, "GET", target, &headers, b"").json();
    assert_eq!(seen["raw_path"], "/agents/mirror/api/a%2Fb//c%20d;v=1/");
    assert_eq!(seen["root_path"], "/agents/mirror");
    assert_eq!(seen["query"], "k=1&k=2&k=&x=%26+y");
    assert_eq!(header_values(&seen, "x-many"), ["one", "two"]);
    assert_eq!(header_values(&seen, "accept"), ["a", "b"]);
}

#[test]
fn every_method_passes_with_its_body() {
    let scene = mirror();
    for method in [
        "GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND",
    ] {
        let seen = ask(&scene, method, "/api/x", &[], b"\xff\0body").json();
        assert_eq!(seen["method"], method);
        assert_eq!(seen["body"], "\u{ff}\0body", "{method}");
    }
}

#[test]
fn an_answer_to_head_has_its_headers_and_no_body() {
    let scene = mirror();
    let answer = ask(&scene, "HEAD", "/api/gzip", &[], b"");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let length: usize = answer
        .header("content-length")
        .and_then(|length| length.parse().ok())
        .expect("a length");
    assert!(length > 0);
}

#[test]
fn statuses_empty_answers_and_repeated_headers_come_back_unchanged() {
    let scene = mirror();
    let nothing = ask(&scene, "GET", "/api/nothing", &[], b"");
    assert_eq!((nothing.status, nothing.body.len()), (204, 0));
    assert_eq!(ask(&scene, "GET", "/api/teapot", &[], b"").status, 418);
    let cookies = ask(&scene, "GET", "/api/cookies", &[], b"");
    let set: Vec<&str> = cookies
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| value.as_str())
        .collect();
    assert_eq!(set, ["a=1", "b=2"]);
}

#[test]
fn compressed_bodies_stay_compressed_both_ways() {
    let scene = mirror();
    let answer = ask(
        &scene,
        "GET",
        "/api/gzip",
        &[("accept-encoding", "gzip")],
        b"",
    );
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert_eq!(answer.header("etag"), Some("\"x\""));
    assert_eq!(&answer.body[..2], b"\x1f\x8b");
    let seen = ask(
        &scene,
        "POST",
        "/api/x",
        &[("content-encoding", "gzip")],
        &answer.body,
    )
    .json();
    assert_eq!(header_values(&seen, "content-encoding"), ["gzip"]);
    let received = seen["body"].as_str().expect("text").chars();
    let received: Vec<u8> = received.map(|c| u32::from(c) as u8).collect();
    assert_eq!(received, answer.body);
}

#[test]
fn trailers_of_an_answer_reach_who_accepts_them() {
    let scene = mirror();
    let mut raw = Raw::connect(scene.system.url());
    raw.send_head(
        "GET /agents/mirror/api/trailers",
        &["te: trailers", "connection: te"],
    );
    let head = raw.head();
    assert_eq!(head[0], "HTTP/1.1 200 OK", "{head:?}");
    while !raw.chunk().is_empty() {}
    assert_eq!(raw.head(), ["x-sum: 42"]);
}

#[test]
fn a_chunked_upload_passes_piece_by_piece() {
    let scene = mirror();
    let mut raw = Raw::connect(scene.system.url());
    let headers = ["transfer-encoding: chunked", "connection: close"];
    raw.send_head("POST /agents/mirror/api/x", &headers);
    for piece in [
        "5\r\nhello\r\n",
        "1;name=value\r\n \r\n",
        "5\r\nworld\r\n",
        "0\r\nx-t: 1\r\n\r\n",
    ] {
        raw.send(piece.as_bytes()).expect("sent");
    }
    let head = raw.head();
    assert_eq!(head[0], "HTTP/1.1 200 OK", "{head:?}");
    let body = raw.body(&head);
    let seen: Value = serde_json::from_slice(&body).expect("JSON");
    assert_eq!(seen["body"], "hello world");
}

#[test]
fn headers_that_say_who_calls_cannot_be_forged() {
    let scene = mirror();
    let forged = [
        ("x-par-caller", "king"),
        ("x-par-hops", "3"),
        ("X-PAR-Anything", "1"),
    ];
    let seen = ask(&scene, "GET", "/api/x", &forged, b"").json();
    let headers = seen["headers"].as_array().expect("a list");
    let ours = |header: &&Value| {
        header[0]
            .as_str()
            .is_some_and(|name| name.starts_with("x-par-"))
    };
    assert_eq!(
        headers.iter().filter(ours).collect::<Vec<_>>(),
        Vec::<&Value>::new()
    );
}

#[test]
fn built_in_paths_win_and_the_root_is_the_agents() {
    let scene = mirror();
    let health = ask(&scene, "GET", "/health", &[], b"").json();
    assert_eq!(health["status"], "healthy");
    let root = ask(&scene, "GET", "", &[], b"").json();
    assert_eq!(root["path"], "/agents/mirror/");
    let gone = scene.http().get("/agents/nobody/api/x").expect("an answer");
    assert_eq!(gone.status, 404);
    assert_eq!(gone.json(), json!({"detail": "Agent nobody not found"}));
}
