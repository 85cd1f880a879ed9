//! What an agent says bit by bit arrives bit by bit, and it learns when nobody listens any more.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::{SinkExt as _, StreamExt as _};
use par_testkit::PackageBuilder;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::raw::Raw;
use crate::scene::{Scene, exports};

const TICKING: &str = r#"
import asyncio, time

def handler(body):
    return body

async def ticks(body):
    for _ in range(body["count"]):
        yield {"at": time.time()}
        await asyncio.sleep(0.01)

async def forever(body):
    try:
        while True:
            yield {"at": time.time()}
            await asyncio.sleep(0.05)
    except asyncio.CancelledError:
        print("forever was cancelled", flush=True)
        raise
    finally:
        print("forever was closed", flush=True)

def forever_plain(body):
    try:
        while True:
            yield 1
            time.sleep(0.05)
    finally:
        print("the plain one was closed", flush=True)

async def patient(body):
    print("patient began", flush=True)
    try:
        await asyncio.sleep(600)
    except asyncio.CancelledError:
        print("patient was cancelled", flush=True)
        raise
"#;

fn ticking(scene: &Scene) {
    let names = ["ticks", "forever", "forever_plain", "patient"];
    let package = PackageBuilder::new("ticking")
        .main(TICKING)
        .manifest(&exports(&names));
    scene.serve(&package, &json!({}));
}

/// A call of an export that asks for events; its head is sent, and nothing read.
fn listen(scene: &Scene, export: &str, body: &Value) -> Raw {
    let mut raw = Raw::connect(scene.system.url());
    let body = body.to_string();
    let length = format!("content-length: {}", body.len());
    let headers = ["accept: text/event-stream", &length];
    raw.send_head(&format!("POST /agents/ticking/exports/{export}"), &headers);
    raw.send(body.as_bytes()).expect("sent");
    raw
}

fn seconds_now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.expect("it is later than 1970").as_secs_f64()
}

/// How long an event that carries its time was on its way.
fn delay_of(event: &[u8]) -> Duration {
    let now = seconds_now();
    let text = std::str::from_utf8(event).expect("text");
    let data = text.strip_prefix("data: ").expect("an event").trim_end();
    let data: Value = serde_json::from_str(data).expect("JSON");
    let at = data["at"].as_f64().expect("its time");
    Duration::from_secs_f64((now - at).max(0.0))
}

#[test]
fn an_event_arrives_as_soon_as_it_is_yielded() {
    let scene = Scene::start();
    ticking(&scene);
    let mut raw = listen(&scene, "ticks", &json!({"count": 41}));
    let head = raw.head();
    assert!(
        head.contains(&"content-type: text/event-stream".to_owned()),
        "{head:?}"
    );
    let mut delays: Vec<Duration> = (0..41).map(|_| delay_of(&raw.chunk())).collect();
    assert_eq!(raw.chunk(), b"", "the end");
    delays.sort();
    let median = delays[delays.len() / 2];
    // The promise; the median keeps out what else this machine does.
    assert!(median < Duration::from_millis(20), "{delays:?}");
}

#[test]
fn an_agent_learns_that_its_listener_has_left() {
    let scene = Scene::start();
    ticking(&scene);
    for (export, sign) in [
        ("forever", "forever was closed"),
        ("forever_plain", "the plain one was closed"),
    ] {
        let mut raw = listen(&scene, export, &json!({}));
        raw.head();
        assert!(!raw.chunk().is_empty());
        drop(raw);
        scene.wait_for_log("ticking", sign);
    }
    let unanswered = listen(&scene, "patient", &json!({}));
    // A call that has not reached the agent yet is only given up.
    scene.wait_for_log("ticking", "patient began");
    drop(unanswered);
    scene.wait_for_log("ticking", "patient was cancelled");
    assert_eq!(scene.call("ticking", &json!(2)).json(), json!(2));
}

const SOCKETS: &str = r#"
async def app(scope, receive, send):
    if scope["type"] != "websocket":
        return
    await receive()
    if scope["path"].endswith("/api/refuse"):
        return await send({"type": "websocket.close", "code": 4403})
    offered = scope["subprotocols"]
    await send({"type": "websocket.accept", "subprotocol": offered[0] if offered else None})
    while True:
        message = await receive()
        if message["type"] == "websocket.disconnect":
            print("left with", message["code"], flush=True)
            return
        if message.get("text") == "close":
            return await send({"type": "websocket.close", "code": 4001, "reason": "as asked"})
        await send({**message, "type": "websocket.send"})
"#;

type Socket = WebSocketStream<TcpStream>;

async fn connect(scene: &Scene, path: &str) -> Result<Socket, Error> {
    let address = scene
        .system
        .url()
        .strip_prefix("http://")
        .expect("a URL of ours");
    let stream = TcpStream::connect(address).await.expect("somebody listens");
    let request = format!("ws://{address}/agents/sockets{path}");
    client_async(request, stream)
        .await
        .map(|(socket, _)| socket)
}

async fn echo(socket: &mut Socket, message: Message) -> Message {
    socket.send(message).await.expect("sent");
    socket.next().await.expect("open").expect("a message")
}

#[test]
fn a_web_socket_carries_text_bytes_and_close_codes_both_ways() {
    let scene = Scene::start();
    scene.asgi("sockets", SOCKETS);
    let talk = async {
        let mut socket = connect(&scene, "/api/echo").await.expect("accepted");
        for message in [
            Message::text("grüße"),
            Message::binary(vec![0, 255, 10]),
            Message::text("t".repeat(1 << 20)),
            Message::binary(vec![7; 1 << 20]),
        ] {
            assert!(echo(&mut socket, message.clone()).await == message);
        }
        let closed = echo(&mut socket, Message::text("close")).await;
        let Message::Close(Some(CloseFrame { code, reason })) = closed else {
            panic!("expected a close, got {closed:?}");
        };
        assert_eq!((u16::from(code), reason.as_str()), (4001, "as asked"));

        let mut leaver = connect(&scene, "/api/echo").await.expect("accepted");
        let goodbye = CloseFrame {
            code: 4777.into(),
            reason: "bye".into(),
        };
        leaver.close(Some(goodbye)).await.expect("sent");
        let mut answered = false;
        while let Some(message) = leaver.next().await {
            answered |= message.expect("a clean end").is_close();
        }
        assert!(answered, "a close is answered by a close");
    };
    Runtime::new().expect("a runtime").block_on(talk);
    scene.wait_for_log("sockets", "left with 4777");
}

#[test]
fn a_web_socket_that_the_agent_refuses_is_403_and_one_that_breaks_off_is_told() {
    let scene = Scene::start();
    scene.asgi("sockets", SOCKETS);
    let talk = async {
        let refused = connect(&scene, "/api/refuse").await;
        let Err(Error::Http(answer)) = refused else {
            panic!("expected an HTTP answer, got {refused:?}");
        };
        assert_eq!(answer.status().as_u16(), 403);
        let mut socket = connect(&scene, "/api/echo").await.expect("accepted");
        echo(&mut socket, Message::text("here")).await;
        drop(socket);
    };
    Runtime::new().expect("a runtime").block_on(talk);
    scene.wait_for_log("sockets", "left with 100");
}
