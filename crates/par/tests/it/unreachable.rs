//! What is said when no supervisor answers.

use std::net::TcpListener;

use crate::ran::{par, par_in};

/// A port on which nobody listens.
fn silent_url() -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let port = listener.local_addr().expect("bound").port();
    format!("http://127.0.0.1:{port}")
}

#[test]
fn every_command_that_asks_a_supervisor_ends_with_3_and_says_what_to_do() {
    let url = silent_url();
    let folder = tempfile::tempdir().expect("a temporary folder");
    par_in(folder.path(), ["init", "hello"], "").ended_with(0);
    for words in [
        &["ps"][..],
        &["deploy", "hello"],
        &["call", "hello"],
        &["logs"],
        &["logs", "-f"],
        &["stop", "hello"],
        &["start", "hello"],
        &["restart", "hello"],
        &["rm", "hello"],
    ] {
        let words = words.iter().copied().chain(["--url", &url]);
        let ran = par_in(folder.path(), words, "").ended_with(3);
        let expected = format!("no supervisor answers at {url}");
        assert!(ran.stderr.contains(&expected), "{}", ran.stderr);
        assert!(
            ran.stderr.contains("start one with `par up`"),
            "{}",
            ran.stderr
        );
        assert!(ran.stderr.contains("--url or PAR_URL"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "");
    }
}

#[test]
fn with_json_a_failure_is_one_json_object_on_standard_error() {
    let ran = par(["ps", "--json", "--url", &silent_url()]).ended_with(3);
    let said: serde_json::Value = serde_json::from_str(&ran.stderr).expect("it is JSON");
    assert_eq!(said["exit_code"], 3);
    assert!(
        said["error"]
            .as_str()
            .is_some_and(|text| text.contains("no supervisor"))
    );
    assert!(
        said["help"]
            .as_str()
            .is_some_and(|text| text.contains("par up"))
    );
}

#[test]
fn a_server_that_is_no_supervisor_is_told_from_one() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 4096];
        let read = std::io::Read::read(&mut stream, &mut request).expect("a request");
        assert!(read > 0);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>";
        std::io::Write::write_all(&mut stream, answer.as_bytes()).expect("written");
    });
    let ran = par(["ps", "--url", &url]).ended_with(1);
    server.join().expect("the server ends");
    assert!(
        ran.stderr.contains("what a supervisor does not say"),
        "{}",
        ran.stderr
    );
}
