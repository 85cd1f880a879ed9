//! The first words of a TLS client, which name whom it wants to speak with. What an encrypted hello hides inside counts for
//! nothing: the name outside is what is looked at.

use par_model::network::Host;
use tokio_rustls::rustls::server::Acceptor;

/// What TLS begins with: a handshake record.
const HANDSHAKE: u8 = 22;
/// More than any client says first.
const LONGEST: usize = 32 << 10;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// They may become anything.
    More,
    /// A whole ClientHello, and whom it names.
    Hello(Option<String>),
    NotTls,
}

/// Keeps what it has heard, to be passed on.
pub(crate) struct Ear {
    acceptor: Acceptor,
    bytes: Vec<u8>,
}

impl Ear {
    pub(crate) fn new() -> Self {
        Self {
            acceptor: Acceptor::default(),
            bytes: vec![],
        }
    }

    pub(crate) fn into_heard(self) -> Vec<u8> {
        self.bytes
    }

    /// Whether it began as TLS begins.
    pub(crate) fn began_as_tls(&self) -> bool {
        self.bytes.first() == Some(&HANDSHAKE)
    }

    pub(crate) fn hear(&mut self, bytes: &[u8]) -> Heard {
        self.bytes.extend_from_slice(bytes);
        match self.bytes.first() {
            None => return Heard::More,
            Some(&HANDSHAKE) => {}
            Some(_) => return Heard::NotTls,
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.acceptor.read_tls(&mut rest) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Heard::NotTls,
            }
            match self.acceptor.accept() {
                Ok(Some(accepted)) => {
                    let named = accepted.client_hello().server_name().map(str::to_owned);
                    return Heard::Hello(named);
                }
                Ok(None) => {}
                Err(_) => return Heard::NotTls,
            }
        }
        match self.bytes.len() > LONGEST {
            true => Heard::NotTls,
            false => Heard::More,
        }
    }
}

/// Whether a client that names `named` speaks with `host`. Addresses are never named.
pub(crate) fn is_for(named: Option<&str>, host: &Host) -> bool {
    match (named, host) {
        (Some(named), Host::Name(_)) => Host::parse(named).as_ref() == Ok(host),
        (None, Host::Address(_)) => true,
        (None, Host::Name(_)) | (Some(_), Host::Address(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::Arc;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::pki_types::ServerName;
    use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};

    fn hello(name: &'static str) -> Vec<u8> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth();
        let name = ServerName::try_from(name).expect("a name");
        let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
        let mut bytes = vec![];
        client.write_tls(&mut bytes).expect("written");
        bytes
    }

    #[test]
    fn the_name_is_heard_however_the_bytes_are_cut() {
        let bytes = hello("api.example.org");
        for size in [1, 7, 100, bytes.len()] {
            let mut ear = Ear::new();
            let mut pieces = bytes.chunks(size).map(|piece| ear.hear(piece));
            let last = pieces.find(|heard| *heard != Heard::More);
            assert_eq!(last, Some(Heard::Hello(Some("api.example.org".to_owned()))));
            drop(pieces);
            assert_eq!(ear.into_heard(), bytes);
        }
    }

    #[test]
    fn who_connects_to_an_address_names_nobody() {
        assert_eq!(Ear::new().hear(&hello("192.0.2.1")), Heard::Hello(None));
        let address = Host::parse("192.0.2.1").expect("a host");
        let name = Host::parse("api.example.org").expect("a host");
        for (named, host, fits) in [
            (None, &address, true),
            (None, &name, false),
            (Some("API.example.org"), &name, true),
            (Some("evil.example.org"), &name, false),
            (Some("api.example.org"), &address, false),
        ] {
            assert_eq!(is_for(named, host), fits, "{named:?} {host}");
        }
    }

    #[test]
    fn what_is_no_hello_is_none() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"SSH-2.0-x",
            b"\x16\x03\x01\x00\x05hello",
        ] {
            assert_eq!(Ear::new().hear(bytes), Heard::NotTls, "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic_or_keep_more_than_a_hello(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..40)) {
            let mut ear = Ear::new();
            ear.hear(&[HANDSHAKE, 3, 1]);
            for piece in pieces {
                if ear.hear(&piece) != Heard::More {
                    break;
                }
                prop_assert!(ear.bytes.len() <= LONGEST);
            }
        }
    }
}
