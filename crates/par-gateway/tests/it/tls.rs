//! TLS in front of the public door.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use par_gateway::{Config, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::channel::Channel;
use crate::house::House;
use crate::wire::{Wire, soon};
use crate::worker::{Worker, full};

/// Somebody whose certificates are trusted.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

type Pair = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, change: impl FnOnce(&mut CertificateParams)) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![]).expect("no names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        (
            certificate.der().clone(),
            key.serialize_der().try_into().expect("a key"),
        )
    }

    fn server(&self) -> Pair {
        self.issue(|params| params.subject_alt_names = vec![dns("localhost")])
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        roots
    }
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().expect("a name"))
}

enum Ask {
    Nothing,
    Certificate,
}

fn server_config(authority: &Authority, ask: Ask) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let (certificate, key) = authority.server();
    let builder = match ask {
        Ask::Nothing => builder.with_no_client_auth(),
        Ask::Certificate => builder.with_client_cert_verifier(
            WebPkiClientVerifier::builder_with_provider(Arc::new(authority.roots()), provider)
                .build()
                .expect("a verifier"),
        ),
    };
    builder
        .with_single_cert(vec![certificate], key)
        .expect("a pair")
}

fn client_config(authority: &Authority, shown: Option<Pair>, protocol: &[u8]) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(authority.roots());
    let mut config = match shown {
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate], key)
            .expect("a pair"),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    config
}

async fn connect(
    address: SocketAddr,
    config: ClientConfig,
) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").expect("a name");
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
}

fn house(tls: &Tls, config: Config) -> (House, Worker) {
    let house = House::secured(tls.clone(), config);
    let worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    (house, worker)
}

const CALL: &str = "GET /agents/a/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

async fn call(house: &House, config: ClientConfig) -> std::io::Result<String> {
    let mut stream = connect(house.address, config).await?;
    stream.write_all(CALL.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn both_protocols_are_spoken_over_tls_and_the_agent_learns_that_it_was_tls() {
    let authority = Authority::new();
    let (house, _worker) = house(
        &Tls::new(server_config(&authority, Ask::Nothing)),
        Config::default(),
    );
    let answer = soon(call(&house, client_config(&authority, None, b"http/1.1")))
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.contains("x-forwarded-proto=https\n"), "{answer}");
    let stream = soon(connect(
        house.address,
        client_config(&authority, None, b"h2"),
    ))
    .await
    .expect("a connection");
    let channel = Channel::over(stream).await;
    let request = Request::get("https://localhost/agents/a/x")
        .body(())
        .expect("a request");
    let answered = channel.ask(request, "").await;
    assert_eq!(answered.status, 200);
    assert!(
        answered.body.contains("x-forwarded-proto=https\n"),
        "{}",
        answered.body
    );
}

#[tokio::test]
async fn what_is_no_tls_is_not_answered_by_an_agent() {
    let authority = Authority::new();
    let (house, _worker) = house(
        &Tls::new(server_config(&authority, Ask::Nothing)),
        Config::default(),
    );
    let mut wire = Wire::to(house.address).await;
    wire.send(CALL).await;
    let rest = wire.read_rest().await;
    assert!(!rest.starts_with(b"HTTP/"), "{}", rest.escape_ascii());
}

#[tokio::test]
async fn who_shows_no_certificate_of_ours_is_not_let_in() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let (house, _worker) = house(
        &Tls::new(server_config(&authority, Ask::Certificate)),
        Config::default(),
    );
    let strange = stranger.issue(|params| params.subject_alt_names = vec![dns("caller")]);
    for shown in [None, Some(strange)] {
        let refused = soon(call(&house, client_config(&authority, shown, b"http/1.1"))).await;
        refused.expect_err("refused");
    }
    let nameless = authority.issue(|_| {});
    let refused = soon(call(
        &house,
        client_config(&authority, Some(nameless), b"http/1.1"),
    ))
    .await;
    assert!(
        refused.is_err() || refused.is_ok_and(|answer| answer.is_empty()),
        "it names nobody"
    );
}

#[tokio::test]
async fn the_control_api_learns_what_a_certificate_calls_its_bearer() {
    let authority = Authority::new();
    let (house, _worker) = house(
        &Tls::new(server_config(&authority, Ask::Certificate)),
        Config::default(),
    );
    let uri = SanType::URI("spiffe://example/caller".try_into().expect("a URI"));
    let mail = SanType::Rfc822Name("a@b.example".try_into().expect("an address"));
    let named = |names: Vec<SanType>, common: &str| {
        let common = common.to_owned();
        authority.issue(move |params| {
            params.subject_alt_names = names;
            params.distinguished_name.push(DnType::CommonName, common);
        })
    };
    for (shown, name) in [
        (
            named(vec![dns("caller.example"), uri], "cn"),
            "spiffe://example/caller",
        ),
        (
            named(vec![mail.clone(), dns("Caller.example")], "cn"),
            "caller.example",
        ),
        (named(vec![mail], "cn"), "a@b.example"),
        (named(vec![], "Some Caller"), "Some Caller"),
    ] {
        let config = client_config(&authority, Some(shown), b"http/1.1");
        let mut stream = soon(connect(house.address, config))
            .await
            .expect("a connection");
        let ask = "GET /x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
        stream.write_all(ask.as_bytes()).await.expect("sent");
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer))
            .await
            .expect("an answer");
        assert!(answer.contains(&format!("for public {name},")), "{answer}");
    }
}

#[tokio::test]
async fn connections_that_come_later_see_the_new_certificate_and_the_others_go_on() {
    let (before, after) = (Authority::new(), Authority::new());
    let tls = Tls::new(server_config(&before, Ask::Nothing));
    let (house, _worker) = house(&tls, Config::default());
    let mut early = soon(connect(
        house.address,
        client_config(&before, None, b"http/1.1"),
    ))
    .await
    .expect("a connection");
    tls.replace(server_config(&after, Ask::Nothing));
    let refused = soon(connect(
        house.address,
        client_config(&before, None, b"http/1.1"),
    ))
    .await;
    refused.expect_err("not trusted by whoever trusts the one before");
    let answer = soon(call(&house, client_config(&after, None, b"http/1.1")))
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    early.write_all(CALL.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    soon(early.read_to_string(&mut answer))
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn silence_in_a_handshake_holds_up_nobody_and_is_ended() {
    let authority = Authority::new();
    let config = Config {
        threads: 1,
        header_timeout: Duration::from_millis(300),
        ..Config::default()
    };
    let (house, _worker) = house(&Tls::new(server_config(&authority, Ask::Nothing)), config);
    let mut silent = Vec::new();
    for begun in [&b""[..], &[22, 3, 1], &[22, 3, 1, 2, 0, 1, 0, 1, 252]] {
        let mut wire = Wire::to(house.address).await;
        wire.send(begun).await;
        silent.push(wire);
    }
    let answer = soon(call(&house, client_config(&authority, None, b"http/1.1")))
        .await
        .expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for mut wire in silent {
        assert_eq!(wire.read_rest().await, b"");
    }
}

#[tokio::test]
async fn a_websocket_opens_over_tls() {
    let authority = Authority::new();
    let house = House::secured(
        Tls::new(server_config(&authority, Ask::Nothing)),
        Config::default(),
    );
    let _worker = Worker::raw(&house.socket("a"), |mut stream| async move {
        crate::worker::read_head(&mut stream).await;
        let agreed =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
        stream.write_all(agreed.as_bytes()).await.expect("sent");
        let (mut reading, mut writing) = stream.split();
        tokio::io::copy(&mut reading, &mut writing)
            .await
            .expect("echoed");
    });
    house.publish_a();
    let config = client_config(&authority, None, b"http/1.1");
    let mut wire = Wire::over(
        soon(connect(house.address, config))
            .await
            .expect("a connection"),
    );
    wire.send("GET /agents/a/ws HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
    let head = wire.read_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    wire.send("ping").await;
    assert_eq!(wire.read_exactly(4).await, b"ping");
}

#[tokio::test]
async fn a_certificate_has_a_share_of_its_own_whatever_the_address() {
    let authority = Authority::new();
    let config = Config {
        per_caller: par_door::Quota {
            calls: 0,
            rate: par_door::Rate::new(1, 1),
        },
        ..Config::default()
    };
    let house = House::secured(
        Tls::new(server_config(&authority, Ask::Certificate)),
        config,
    );
    let _worker = Worker::http(&house.socket("a"), |_| async {
        Response::new(full("well"))
    });
    house.publish_a();
    for name in ["one.example", "two.example"] {
        let shown = authority.issue(|params| params.subject_alt_names = vec![dns(name)]);
        let config = client_config(&authority, Some(shown), b"http/1.1");
        let answer = soon(call(&house, config.clone())).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{name}: {answer}");
        let refused = soon(call(&house, config)).await.expect("an answer");
        assert!(refused.starts_with("HTTP/1.1 429"), "{name}: {refused}");
    }
}
