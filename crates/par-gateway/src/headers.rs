//! What of a message concerns one connection only, and who we say is calling.

use std::net::IpAddr;
use std::time::Duration;

use http::header::{
    CONNECTION, COOKIE, EXPECT, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use par_model::headers::{CALLER, FORWARDED_PREFIX, HOPS, MAX_HOPS, REQUEST_TIMEOUT};
use par_model::{AgentId, CallError};

const OURS: &str = "x-par-";
const X_CALLER: HeaderName = HeaderName::from_static(CALLER);
const X_HOPS: HeaderName = HeaderName::from_static(HOPS);
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static(FORWARDED_PREFIX);
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_REQUEST_TIMEOUT: HeaderName = HeaderName::from_static(REQUEST_TIMEOUT);
const HTTP: HeaderValue = HeaderValue::from_static("http");
const HTTPS: HeaderValue = HeaderValue::from_static("https");
const TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
const UPGRADING: HeaderValue = HeaderValue::from_static("upgrade");
const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// As the channel tells, not as the request says.
#[derive(Clone, Debug)]
pub(crate) enum Identity {
    /// Anybody who reaches the public address.
    Public {
        address: HeaderValue,
        scheme: Scheme,
    },
    /// Another agent.
    Agent { name: HeaderValue },
}

/// How a caller reached us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Identity {
    pub(crate) fn public(address: IpAddr, scheme: Scheme) -> Self {
        let address = HeaderValue::try_from(address.to_canonical().to_string())
            .expect("an address is made of header value characters");
        Self::Public { address, scheme }
    }

    pub(crate) fn agent(agent: &AgentId) -> Self {
        let name = HeaderValue::try_from(agent.as_str())
            .expect("an agent id is made of header value characters");
        Self::Agent { name }
    }

    fn scheme(&self) -> Scheme {
        match self {
            Self::Public { scheme, .. } => *scheme,
            Self::Agent { .. } => Scheme::Http,
        }
    }
}

/// HTTP/2 may cut the line in pieces, which HTTP/1 cannot (RFC 9113, 8.2.3).
pub(crate) fn join_cookies(headers: &mut HeaderMap) {
    let pieces: Vec<&[u8]> = headers
        .get_all(COOKIE)
        .iter()
        .map(HeaderValue::as_bytes)
        .collect();
    if pieces.len() > 1 {
        let line = HeaderValue::try_from(pieces.join(&b"; "[..]))
            .expect("header values joined by a semicolon are one");
        headers.insert(COOKIE, line);
    }
}

/// None also for nonsense, which the worker refuses.
pub(crate) fn asked_deadline(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(X_REQUEST_TIMEOUT)?.to_str().ok()?;
    Duration::try_from_secs_f64(seconds.trim().parse().ok()?).ok()
}

/// A call that had to wait passes on what is left.
pub(crate) fn shorten_deadline(
    headers: &mut HeaderMap,
    asked: Duration,
    waited: Duration,
) -> Result<(), CallError> {
    let left = asked.saturating_sub(waited);
    if left.is_zero() {
        return Err(CallError::DeadlineExceeded(asked));
    }
    let left = HeaderValue::try_from(left.as_secs_f64().to_string())
        .expect("a number is made of header value characters");
    headers.insert(X_REQUEST_TIMEOUT, left);
    Ok(())
}

/// Only WebSocket: any other protocol would let a caller speak to the worker without us (h2c smuggling).
pub(crate) fn asks_for_websocket<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mut protocols = headers.get_all(UPGRADE).iter();
    let (Some(protocol), None) = (protocols.next(), protocols.next()) else {
        return false;
    };
    request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && protocol
            .as_bytes()
            .eq_ignore_ascii_case(WEBSOCKET.as_bytes())
        && names_in_connection(headers).any(|name| name.eq_ignore_ascii_case("upgrade"))
}

pub(crate) fn ask_for_websocket(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, UPGRADING);
    headers.insert(UPGRADE, WEBSOCKET);
}

/// Leaves what is meant for the next one in the chain too.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut doomed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| is_hop_by_hop(name))
        .cloned()
        .collect();
    if doomed.is_empty() {
        return;
    }
    let named = names_in_connection(headers).filter_map(|name| name.parse().ok());
    doomed.extend(named.filter(may_be_named_in_connection));
    let wants_trailers = accepts_trailers(headers);
    for name in doomed {
        headers.remove(name);
    }
    if wants_trailers {
        headers.insert(TE, TRAILERS);
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION
            | EXPECT // the `100 Continue` is ours to give: we read the body
            | PROXY_AUTHENTICATE
            | PROXY_AUTHORIZATION
            | TE
            | TRANSFER_ENCODING
            | UPGRADE
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// A sender may not talk us out of what frames and addresses the message.
fn may_be_named_in_connection(name: &HeaderName) -> bool {
    !matches!(name.as_str(), "host" | "content-length" | "trailer")
}

fn names_in_connection(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    tokens(headers, CONNECTION)
}

fn accepts_trailers(headers: &HeaderMap) -> bool {
    tokens(headers, TE).any(|coding| coding.eq_ignore_ascii_case("trailers"))
}

fn tokens(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = &str> {
    let lines = headers.get_all(name).into_iter();
    lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','))
        .map(str::trim)
}

/// What the request says about its caller is forgotten, except how many agents it came through, which another
/// agent's worker tells.
pub(crate) fn identify(headers: &mut HeaderMap, caller: &Identity) -> Result<(), CallError> {
    let hops = match caller {
        Identity::Public { .. } => None,
        Identity::Agent { .. } => Some(hops(headers)?),
    };
    strip_ours(headers);
    match caller {
        Identity::Public { address, .. } => append_address(headers, address),
        Identity::Agent { name } => {
            headers.insert(X_CALLER, name.clone());
        }
    }
    let scheme = match caller.scheme() {
        Scheme::Http => HTTP,
        Scheme::Https => HTTPS,
    };
    headers.insert(X_FORWARDED_PROTO, scheme);
    if let Some(hops) = hops {
        headers.insert(X_HOPS, HeaderValue::from(hops));
    }
    Ok(())
}

fn hops(headers: &HeaderMap) -> Result<u32, CallError> {
    let mut lines = headers.get_all(X_HOPS).iter();
    let hops = match (lines.next(), lines.next()) {
        (None, _) => Some(1),
        (Some(line), None) => line.to_str().ok().and_then(|count| count.parse().ok()),
        _ => None,
    };
    let hops = hops.ok_or_else(|| CallError::BadRequest(format!("`{HOPS}` is not one number")))?;
    if hops > MAX_HOPS {
        return Err(CallError::TooManyHops(MAX_HOPS));
    }
    Ok(hops)
}

fn strip_ours(headers: &mut HeaderMap) {
    let ours = |name: &&HeaderName| name.as_str().starts_with(OURS);
    let forged: Vec<HeaderName> = headers.keys().filter(ours).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
}

fn append_address(headers: &mut HeaderMap, address: &HeaderValue) {
    let earlier = headers.get_all(X_FORWARDED_FOR).iter();
    let mut chain: Vec<u8> = Vec::new();
    for hop in earlier {
        chain.extend_from_slice(hop.as_bytes());
        chain.extend_from_slice(b", ");
    }
    if chain.is_empty() {
        headers.insert(X_FORWARDED_FOR, address.clone());
        return;
    }
    chain.extend_from_slice(address.as_bytes());
    let chain = HeaderValue::try_from(chain).expect("header values joined by a comma are one");
    headers.insert(X_FORWARDED_FOR, chain);
}

/// Tells the agent under which address the caller reached it.
pub(crate) fn describe_address(headers: &mut HeaderMap, prefix: &HeaderValue) {
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_FORWARDED_PREFIX, prefix.clone());
}
