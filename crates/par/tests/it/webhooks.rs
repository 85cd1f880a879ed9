//! Whoever `par.toml` names is told what happens: signed, and again until it is taken.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use par_testkit::System;
use serde_json::Value;
use sha2::Sha256;

use crate::ran::par_in;
use crate::scene::PATIENCE;

const KEY: &[u8] = b"a key of thirty-two bytes, nearly";

struct Got {
    head: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Got {
    fn event(&self) -> Value {
        serde_json::from_slice(&self.body).expect("JSON")
    }

    /// As any receiver checks it.
    #[track_caller]
    fn is_signed(&self) {
        let (id, timestamp) = (&self.head["webhook-id"], &self.head["webhook-timestamp"]);
        let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("a key");
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(&self.body);
        let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
        assert_eq!(self.head["webhook-signature"], expected);
    }
}

/// Answers with these, then with 204; tells what it was sent.
fn receiver(answers: &'static [u16]) -> (String, mpsc::Receiver<Got>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://{}/hook", listener.local_addr().expect("bound"));
    let (tell, got) = mpsc::channel();
    // Ends with the test's process.
    thread::spawn(move || {
        let statuses = answers.iter().copied().chain(std::iter::repeat(204));
        for (stream, status) in listener.incoming().zip(statuses) {
            let mut stream = BufReader::new(stream.expect("a connection"));
            // A supervisor that ends may hang up before it has said anything.
            let Some(got) = read(&mut stream) else {
                continue;
            };
            let answer = format!("HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n");
            let _it_hung_up = stream.get_mut().write_all(answer.as_bytes());
            if tell.send(got).is_err() {
                return;
            }
        }
    });
    (url, got)
}

fn read(stream: &mut BufReader<TcpStream>) -> Option<Got> {
    let mut head = BTreeMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).ok().filter(|read| *read > 0)?;
        if line.trim_end().is_empty() {
            break;
        }
        if let Some((name, value)) = line.trim_end().split_once(": ") {
            head.insert(name.to_owned(), value.to_owned());
        }
    }
    let mut body = vec![0; head["content-length"].parse().expect("a number")];
    stream.read_exact(&mut body).ok()?;
    Some(Got { head, body })
}

fn start(folder: &Path, url: &str) -> System {
    let config = folder.join("par.toml");
    let secret = STANDARD.encode(KEY);
    let text = format!(
        "[[webhooks]]\nurl = '{url}'\nsecret = 'whsec_{secret}'\nevents = ['supervisor_started', 'supervisor_ended']\n"
    );
    fs::write(&config, text).expect("written");
    System::builder(env!("CARGO_BIN_EXE_par"))
        .state(&folder.join("state"))
        .arguments(["--config".as_ref(), config.as_os_str()])
        .start()
}

#[test]
fn an_event_is_posted_signed_and_again_after_a_failure_and_the_rest_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (url, got) = receiver(&[503]);
    let next = || got.recv_timeout(PATIENCE).expect("it comes in time");
    let system = start(folder.path(), &url);
    let (refused, taken) = (next(), next());
    for got in [&refused, &taken] {
        got.is_signed();
        assert_eq!(got.head["content-type"], "application/json");
        assert_eq!(got.event()["kind"], "supervisor_started");
        assert_eq!(got.event()["id"], 1);
    }
    assert_eq!(refused.head["webhook-id"], taken.head["webhook-id"]);
    system.stop();
    let system = start(folder.path(), &url);
    // What happened at the very end of a life is told by the next, again if there was time to tell it before.
    let mut told = BTreeMap::new();
    while !told.contains_key(&Some(3)) {
        let got = next();
        got.is_signed();
        told.insert(got.event()["id"].as_u64(), got.event()["kind"].clone());
    }
    assert_eq!(told[&Some(2)], "supervisor_ended");
    assert_eq!(told[&Some(3)], "supervisor_started");
    system.stop();
}

#[test]
fn a_webhook_that_cannot_be_is_a_mistake_with_its_place() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let text = "[[webhooks]]\nurl = 'ftp://x'\nsecret = ''\n";
    fs::write(folder.path().join("par.toml"), text).expect("written");
    let said = par_in(folder.path(), ["up", "--port", "0"], "")
        .ended_with(2)
        .stderr;
    for part in ["par.toml:2:7", "par.toml:3:10"] {
        assert!(said.contains(part), "{part} is missing in {said}");
    }
}
