//! HTTP/2 written frame by frame: what a library for callers would never send. The cases are those of RFC 9113 that
//! h2spec asks for too, and the floods that have names of their own.

use std::net::SocketAddr;
use std::time::Duration;

use par_gateway::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::house::House;
use crate::wire::{LONG, Wire, soon};
use crate::worker::Worker;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PUSH_PROMISE: u8 = 5;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const WITH_PRIORITY: u8 = 32;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// A header block without compression: each field literal, never indexed.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![];
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length_of(text, &mut block);
            block.extend(text.as_bytes());
        }
    }
    block
}

fn length_of(text: &str, block: &mut Vec<u8>) {
    match text.len() {
        short @ ..127 => block.push(u8::try_from(short).expect("short")),
        long => {
            block.push(127);
            let mut left = long - 127;
            while left >= 128 {
                block.push(u8::try_from(left % 128).expect("small") | 128);
                left /= 128;
            }
            block.push(u8::try_from(left).expect("small"));
        }
    }
}

const GET: [(&str, &str); 4] = [
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/agents/a/x"),
    (":authority", "localhost"),
];

fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&GET[..], more].concat())
}

fn headers(stream: u32, flags: u8, fields: &[u8]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | flags, stream, fields)
}

/// A call that is all head.
fn call(stream: u32) -> Vec<u8> {
    headers(stream, END_STREAM, &get_with(&[]))
}

/// One connection after its greetings.
struct Peer {
    stream: TcpStream,
}

/// How a peer is answered to something it should not have sent.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// The whole connection: GOAWAY, or closed without a word.
    Connection,
    /// One stream: RST_STREAM.
    Stream,
    /// An answer of ours with this status.
    Status(String),
}

impl Peer {
    async fn to(address: SocketAddr) -> Self {
        Self::greeting(address, &frame(SETTINGS, 0, 0, &[])).await
    }

    async fn greeting(address: SocketAddr, settings: &[u8]) -> Self {
        let mut stream = soon(TcpStream::connect(address))
            .await
            .expect("a connection");
        stream.write_all(PREFACE).await.expect("sent");
        stream.write_all(settings).await.expect("sent");
        Self { stream }
    }

    /// False when the other side is gone.
    async fn say(&mut self, bytes: &[u8]) -> bool {
        soon(self.stream.write_all(bytes)).await.is_ok()
    }

    async fn hear(&mut self) -> Option<(u8, u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        soon(self.stream.read_exact(&mut head)).await.ok()?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let stream = u32::from_be_bytes(stream);
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        soon(self.stream.read_exact(&mut payload)).await.ok()?;
        Some((kind, flags, stream, payload))
    }

    /// What comes of what was said; whatever else is said meanwhile is passed over.
    async fn end(&mut self) -> End {
        loop {
            match self.hear().await {
                None => return End::Connection,
                Some((GOAWAY, _, _, payload)) if payload[4..8] != [0; 4] => return End::Connection,
                Some((RST_STREAM, ..)) => return End::Stream,
                Some((HEADERS, _, _, payload)) => return End::Status(status(&payload)),
                Some(_) => {}
            }
        }
    }
}

/// The first field of an answer: `:status`, from the static table, or one of its own.
fn status(block: &[u8]) -> String {
    const KNOWN: [&str; 7] = ["200", "204", "206", "304", "400", "404", "500"];
    match block {
        // An update of the table's size may come first.
        [update, rest @ ..] if update & 0xe0 == 0x20 => status(rest),
        [index @ 0x88..=0x8e, ..] => KNOWN[usize::from(index - 0x88)].to_owned(),
        // A literal under the name of index 8, perhaps compressed: digits have five or six bits.
        [0x48, length, text @ ..] if length & 0x80 == 0 => {
            String::from_utf8_lossy(&text[..usize::from(*length)]).into_owned()
        }
        [0x48, length, text @ ..] => digits(&text[..usize::from(length & 0x7f)]),
        _ => panic!("no status first: {block:?}"),
    }
}

/// Digits in the code of HPACK: 0, 1 and 2 are five bits, from 3 on six.
fn digits(bytes: &[u8]) -> String {
    let bits: Vec<u8> = bytes
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1))
        .collect();
    let (mut at, mut text) = (0, String::new());
    let number = |bits: &[u8]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    while at + 5 <= bits.len() && text.len() < 3 {
        let five = number(&bits[at..at + 5]);
        let (digit, taken) = match five {
            0..=2 => (five, 5),
            _ => (number(&bits[at..at + 6]) - 0x19 + 3, 6),
        };
        text.push(char::from(b'0' + digit));
        at += taken;
    }
    text
}

fn house() -> (House, Worker) {
    house_with(Config {
        threads: 1,
        ..Config::default()
    })
}

fn house_with(config: Config) -> (House, Worker) {
    let house = House::with(config);
    let worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    (house, worker)
}

#[test]
fn the_status_of_an_answer_is_read_as_it_was_written() {
    for (block, expected) in [
        (&[0x88][..], "200"),
        (&[0x20, 0x8c], "400"),
        (&[0x48, 3, b'4', b'2', b'9'], "429"),
        // RFC 7541, C.6.1: 302.
        (&[0x48, 0x82, 0x64, 0x02], "302"),
    ] {
        assert_eq!(status(block), expected);
    }
}

#[tokio::test]
async fn a_call_that_is_right_is_answered() {
    let (house, _worker) = house();
    let mut peer = Peer::to(house.address).await;
    peer.say(&call(1)).await;
    assert_eq!(peer.end().await, End::Status("200".to_owned()));
}

#[tokio::test]
async fn what_breaks_the_connections_rules_ends_the_connection() {
    let (house, _worker) = house();
    let get = get_with(&[]);
    let oversized = vec![0; 16_385];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("DATA on stream 0", frame(DATA, 0, 0, b"x")),
        ("HEADERS on stream 0", headers(0, END_STREAM, &get)),
        (
            "PRIORITY on stream 0",
            frame(PRIORITY, 0, 0, &[0, 0, 0, 1, 0]),
        ),
        ("RST_STREAM on stream 0", frame(RST_STREAM, 0, 0, &[0; 4])),
        (
            "RST_STREAM of an idle stream",
            frame(RST_STREAM, 0, 1, &[0; 4]),
        ),
        (
            "RST_STREAM of a wrong length",
            [call(1), frame(RST_STREAM, 0, 1, &[0; 3])].concat(),
        ),
        ("DATA on an idle stream", frame(DATA, 0, 1, b"x")),
        (
            "WINDOW_UPDATE of an idle stream",
            frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
        ),
        (
            "WINDOW_UPDATE of nothing",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        (
            "WINDOW_UPDATE of a wrong length",
            frame(WINDOW_UPDATE, 0, 0, &[0; 3]),
        ),
        (
            "WINDOW_UPDATE over the top",
            [
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
                frame(WINDOW_UPDATE, 0, 0, &[0x7f, 255, 255, 255]),
            ]
            .concat(),
        ),
        ("an even stream", headers(2, END_STREAM, &get)),
        ("a stream that goes back", [call(5), call(3)].concat()),
        ("SETTINGS on a stream", frame(SETTINGS, 0, 1, &[])),
        ("SETTINGS of a wrong length", frame(SETTINGS, 0, 0, &[0; 5])),
        (
            "an acknowledgement that says something",
            frame(SETTINGS, 1, 0, &[0; 6]),
        ),
        (
            "SETTINGS_ENABLE_PUSH of 2",
            frame(SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 2]),
        ),
        (
            "SETTINGS_INITIAL_WINDOW_SIZE over the top",
            frame(SETTINGS, 0, 0, &[0, 4, 128, 0, 0, 0]),
        ),
        (
            "SETTINGS_MAX_FRAME_SIZE too small",
            frame(SETTINGS, 0, 0, &[0, 5, 0, 0, 0, 1]),
        ),
        (
            "SETTINGS_MAX_FRAME_SIZE too large",
            frame(SETTINGS, 0, 0, &[0, 5, 1, 0, 0, 0]),
        ),
        ("PING on a stream", frame(PING, 0, 1, &[0; 8])),
        ("PING of a wrong length", frame(PING, 0, 0, &[0; 7])),
        ("GOAWAY on a stream", frame(GOAWAY, 0, 1, &[0; 8])),
        (
            "PUSH_PROMISE of a caller",
            frame(PUSH_PROMISE, END_HEADERS, 1, &[0, 0, 0, 2]),
        ),
        (
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, &get),
        ),
        (
            "another frame within a header block",
            [frame(HEADERS, 0, 1, &get), frame(PING, 0, 0, &[0; 8])].concat(),
        ),
        (
            "CONTINUATION of another stream",
            [
                frame(HEADERS, 0, 1, &get),
                frame(CONTINUATION, END_HEADERS, 3, &[]),
            ]
            .concat(),
        ),
        ("a frame that is too large", frame(DATA, 0, 1, &oversized)),
        (
            "a header block that is too large a frame",
            frame(HEADERS, END_HEADERS, 1, &oversized),
        ),
        (
            "more padding than frame",
            headers(1, END_STREAM | PADDED, &[&[255], &get[..]].concat()),
        ),
        (
            "a header block that cannot be read",
            headers(1, END_STREAM, &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("an index that is none", headers(1, END_STREAM, &[0x80])),
        (
            "an index beyond the table",
            headers(1, END_STREAM, &[0xff, 0x40]),
        ),
    ];
    for (what, bytes) in cases {
        let mut peer = Peer::to(house.address).await;
        peer.say(&bytes).await;
        // Calls before it may be answered.
        let mut end = peer.end().await;
        while end == End::Status("200".to_owned()) {
            end = peer.end().await;
        }
        assert_eq!(end, End::Connection, "{what}");
    }
    let mut peer = Peer::to(house.address).await;
    peer.say(&call(1)).await;
    assert_eq!(peer.end().await, End::Status("200".to_owned()));
}

#[tokio::test]
async fn what_is_no_request_ends_its_stream_and_never_reaches_the_agent() {
    let house = House::new();
    let (seen, mut was_seen) = tokio::sync::mpsc::unbounded_channel();
    let _worker = Worker::http(&house.socket("a"), move |request| {
        seen.send(format!("{request:?}")).expect("the test waits");
        async { http::Response::new(crate::worker::full("seen")) }
    });
    house.publish_a();
    let without = |name: &str| {
        let left: Vec<_> = GET
            .into_iter()
            .filter(|(known, _)| *known != name)
            .collect();
        block(&left)
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no method", without(":method")),
        ("no scheme", without(":scheme")),
        ("no path", without(":path")),
        (
            "an empty path",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", ""),
                (":authority", "localhost"),
            ]),
        ),
        ("a field in capitals", get_with(&[("X-Upper", "x")])),
        ("a connection field", get_with(&[("connection", "close")])),
        ("keep-alive", get_with(&[("keep-alive", "1")])),
        ("proxy-connection", get_with(&[("proxy-connection", "x")])),
        (
            "transfer-encoding",
            get_with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", get_with(&[("upgrade", "websocket")])),
        ("a te that is not trailers", get_with(&[("te", "gzip")])),
        ("a second method", get_with(&[(":method", "POST")])),
        ("a second path", get_with(&[(":path", "/agents/a/y")])),
        (
            "a pseudo field after a field",
            block(&[&[("x", "y")][..], &GET].concat()),
        ),
        (
            "a pseudo field that is unknown",
            get_with(&[(":unknown", "x")]),
        ),
        (
            "a pseudo field of an answer",
            get_with(&[(":status", "200")]),
        ),
        (
            "a line feed in a value",
            get_with(&[("x", "a\nx-par-caller: b")]),
        ),
        (
            "a carriage return in a value",
            get_with(&[("x", "a\r\nhost: b")]),
        ),
        ("a zero byte in a value", get_with(&[("x", "a\0b")])),
        ("a space in a name", get_with(&[("x y", "z")])),
        ("a colon in a name", get_with(&[("x:y", "z")])),
        ("an empty name", get_with(&[("", "z")])),
        (
            "a space in the path",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/agents/a/x HTTP/1.1"),
                (":authority", "localhost"),
            ]),
        ),
        (
            "a line feed in the path",
            block(&[
                (":method", "GET"),
                (":scheme", "http"),
                (":path", "/agents/a/x\r\nx: y"),
                (":authority", "localhost"),
            ]),
        ),
        (
            "a line feed in the method",
            block(&[
                (":method", "GET / HTTP/1.1\r\n"),
                (":scheme", "http"),
                (":path", "/agents/a/x"),
                (":authority", "localhost"),
            ]),
        ),
    ];
    for (what, fields) in cases {
        let mut peer = Peer::to(house.address).await;
        peer.say(&headers(1, END_STREAM, &fields)).await;
        let end = peer.end().await;
        let refused = match &end {
            End::Status(status) => status.starts_with('4'),
            End::Stream | End::Connection => true,
        };
        assert!(refused, "{what}: {end:?}");
        assert_eq!(was_seen.try_recv().ok(), None, "{what}");
    }
}

#[tokio::test]
async fn a_body_that_is_not_as_long_as_it_says_is_never_a_whole_request() {
    let (house, _worker) = house();
    let post = |length: &str| {
        block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/agents/a/x"),
            (":authority", "localhost"),
            ("content-length", length),
        ])
    };
    for (what, bytes) in [
        (
            "too short",
            [
                headers(1, 0, &post("5")),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
        ),
        (
            "too long",
            [
                headers(1, 0, &post("2")),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
        ),
        ("none", headers(1, END_STREAM, &post("5"))),
        (
            "no number",
            [
                headers(1, 0, &post("+3")),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
        ),
        (
            "after the end",
            [
                headers(1, 0, &post("3")),
                frame(DATA, END_STREAM, 1, b"abc"),
                frame(DATA, END_STREAM, 1, b"abc"),
            ]
            .concat(),
        ),
    ] {
        let mut peer = Peer::to(house.address).await;
        peer.say(&bytes).await;
        let end = peer.end().await;
        let is_well = end == End::Status("200".to_owned());
        // What comes after the end of a whole request may find it answered.
        assert!(!is_well || what == "after the end", "{what}: {end:?}");
    }
    let mut peer = Peer::to(house.address).await;
    peer.say(
        &[
            headers(1, 0, &post("3")),
            frame(DATA, END_STREAM, 1, b"abc"),
        ]
        .concat(),
    )
    .await;
    assert_eq!(peer.end().await, End::Status("200".to_owned()));
}

#[tokio::test]
async fn priorities_padding_and_unknown_frames_change_nothing() {
    let (house, _worker) = house();
    let mut peer = Peer::to(house.address).await;
    let padded = [&[3], &get_with(&[])[..], &[0; 3]].concat();
    let weighed = [&[0, 0, 0, 0, 16][..], &get_with(&[])].concat();
    for bytes in [
        frame(99, 255, 0, b"what is this"),
        frame(PRIORITY, 0, 1, &[0, 0, 0, 0, 16]),
        headers(1, END_STREAM | PADDED, &padded),
    ] {
        peer.say(&bytes).await;
    }
    assert_eq!(peer.end().await, End::Status("200".to_owned()));
    peer.say(&headers(3, END_STREAM | WITH_PRIORITY, &weighed))
        .await;
    let (head, tail) = (&get_with(&[])[..10], &get_with(&[])[10..]);
    peer.say(
        &[
            frame(HEADERS, END_STREAM, 5, head),
            frame(CONTINUATION, END_HEADERS, 5, tail),
        ]
        .concat(),
    )
    .await;
    for _ in 0..2 {
        assert_eq!(peer.end().await, End::Status("200".to_owned()));
    }
}

/// Takes what has come, so that the other side is never blocked.
fn drain(stream: &mut TcpStream) {
    let mut buffer = [0; 64 << 10];
    while stream.try_read(&mut buffer).is_ok_and(|count| count > 0) {}
}

/// Calls of another caller during an attack: how long it usually waits.
async fn answered_meanwhile<A: Future<Output = ()>>(address: SocketAddr, attack: A) -> Duration {
    let mut wire = Wire::to(address).await;
    let mut waits = vec![];
    let mut attack = std::pin::pin!(attack);
    loop {
        let begun = Instant::now();
        let one = async {
            wire.send("GET /agents/a/x HTTP/1.1\r\nhost: g\r\n\r\n")
                .await;
            wire.answer().await
        };
        // The attacker goes on while the other waits.
        let mut one = std::pin::pin!(one);
        let (answer, is_over) = tokio::select! {
            answer = &mut one => (answer, false),
            () = &mut attack => (one.await, true),
        };
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        waits.push(begun.elapsed());
        if is_over {
            waits.sort();
            return waits[waits.len() / 2];
        }
    }
}

/// Sends `bytes` again and again for a while, or until the other side has enough.
async fn flood(address: SocketAddr, begin: Vec<u8>, again: impl Fn(u32) -> Vec<u8>) {
    let mut peer = Peer::to(address).await;
    peer.say(&begin).await;
    let until = Instant::now() + Duration::from_millis(500);
    let mut round = 0;
    while Instant::now() < until {
        let sent = timeout(
            Duration::from_millis(50),
            peer.stream.write_all(&again(round)),
        )
        .await;
        if matches!(sent, Ok(Err(_))) {
            return;
        }
        drain(&mut peer.stream);
        round += 1;
    }
}

/// What others may not wait longer for while somebody floods us.
const NOTICED: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn floods_of_frames_are_noticed_by_nobody_else() {
    let (house, _worker) = house();
    let address = house.address;
    let many = |one: Vec<u8>| one.repeat(100);
    let reset = |stream: u32| [call(stream), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat();
    let (ping, settings) = (
        many(frame(PING, 0, 0, &[0; 8])),
        many(frame(SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 9])),
    );
    let priority = many(frame(PRIORITY, 0, 7, &[0, 0, 0, 1, 16]));
    let window = many(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1]));
    let empty = many(frame(DATA, 0, 1, &[]));
    let continuation = many(frame(CONTINUATION, 0, 1, &block(&[("x", "y")])));
    let unknown = many(frame(77, 0, 0, &[1; 64]));
    let open = headers(
        1,
        0,
        &block(&[
            (":method", "POST"),
            (":scheme", "http"),
            (":path", "/agents/a/x"),
            (":authority", "g"),
        ]),
    );
    let begun = frame(HEADERS, 0, 1, &get_with(&[]));
    let mut usual = vec![];
    usual.push((
        "resets",
        answered_meanwhile(
            address,
            flood(address, vec![], |round| {
                (0..50)
                    .flat_map(|call| reset(round * 100 + call * 2 + 1))
                    .collect()
            }),
        )
        .await,
    ));
    for (name, begin, again) in [
        ("pings", vec![], ping),
        ("settings", vec![], settings),
        ("priorities", vec![], priority),
        ("window updates", vec![], window),
        ("empty data", open, empty),
        ("continuations", begun, continuation),
        ("unknown frames", vec![], unknown),
    ] {
        let attack = flood(address, begin, |_| again.clone());
        usual.push((name, answered_meanwhile(address, attack).await));
    }
    // The median: a machine that is busy with something else may hold up one or another, not most of them.
    let late: Vec<_> = usual.iter().filter(|(_, wait)| *wait > NOTICED).collect();
    assert!(late.is_empty(), "{usual:?}");
}

#[tokio::test]
async fn whoever_only_talks_is_shown_out() {
    let (house, _worker) = house();
    for one in [
        frame(PING, 0, 0, &[0; 8]),
        frame(SETTINGS, 0, 0, &[]),
        frame(99, 0, 0, &[]),
    ] {
        let mut peer = Peer::to(house.address).await;
        let many = one.repeat(1000);
        let mut rounds = 0;
        while rounds < 1000 && peer.say(&many).await {
            rounds += 1;
            drain(&mut peer.stream);
        }
        assert!(rounds < 1000, "{one:?}");
    }
}

#[tokio::test]
async fn a_header_block_without_end_ends_its_connection_within_bounds() {
    let (house, _worker) = house();
    let mut peer = Peer::to(house.address).await;
    peer.say(&frame(HEADERS, 0, 1, &get_with(&[]))).await;
    let piece = frame(CONTINUATION, 0, 1, &block(&[("x", &"y".repeat(1000))]));
    let mut sent = 0;
    while sent < 4 << 20 && peer.say(&piece).await {
        sent += piece.len();
    }
    assert!(sent < 4 << 20, "it was read without end");
}

#[tokio::test]
async fn a_table_that_blows_up_is_refused() {
    let (house, _worker) = house();
    let mut peer = Peer::to(house.address).await;
    // One large field in the table, then named a thousand times (an HPACK bomb).
    let mut fields = get_with(&[]);
    fields.extend([0x40, 1, b'x', 127, 0x81, 0x1e]);
    fields.extend([b'y'; 127 + 1 + 30 * 128]);
    fields.extend([0xbe; 4000]);
    peer.say(&headers(1, END_STREAM, &fields)).await;
    let end = peer.end().await;
    assert!(
        end == End::Status("431".to_owned()) || end == End::Connection || end == End::Stream,
        "{end:?}"
    );
}

#[tokio::test]
async fn calls_beyond_the_limit_of_one_connection_are_refused_and_it_goes_on() {
    let house = House::with(Config {
        threads: 1,
        max_concurrent_streams: 4,
        ..Config::default()
    });
    let _worker = Worker::raw(&house.socket("a"), |stream| async move {
        let _open = stream;
        std::future::pending().await
    });
    house.publish_a();
    let mut peer = Peer::to(house.address).await;
    for stream in 0..5 {
        peer.say(&call(stream * 2 + 1)).await;
    }
    assert_eq!(peer.end().await, End::Stream);
}

#[tokio::test]
async fn nobody_speaks_http_2_by_an_upgrade() {
    let (house, _worker) = house();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/x HTTP/1.1\r\nhost: g\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n").await;
    wire.send(PREFACE).await;
    let answer = timeout(LONG, wire.read_to_end()).await.expect("it ends");
    assert!(!answer.contains("101"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
}
