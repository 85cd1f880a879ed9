//! An agent's own ports face the same callers as the supervisor's, and are as strict.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use par_testkit::Http;
use serde_json::json;

use crate::scene::Scene;

/// Says how often it was called, this call among them.
const COUNTING: &str = "calls = 0\ndef handler(body):\n    global calls\n    calls += 1\n    return {'calls': calls}\n";

const SMUGGLED: &str = "POST /invoke HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{}";

/// All but the request line and the host.
const HOSTILE: &[&str] = &[
    "content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\ncontent-length: 2\r\n\r\n0\r\n\r\n",
    "content-length: 2\r\ncontent-length: 2\r\n\r\n{}",
    "content-length: +2\r\n\r\n{}",
    "content-length : 2\r\n\r\n{}",
    "transfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "transfer-encoding: chunked\n\r\n0\r\n\r\n",
    "x: a\r\n content-length: 2\r\n\r\n{}",
    "x: a\rcontent-length: 2\r\n\r\n{}",
    "x: \0\r\n\r\n",
    "no colon\r\n\r\n",
    "host: localhost\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n0x2\r\n{}\r\n0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n2\r\n{}xx0\r\n\r\n",
];

fn port(scene: &Scene, agent: &str, field: &str) -> u16 {
    let port = scene.process(agent)[field].as_u64();
    u16::try_from(port.expect("it has one")).expect("a port")
}

fn said_to(port: u16, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("somebody listens");
    let patience = Some(Duration::from_secs(40));
    stream.set_read_timeout(patience).expect("a socket");
    // It may be closed before it has read all.
    let _either_way = stream.write_all(bytes);
    let mut answer = vec![];
    let ended = stream.read_to_end(&mut answer);
    let is_reset = ended
        .as_ref()
        .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset);
    assert!(ended.is_ok() || is_reset, "the connection ends: {ended:?}");
    answer
}

#[test]
fn what_could_be_read_in_two_ways_never_reaches_the_agent_by_its_own_port() {
    let scene = Scene::start();
    scene.agent("counts", COUNTING);
    let own = port(&scene, "counts", "port");
    for hostile in HOSTILE {
        let request = format!("POST /invoke HTTP/1.1\r\nhost: localhost\r\n{hostile}{SMUGGLED}");
        let answer = said_to(own, request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 400"),
            "{hostile:?}: {answer}"
        );
        assert!(
            answer.matches("HTTP/1.").count() <= 1,
            "{hostile:?}: {answer}"
        );
    }
    let counted = Http::new(&format!("http://127.0.0.1:{own}")).post("/invoke", &json!({}));
    assert_eq!(counted.expect("an answer").json()["calls"], 1);
}

#[test]
fn foreign_names_and_pages_stay_outside_of_an_agents_own_port() {
    let scene = Scene::start();
    scene.agent("counts", COUNTING);
    let own = port(&scene, "counts", "port");
    for (host, more, status) in [
        ("evil.example", "", "403"),
        ("localhost", "origin: http://evil.example\r\n", "403"),
        ("localhost", "origin: null\r\n", "403"),
        ("user@localhost", "", "400"),
        ("localhost", "", "200"),
    ] {
        let request = format!(
            "POST /invoke HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{more}content-length: 2\r\n\r\n{{}}"
        );
        let answer = said_to(own, request.as_bytes());
        let answer = String::from_utf8_lossy(&answer);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{host} {more}: {answer}"
        );
        assert!(
            status != "200" || answer.contains(r#"{"calls":1}"#),
            "{answer}"
        );
    }
}

#[test]
fn whoever_only_talks_on_an_agents_grpc_port_is_shown_out() {
    let scene = Scene::start();
    scene.agent("counts", COUNTING);
    let own = port(&scene, "counts", "grpc_port");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let ping = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut stream = TcpStream::connect(("127.0.0.1", own)).expect("somebody listens");
    let mut reading = stream.try_clone().expect("a socket");
    let reader = std::thread::spawn(move || std::io::copy(&mut reading, &mut std::io::sink()));
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .expect("sent");
    stream.write_all(&settings).expect("sent");
    let many = ping.repeat(100);
    let sent = (0..10_000)
        .take_while(|_| stream.write_all(&many).is_ok())
        .count();
    assert!(sent < 10_000, "a million pings were answered");
    let _either_way = reader.join().expect("no panic");
    assert_eq!(scene.call("counts", &json!({})).status, 200);
}
