//! Callers for whom an issuer of this test vouches: its keys are found, change, and cannot be read for a while.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use par_testkit::wait_for;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use serde_json::{Value, json};

use crate::scene::{PATIENCE, Scene};

/// What the issuer publishes: keys, or nothing that is any.
type Published = Arc<Mutex<Value>>;

struct Key(EcdsaKeyPair, &'static str);

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Key {
    fn new(id: &'static str) -> Self {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random);
        Self(key.expect("a key"), id)
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let (x, y) = (encoded(&point[1..33]), encoded(&point[33..]));
        json!({ "kty": "EC", "crv": "P-256", "kid": self.1, "x": x, "y": y })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!(
            "{}.{}",
            encoded(header.to_string()),
            encoded(claims.to_string())
        );
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes());
        format!("{signed}.{}", encoded(signature.expect("signed")))
    }

    /// For `alice`, for an hour, with these roles.
    fn vouch(&self, issuer: &str, roles: &[&str]) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970");
        let claims = json!({ "iss": issuer, "aud": "par", "sub": "alice", "exp": now.as_secs() + 3600, "groups": roles });
        self.sign(&json!({ "alg": "ES256", "kid": self.1 }), &claims)
    }
}

/// Answers on loopback until the test's process ends.
fn issuer(published: Published) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address: SocketAddr = listener.local_addr().expect("bound");
    let url = format!("http://{address}");
    let own = url.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a caller");
            let mut lines = BufReader::new(stream.try_clone().expect("cloned")).lines();
            let first = lines.next().expect("a request").expect("text");
            for line in lines {
                if line.expect("text").is_empty() {
                    break;
                }
            }
            let body = match first.contains("/.well-known/openid-configuration") {
                true => json!({ "issuer": own, "jwks_uri": format!("{own}/keys") }),
                false => published.lock().expect("whole").clone(),
            };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            // Whoever asked may have left.
            drop(stream.write_all(format!("{head}{body}").as_bytes()));
        }
    });
    url
}

#[test]
fn whom_the_issuer_vouches_for_may_call_through_a_change_of_its_keys() {
    let (first, second) = (Key::new("1"), Key::new("2"));
    let published: Published = Arc::new(Mutex::new(json!({ "keys": [first.jwk()] })));
    let url = issuer(Arc::clone(&published));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("par.toml");
    let text = format!(
        "[access]\nanonymous_loopback = false\n[access.roles]\nops = [\"admin\"]\n[access.oidc]\nissuer = \"{url}\"\naudience = \"par\"\nroles_claim = \"groups\"\nscopes = [\"read\"]\n"
    );
    std::fs::write(&config, text).expect("written");
    let scene = Scene::with(|builder| {
        builder.arguments(["--config".to_owned(), config.to_string_lossy().into_owned()])
    });
    let ask = |jwt: &str, path: &str| {
        let bearer = format!("Bearer {jwt}");
        let http = scene.http();
        let answer = http.request("GET", path, &[("authorization", &bearer)], b"");
        answer.expect("the supervisor answers").status
    };
    let (status, tokens) = ("/supervisor/status", "/supervisor/tokens");
    let alice = first.vouch(&url, &["staff"]);
    wait_for("the issuer's keys are known", PATIENCE, || {
        (ask(&alice, status) == 200).then_some(())
    });
    assert_eq!(ask(&alice, tokens), 403, "it may read and no more");
    assert_eq!(
        ask(&first.vouch(&url, &["ops"]), tokens),
        200,
        "a role that may everything"
    );
    assert_eq!(
        ask(&first.vouch("http://127.0.0.1:1", &["ops"]), tokens),
        401,
        "another issuer"
    );
    let forged = Key::new("1");
    assert_eq!(
        ask(&forged.vouch(&url, &["ops"]), tokens),
        401,
        "a key of the same name"
    );
    for algorithm in ["none", "HS256", "RS256", "EdDSA"] {
        let claims = json!({ "iss": url, "aud": "par", "sub": "mallory", "exp": 99_999_999_999_u64, "groups": ["ops"] });
        let confused = first.sign(&json!({ "alg": algorithm, "kid": "1" }), &claims);
        assert_eq!(ask(&confused, tokens), 401, "{algorithm}");
    }
    // The issuer goes over to a new key: the very first call with it is let in.
    *published.lock().expect("whole") = json!({ "keys": [second.jwk()] });
    assert_eq!(ask(&second.vouch(&url, &[]), status), 200);
    assert_eq!(
        ask(&alice, status),
        401,
        "what it has withdrawn vouches for nobody"
    );
    // It publishes nonsense for a while: what was known holds.
    *published.lock().expect("whole") = json!({ "oops": true });
    assert_eq!(ask(&Key::new("3").vouch(&url, &[]), status), 401);
    assert_eq!(ask(&second.vouch(&url, &[]), status), 200);
    let ended = scene.system.stop();
    assert!(
        ended.log.contains("those that are known hold"),
        "{}",
        ended.log
    );
}

#[test]
fn keys_that_cannot_be_read_are_an_error_at_the_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("par.toml");
    std::fs::write(folder.path().join("keys.json"), "{}").expect("written");
    for (source, words) in [
        ("jwks_file = \"nowhere.json\"", "cannot be read"),
        ("jwks_file = \"keys.json\"", "no JWKS"),
        (
            "jwks_url = \"http://issuer.example/keys\"",
            "keys come by https",
        ),
        ("jwk_file = \"keys.json\"", "is not known here"),
    ] {
        let text = format!(
            "[access.oidc]\nissuer = \"https://issuer.example\"\naudience = \"par\"\n{source}\n"
        );
        std::fs::write(&config, text).expect("written");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_par"))
            .args(["up", "--port", "0", "--config"])
            .arg(&config)
            .arg("--state")
            .arg(folder.path().join("state"))
            .output()
            .expect("the binary runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("par.toml:4:") && said.contains(words),
            "{words}: {said}"
        );
    }
}
