//! The table `[tls]` of `par.toml`, and the flags that win over it.

use std::path::{Path, PathBuf};

use super::table::{Notes, Value};
use super::{Given, Mistake};
use crate::tls::{ClientAuth, TlsFiles};

const KNOWN: [&str; 4] = ["cert", "key", "client_ca", "client_auth"];

/// Values with the places where they were written.
#[derive(Debug, Default)]
pub(super) struct Written {
    cert: Option<(String, PathBuf)>,
    key: Option<(String, PathBuf)>,
    client_ca: Option<(String, PathBuf)>,
    client_auth: Option<(String, ClientAuth)>,
}

pub(super) fn read(value: &Value<'_>, folder: &Path, notes: &mut Notes<'_>) -> Written {
    let mut written = Written::default();
    for (key, value) in notes.table("tls", value).into_iter().flatten() {
        let place = notes.place(&value.span());
        let name = key.get_ref().as_ref();
        let path = |notes: &mut Notes<'_>| notes.path(name, value).map(|path| folder.join(path));
        match name {
            "cert" => written.cert = path(notes).map(|path| (place, path)),
            "key" => written.key = path(notes).map(|path| (place, path)),
            "client_ca" => written.client_ca = path(notes).map(|path| (place, path)),
            "client_auth" => {
                written.client_auth = client_auth(value, notes).map(|asked| (place, asked))
            }
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    written
}

fn client_auth(value: &Value<'_>, notes: &mut Notes<'_>) -> Option<ClientAuth> {
    match notes.text("client_auth", value)?.as_str() {
        "none" => Some(ClientAuth::None),
        "optional" => Some(ClientAuth::Optional),
        "required" => Some(ClientAuth::Required),
        _ => {
            let message = "`client_auth` is none, optional or required";
            notes.note(&value.span(), message);
            None
        }
    }
}

/// None without TLS. Files that cannot be used are mistakes, too.
pub(super) fn resolve(
    given: &Given,
    written: Written,
    mistakes: &mut Vec<Mistake>,
) -> Option<TlsFiles> {
    let flag = |name: &str, path: &Option<PathBuf>| {
        path.clone().map(|path| (format!("--tls-{name}"), path))
    };
    let cert = flag("cert", &given.tls_cert).or(written.cert);
    let key = flag("key", &given.tls_key).or(written.key);
    let client_ca = flag("client-ca", &given.tls_client_ca).or(written.client_ca);
    let mut lacks = |place: &str, message: &str| {
        mistakes.push(Mistake {
            place: place.to_owned(),
            message: message.to_owned(),
        });
        None
    };
    let (cert, key) = match (cert, key) {
        (Some(cert), Some(key)) => (cert, key),
        (Some((place, _)), None) => return lacks(&place, "a certificate needs its `key`"),
        (None, Some((place, _))) => return lacks(&place, "a key needs its `cert`"),
        (None, None) => {
            let alone = client_ca.map(|(place, _)| place);
            let place = alone.or_else(|| written.client_auth.map(|(place, _)| place))?;
            return lacks(&place, "TLS needs a `cert` and a `key`");
        }
    };
    let client_auth = match (&client_ca, written.client_auth) {
        (None, Some((place, ClientAuth::Optional | ClientAuth::Required))) => {
            return lacks(&place, "whose certificates? name them with `client_ca`");
        }
        (None, _) => ClientAuth::None,
        // Whoever names authorities wants certificates.
        (Some(_), None) => ClientAuth::Required,
        (Some(_), Some((_, asked))) => asked,
    };
    let files = TlsFiles {
        cert: cert.1,
        key: key.1,
        client_ca: client_ca.map(|(_, path)| path),
        client_auth,
    };
    match files.load() {
        Ok(_) => Some(files),
        Err(error) => lacks(&cert.0, &crate::chain(&error)),
    }
}
