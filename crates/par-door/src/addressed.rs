//! For which host a request is, when it says so once; and whether it may come to it.

use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue, Request, Version};
use par_model::CallError;

use crate::host::Names;

/// A target that names its host replaces the `Host` line; otherwise there is exactly one (RFC 9112, 3.2). In HTTP/2
/// the target (`:authority`) is usually all there is.
pub fn settle_host<B>(request: &mut Request<B>) -> Result<(), CallError> {
    let hosts = request.headers().get_all(HOST).iter().count();
    match (hosts, request.version()) {
        (1, _) => {}
        (0, Version::HTTP_10) => {
            let nobody = HeaderValue::from_static("localhost");
            request.headers_mut().insert(HOST, nobody);
        }
        (0, Version::HTTP_2) if request.uri().authority().is_some() => {}
        (0, _) => return Err(CallError::BadRequest("the Host header is missing".into())),
        _ => return Err(CallError::BadRequest("more than one Host header".into())),
    }
    if let Some(authority) = request.uri().authority() {
        let host = HeaderValue::try_from(authority.as_str())
            .map_err(|_| CallError::BadRequest("the target's host is not valid".into()))?;
        request.headers_mut().insert(HOST, host);
    }
    Ok(())
}

impl Names {
    /// The decision on a request whose host is settled.
    pub fn admit_request(&self, headers: &HeaderMap) -> Result<(), CallError> {
        let host = headers.get(HOST).map(HeaderValue::to_str);
        let host = host.unwrap_or(Ok("")).map_err(|_| not_text("Host"))?;
        let mut origins = headers.get_all(ORIGIN).iter();
        let origin = origins.next().map(HeaderValue::to_str).transpose();
        let origin = origin.map_err(|_| not_text("Origin"))?;
        match origins.next() {
            Some(_) => Err(CallError::BadRequest("more than one Origin header".into())),
            None => self.admit(host, origin),
        }
    }
}

fn not_text(header: &str) -> CallError {
    CallError::BadRequest(format!("the {header} header is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(version: Version, target: &str, hosts: &[&str]) -> Result<String, String> {
        let mut request = Request::get(target).version(version);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        let mut request = request.body(()).expect("a request");
        settle_host(&mut request).map_err(|error| error.to_string())?;
        let host = request.headers()[HOST].to_str().expect("text");
        Ok(host.to_owned())
    }

    #[test]
    fn a_request_is_for_one_host_and_its_target_knows_best() {
        let is = |host: &str| Ok(host.to_owned());
        let (old, usual, new) = (Version::HTTP_10, Version::HTTP_11, Version::HTTP_2);
        for (version, target, hosts, expected) in [
            (usual, "/", &["a"][..], is("a")),
            (usual, "http://b/", &["a"], is("b")),
            (usual, "http://b:9/", &["a"], is("b:9")),
            (old, "/", &[], is("localhost")),
            (new, "http://b/", &[], is("b")),
            (new, "http://b/", &["a"], is("b")),
            (
                usual,
                "/",
                &[],
                Err("the Host header is missing".to_owned()),
            ),
            (
                usual,
                "http://b/",
                &[],
                Err("the Host header is missing".to_owned()),
            ),
            (new, "/", &[], Err("the Host header is missing".to_owned())),
            (
                usual,
                "/",
                &["a", "a"],
                Err("more than one Host header".to_owned()),
            ),
        ] {
            let found = settled(version, target, hosts);
            assert_eq!(found, expected, "{version:?} {target} {hosts:?}");
        }
    }

    #[test]
    fn a_request_comes_from_one_page_at_most() {
        let mut headers = HeaderMap::new();
        headers.append(HOST, HeaderValue::from_static("localhost"));
        headers.append(ORIGIN, HeaderValue::from_static("http://localhost"));
        assert_eq!(Names::default().admit_request(&headers), Ok(()));
        headers.append(ORIGIN, HeaderValue::from_static("http://localhost"));
        assert!(Names::default().admit_request(&headers).is_err());
    }
}
