//! The headers of a request as the other side gets them: without what was for the proxy, with the secrets that are bound to
//! it, and with the placeholder of no other.

use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Uri};
use memchr::memmem;
use par_model::egress::BoundSecret;
use par_model::network::{Host, split_port};

use crate::refusal::Refusal;

/// Between two neighbours only.
const HOP_BY_HOP: [HeaderName; 6] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    TE,
    TRANSFER_ENCODING,
    UPGRADE,
];
const FOR_PROXIES: &str = "proxy-";

/// The `Host` of a request has to be whom it is for. `port`: the one that need not be said.
pub(crate) fn check_host(
    headers: &HeaderMap,
    host: &Host,
    port: u16,
    usual: u16,
) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(given), None) = (hosts.next(), hosts.next()) else {
        return Err(Refusal::BadRequest("a request has one Host header"));
    };
    let other = || Refusal::HostHeader { host: host.clone() };
    let given = given.to_str().map_err(|_| other())?;
    let (name, given_port) = split_port(given);
    let given_port = match given_port {
        None => usual,
        Some(text) => text.parse().map_err(|_| other())?,
    };
    match Host::parse(name) {
        Ok(named) if named == *host && given_port == port => Ok(()),
        _ => Err(other()),
    }
}

/// Takes out what was meant for the proxy alone.
pub(crate) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // What says where a body ends is not for the sender to take out.
    let named = named
        .into_iter()
        .filter(|name| *name != CONTENT_LENGTH && *name != HOST);
    let proxies = headers
        .keys()
        .filter(|name| name.as_str().starts_with(FOR_PROXIES));
    let proxies: Vec<HeaderName> = proxies.cloned().collect();
    for name in named.chain(proxies).chain(HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove(EXPECT);
}

/// Puts values where their placeholders are, and into the headers that were asked for.
pub(crate) fn put_secrets(
    secrets: &[BoundSecret],
    host: &Host,
    uri: &Uri,
    headers: &mut HeaderMap,
) -> Result<(), Refusal> {
    for secret in secrets {
        let bound = secret.hosts.iter().any(|pattern| pattern.matches(host));
        if !bound && mentions(secret, uri, headers) {
            return Err(Refusal::SecretElsewhere {
                secret: secret.name.clone(),
                host: host.clone(),
            });
        }
    }
    for secret in secrets {
        if secret.hosts.iter().any(|pattern| pattern.matches(host)) {
            replace(secret, headers)?;
            set(secret, headers)?;
        }
    }
    Ok(())
}

fn mentions(secret: &BoundSecret, uri: &Uri, headers: &HeaderMap) -> bool {
    let placeholder = secret.placeholder.as_bytes();
    let holds = |bytes: &[u8]| memmem::find(bytes, placeholder).is_some();
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    holds(path.as_bytes()) || headers.values().any(|value| holds(value.as_bytes()))
}

fn replace(secret: &BoundSecret, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let placeholder = secret.placeholder.as_bytes();
    for value in headers.values_mut() {
        if memmem::find(value.as_bytes(), placeholder).is_none() {
            continue;
        }
        let mut filled = vec![];
        let mut rest = value.as_bytes();
        while let Some(at) = memmem::find(rest, placeholder) {
            filled.extend_from_slice(&rest[..at]);
            filled.extend_from_slice(secret.value.as_bytes());
            rest = &rest[at + placeholder.len()..];
        }
        filled.extend_from_slice(rest);
        *value = sensitive(&filled)?;
    }
    Ok(())
}

fn set(secret: &BoundSecret, headers: &mut HeaderMap) -> Result<(), Refusal> {
    let Some(template) = &secret.header else {
        return Ok(());
    };
    let name: HeaderName = template.name().parse().map_err(|_| unfit())?;
    let value = sensitive(template.fill(&secret.value).as_bytes())?;
    headers.insert(name, value);
    Ok(())
}

fn sensitive(bytes: &[u8]) -> Result<HeaderValue, Refusal> {
    let mut value = HeaderValue::from_bytes(bytes).map_err(|_| unfit())?;
    value.set_sensitive(true);
    Ok(value)
}

fn unfit() -> Refusal {
    Refusal::BadRequest("a secret does not fit into a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, value.parse().expect("a value"));
        }
        headers
    }

    fn host(text: &str) -> Host {
        Host::parse(text).expect("a host")
    }

    fn secret(hosts: &[&str], header: Option<&str>) -> BoundSecret {
        BoundSecret {
            name: "KEY".parse().expect("a name"),
            value: "the-value".to_owned(),
            placeholder: "par-secret-KEY-0123".to_owned(),
            hosts: hosts.iter().map(|it| it.parse().expect("a host")).collect(),
            header: header.map(|it| it.parse().expect("a header")),
        }
    }

    #[test]
    fn a_request_names_its_host_once_and_rightly() {
        let check = |pairs: &[(&str, &str)], name: &str, port| {
            check_host(&headers(pairs), &host(name), port, 80).is_ok()
        };
        assert!(check(&[("host", "a.example.org")], "a.example.org", 80));
        assert!(check(
            &[("host", "A.Example.ORG:8080")],
            "a.example.org",
            8080
        ));
        assert!(check(&[("host", "[::1]:8080")], "[::1]", 8080));
        assert!(!check(&[], "a.example.org", 80));
        assert!(!check(&[("host", "b.example.org")], "a.example.org", 80));
        assert!(!check(&[("host", "a.example.org:81")], "a.example.org", 80));
        assert!(!check(&[("host", "a.example.org:x")], "a.example.org", 80));
        let twice = [("host", "a.example.org"), ("host", "a.example.org")];
        assert!(!check(&twice, "a.example.org", 80));
    }

    #[test]
    fn what_is_for_the_proxy_stays_with_the_proxy() {
        let mut all = headers(&[
            ("host", "a"),
            ("connection", "close, X-Hop , Host, content-length"),
            ("x-hop", "1"),
            ("content-length", "3"),
            ("proxy-authorization", "Basic x"),
            ("proxy-anything", "y"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "x"),
            ("expect", "100-continue"),
            ("x-stays", "2"),
        ]);
        strip(&mut all);
        let mut left: Vec<&str> = all.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["content-length", "host", "x-stays"]);
    }

    #[test]
    fn a_placeholder_becomes_the_value_for_hosts_that_it_is_bound_to() {
        let secrets = [secret(&["*.example.org"], None)];
        let mut all = headers(&[
            ("authorization", "Bearer par-secret-KEY-0123"),
            ("x-two", "par-secret-KEY-0123,par-secret-KEY-0123"),
        ]);
        let uri = Uri::from_static("/x");
        put_secrets(&secrets, &host("a.example.org"), &uri, &mut all).expect("bound");
        assert_eq!(all["authorization"], "Bearer the-value");
        assert!(all["authorization"].is_sensitive());
        assert_eq!(all["x-two"], "the-value,the-value");
    }

    #[test]
    fn a_placeholder_for_anybody_else_is_refused_wherever_it_stands() {
        let secrets = [secret(&["a.example.org"], Some("x-key: {}"))];
        for (path, pairs) in [
            ("/", vec![("authorization", "Bearer par-secret-KEY-0123")]),
            ("/?k=par-secret-KEY-0123", vec![]),
            ("/par-secret-KEY-0123", vec![]),
        ] {
            let mut all = headers(&pairs);
            let uri = Uri::try_from(path).expect("a path");
            let refused = put_secrets(&secrets, &host("b.example.org"), &uri, &mut all);
            assert!(
                matches!(refused, Err(Refusal::SecretElsewhere { .. })),
                "{path}"
            );
        }
        let mut none = headers(&[("x-key", "its own")]);
        let uri = Uri::from_static("/");
        put_secrets(&secrets, &host("b.example.org"), &uri, &mut none).expect("nothing of ours");
        assert_eq!(none["x-key"], "its own");
    }

    #[test]
    fn a_header_that_was_asked_for_replaces_the_agents_own() {
        let secrets = [secret(&["a.example.org"], Some("Authorization: Bearer {}"))];
        let mut all = headers(&[("authorization", "Bearer x"), ("authorization", "Basic y")]);
        let uri = Uri::from_static("/");
        put_secrets(&secrets, &host("a.example.org"), &uri, &mut all).expect("bound");
        let values: Vec<_> = all.get_all("authorization").iter().collect();
        assert_eq!(values, ["Bearer the-value"]);
    }
}
