//! Who may speak to the control API at all. It can start programs: a web page that happens to be open in a browser
//! on this machine must not reach it, neither across origins nor by a name that was bound to our address.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::refusal::ApiError;

pub(crate) async fn guard(own: IpAddr, request: Request, next: Next) -> Response {
    match admitted(own, request.headers()) {
        Ok(()) => next.run(request).await,
        Err(reason) => ApiError::new(StatusCode::FORBIDDEN, reason).into_response(),
    }
}

fn admitted(own: IpAddr, headers: &HeaderMap) -> Result<(), String> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(HOST).and_then(|host| host.parse::<Authority>().ok());
    // Behind an address for all interfaces we cannot know our names.
    if let Some(host) = &host
        && own.is_loopback()
        && !is_address_or_local(host.host())
    {
        return Err(format!(
            "`{host}` is not a name of this supervisor; use its address"
        ));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin_authority = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"))
        .map(|(_, authority)| authority);
    match (origin_authority, &host) {
        (Some(origin), Some(host)) if origin == host.as_str() => Ok(()),
        _ => Err("pages of other origins may not use the control API".to_owned()),
    }
}

fn is_address_or_local(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_ok()
        || bare == "localhost"
        || bare.ends_with(".localhost")
        || bare == "supervisor"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn headers(host: &str, origin: Option<&str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, host.parse().expect("a valid header"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, origin.parse().expect("a valid header"));
        }
        headers
    }

    #[test]
    fn pages_of_other_origins_and_foreign_names_stay_outside() {
        let own = IpAddr::V4(Ipv4Addr::LOCALHOST);
        for (host, origin, inside) in [
            ("127.0.0.1:8000", None, true),
            ("localhost:8000", None, true),
            ("[::1]:8000", None, true),
            ("localhost:8000", Some("http://localhost:8000"), true),
            ("localhost:8000", Some("http://evil.example"), false),
            ("localhost:8000", Some("null"), false),
            ("evil.example:8000", None, false),
            ("evil.example:8000", Some("http://evil.example:8000"), false),
        ] {
            assert_eq!(
                admitted(own, &headers(host, origin)).is_ok(),
                inside,
                "{host} {origin:?}"
            );
        }
    }
}
