//! The proxy on a socket, between a client and servers of the test's own; names are resolved as each test says.

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use par_egress::{Authorization, Door, Figures, Policy, Resolver, Trust, serve};
use par_model::egress::Egress;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Only ends a test that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(20);

struct Proxy {
    address: SocketAddr,
    figures: Rc<Figures>,
    lines: Rc<RefCell<Vec<String>>>,
    policy: watch::Sender<Arc<Policy>>,
}

fn policy(granted: &[String]) -> Arc<Policy> {
    let granted = granted.iter().map(|it| it.parse().expect("a destination"));
    Arc::new(Policy::new(Egress {
        granted: granted.collect(),
        ..Egress::default()
    }))
}

/// Every name leads to `leads_to`.
async fn proxy(granted: &[String], leads_to: &str, password: Option<&str>) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (policy_in, policy) = watch::channel(policy(granted));
    let leads_to: IpAddr = leads_to.parse().expect("an address");
    let resolver: Resolver = Rc::new(move |_| Box::pin(async move { Ok(vec![leads_to]) }));
    let (figures, lines) = (
        Rc::<Figures>::default(),
        Rc::<RefCell<Vec<String>>>::default(),
    );
    let written = Rc::clone(&lines);
    let door = Door {
        agent: "a".parse().expect("an id"),
        policy,
        authorization: password.map(|it| Authorization::new(it.to_owned())),
        figures: Rc::clone(&figures),
        resolver,
        trust: Trust::These(RootCertStore::empty()),
        say: Box::new(move |line| written.borrow_mut().push(line)),
    };
    tokio::task::spawn_local(serve(listener, door, std::future::pending()));
    Proxy {
        address,
        figures,
        lines,
        policy: policy_in,
    }
}

/// Says back what it hears, until its caller says no more.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::task::spawn_local(async move {
                let (mut read, mut write) = stream.split();
                // A caller that hangs up is what some tests are about.
                let _hung_up = tokio::io::copy(&mut read, &mut write).await;
            });
        }
    });
    address
}

/// A connection to the proxy, after `words`, and the head of its answer.
async fn say(proxy: &Proxy, words: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(proxy.address).await.expect("connected");
    stream.write_all(words.as_bytes()).await.expect("said");
    let mut head = vec![];
    let answered = async {
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
    };
    timeout(PATIENCE, answered).await.expect("answered in time");
    (stream, String::from_utf8_lossy(&head).into_owned())
}

async fn connect(proxy: &Proxy, to: &str) -> (TcpStream, String) {
    say(
        proxy,
        &format!("CONNECT {to} HTTP/1.1\r\nhost: {to}\r\n\r\n"),
    )
    .await
}

#[track_caller]
fn status(head: &str) -> u16 {
    let word = head.split(' ').nth(1);
    word.and_then(|it| it.parse().ok())
        .unwrap_or_else(|| panic!("{head:?}"))
}

async fn local(test: impl Future<Output = ()>) {
    LocalSet::new().run_until(test).await;
}

fn hello(name: &'static str) -> Vec<u8> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let config = TlsConnector::from(Arc::new(config)).config().clone();
    let name = ServerName::try_from(name).expect("a name");
    let mut client = ClientConnection::new(config, name).expect("a client");
    let mut bytes = vec![];
    client.write_tls(&mut bytes).expect("written");
    bytes
}

/// What comes out at the other end of a tunnel to `api.example.org` through which `words` went.
async fn through(words: &[u8]) -> (Vec<u8>, Proxy) {
    let server = echo().await;
    let granted = [
        format!("api.example.org:{}", server.port()),
        server.to_string(),
    ];
    let proxy = proxy(&granted, "127.0.0.1", None).await;
    let (mut stream, head) = connect(&proxy, &granted[0]).await;
    assert_eq!(status(&head), 200);
    stream.write_all(words).await.expect("said");
    stream.shutdown().await.expect("no more");
    let mut back = vec![];
    let read = timeout(PATIENCE, stream.read_to_end(&mut back)).await;
    // A tunnel that is cut ends, one way or another.
    let _cut = read.expect("it ends in time");
    (back, proxy)
}

#[tokio::test]
async fn a_tunnel_passes_bytes_both_ways_and_half_of_it_may_end_before_the_other() {
    local(async {
        let words: Vec<u8> = (0..200_000u32).map(|n| n as u8 | 0x80).collect();
        let (back, proxy) = through(&words).await;
        assert_eq!(back, words);
        let figures = proxy.figures.look();
        assert_eq!(figures.connections, 1);
        assert_eq!(
            (figures.sent_bytes, figures.received_bytes),
            (200_000, 200_000)
        );
    })
    .await;
}

#[tokio::test]
async fn tls_in_a_tunnel_is_for_the_host_that_the_tunnel_is_to() {
    local(async {
        let right = hello("api.example.org");
        let (back, _) = through(&right).await;
        assert_eq!(back, right, "the hello is passed on as it came");
        for wrong in [hello("evil.example.org"), hello("192.0.2.1")] {
            let (back, proxy) = through(&wrong).await;
            assert_eq!(back, b"", "nothing of it reached the server");
            assert_eq!(proxy.figures.look().refused["server_name"], 1);
            assert!(proxy.lines.borrow()[0].contains("api.example.org"));
        }
    })
    .await;
}

#[tokio::test]
async fn what_begins_like_tls_and_is_none_is_cut() {
    local(async {
        let (back, proxy) = through(b"\x16\x03\x01\x00\x05hello").await;
        assert_eq!(back, b"");
        assert_eq!(proxy.figures.look().refused["not_tls"], 1);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_speaks_first_is_heard() {
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::task::spawn_local(async move {
            let (mut stream, _) = listener.accept().await.expect("a caller");
            stream.write_all(b"220 ready\r\n").await.expect("said");
            let mut heard = [0; 4];
            stream.read_exact(&mut heard).await.expect("heard");
            stream.write_all(&heard).await.expect("said");
        });
        let granted = [address.to_string()];
        let proxy = proxy(&granted, "127.0.0.1", None).await;
        let (mut stream, _) = connect(&proxy, &granted[0]).await;
        let mut greeting = [0; 11];
        stream.read_exact(&mut greeting).await.expect("a greeting");
        assert_eq!(&greeting, b"220 ready\r\n");
        stream.write_all(b"HELO").await.expect("said");
        let mut back = vec![];
        stream.read_to_end(&mut back).await.expect("the rest");
        assert_eq!(back, b"HELO");
    })
    .await;
}

#[tokio::test]
async fn addresses_in_every_spelling_and_requests_of_every_odd_shape_are_refused() {
    local(async {
        let server = echo().await;
        let port = server.port();
        let granted = [format!("api.example.org:{port}")];
        let proxy = proxy(&granted, "127.0.0.1", None).await;
        for (to, expected) in [
            (format!("127.0.0.1:{port}"), 403),
            (format!("2130706433:{port}"), 400),
            (format!("0x7f000001:{port}"), 400),
            (format!("0177.0.0.1:{port}"), 400),
            (format!("127.1:{port}"), 400),
            (format!("[::ffff:127.0.0.1]:{port}"), 403),
            (format!("localhost:{port}"), 403),
            (format!("api.example.org:{port}"), 403),
            ("api.example.org".to_owned(), 400),
            (format!("x@api.example.org:{port}"), 400),
        ] {
            let (_, head) = connect(&proxy, &to).await;
            assert_eq!(status(&head), expected, "{to}: {head}");
        }
        let refused = proxy.figures.look().refused;
        assert_eq!(
            refused["address"], 1,
            "granted by name, and the name leads here: {refused:?}"
        );
    })
    .await;
}

#[tokio::test]
async fn plain_requests_name_their_host_rightly_or_are_refused() {
    local(async {
        let server = echo().await;
        let granted = [server.to_string()];
        let proxy = proxy(&granted, "127.0.0.1", None).await;
        for (words, expected) in [
            (
                format!("GET http://{server}/ HTTP/1.1\r\nhost: evil.example.org\r\n\r\n"),
                400,
            ),
            (format!("GET http://{server}/ HTTP/1.1\r\n\r\n"), 400),
            (
                format!(
                    "GET http://{server}/ HTTP/1.1\r\nhost: {server}\r\nhost: {server}\r\n\r\n"
                ),
                400,
            ),
            (
                format!("TRACE http://{server}/ HTTP/1.1\r\nhost: {server}\r\n\r\n"),
                400,
            ),
            (format!("GET / HTTP/1.1\r\nhost: {server}\r\n\r\n"), 400),
            (
                format!("GET https://{server}/ HTTP/1.1\r\nhost: {server}\r\n\r\n"),
                400,
            ),
            (
                format!("GET http://a@{server}/ HTTP/1.1\r\nhost: {server}\r\n\r\n"),
                400,
            ),
            (
                "GET http://b.example.org/ HTTP/1.1\r\nhost: b.example.org\r\n\r\n".to_owned(),
                403,
            ),
        ] {
            let (_, head) = say(&proxy, &words).await;
            assert_eq!(status(&head), expected, "{words}: {head}");
        }
        assert_eq!(proxy.figures.look().sent_bytes, 0, "nothing went out");
    })
    .await;
}

#[tokio::test]
async fn without_the_password_nothing_is_done() {
    local(async {
        let server = echo().await;
        let granted = [server.to_string()];
        let proxy = proxy(&granted, "127.0.0.1", Some("s3cret")).await;
        let (_, head) = connect(&proxy, &granted[0]).await;
        assert_eq!(status(&head), 407);
        // par:s3cret
        let right = "proxy-authorization: Basic cGFyOnMzY3JldA==";
        let words = format!("CONNECT {server} HTTP/1.1\r\nhost: {server}\r\n{right}\r\n\r\n");
        let (_, head) = say(&proxy, &words).await;
        assert_eq!(status(&head), 200);
    })
    .await;
}

#[tokio::test]
async fn what_is_revoked_is_refused_from_the_next_request_on() {
    local(async {
        let server = echo().await;
        let granted = [server.to_string()];
        let proxy = proxy(&granted, "127.0.0.1", None).await;
        assert_eq!(status(&connect(&proxy, &granted[0]).await.1), 200);
        proxy.policy.send_replace(policy(&[]));
        let (_, head) = connect(&proxy, &granted[0]).await;
        assert_eq!(status(&head), 403);
        let way = format!("par network grant a {server}");
        assert!(
            head.lines().next().is_some_and(|it| it.contains(&way)),
            "{head}"
        );
    })
    .await;
}

#[tokio::test]
async fn more_connections_than_there_may_be_are_turned_away() {
    local(async {
        let server = echo().await;
        let granted = [server.to_string()];
        let proxy = proxy(&granted, "127.0.0.1", None).await;
        let mut open = vec![];
        for _ in 0..256 {
            let (stream, head) = connect(&proxy, &granted[0]).await;
            assert_eq!(status(&head), 200);
            open.push(stream);
        }
        let (_, head) = connect(&proxy, &granted[0]).await;
        assert_eq!(status(&head), 503);
        drop(open);
        let again = async {
            while status(&connect(&proxy, &granted[0]).await.1) != 200 {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, again).await.expect("there is room again");
    })
    .await;
}
