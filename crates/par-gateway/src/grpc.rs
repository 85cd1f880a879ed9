//! What a gRPC call says about itself, and how we answer one that no agent answers.

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri, Version};
use http_body_util::Full;
use par_model::headers::AGENT_ID;
use par_model::{CallError, grpc};

use crate::body::ReplyBody;
use crate::path::{self, Asked};
use crate::refusal::shown;

const X_AGENT_ID: HeaderName = HeaderName::from_static(AGENT_ID);
const STATUS: HeaderName = HeaderName::from_static(grpc::STATUS);
const MESSAGE: HeaderName = HeaderName::from_static(grpc::MESSAGE);
const GRPC: HeaderValue = HeaderValue::from_static(grpc::CONTENT_TYPE);

/// Not gRPC-Web, whose name begins in the same way and which ends with a body.
pub(crate) fn is_call<B>(request: &Request<B>) -> bool {
    let Some(kind) = request.headers().get(CONTENT_TYPE) else {
        return false;
    };
    let suffix = kind.as_bytes().strip_prefix(GRPC.as_bytes());
    request.version() == Version::HTTP_2
        && request.method() == Method::POST
        && suffix.is_some_and(|suffix| matches!(suffix, [] | [b'+' | b';' | b' ', ..]))
}

/// The agent that is called, and the path that its worker is given.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Called<'a> {
    pub(crate) agent: Cow<'a, str>,
    pub(crate) method: &'a str,
}

/// The path or the metadata names the agent; both may, if they agree.
pub(crate) fn called<'a>(path: &'a str, headers: &HeaderMap) -> Result<Called<'a>, CallError> {
    let named = named_in_metadata(headers)?;
    match (path::split(path), named) {
        (Asked::Agent { id, .. }, Some(named)) if id != named => {
            Err(CallError::BadRequest(format!(
                "the path names agent {}, and `{AGENT_ID}` names {}: leave one of them out",
                shown(&id),
                shown(named)
            )))
        }
        (Asked::Agent { id, rest }, _) => Ok(Called {
            agent: id,
            method: rest,
        }),
        (Asked::Control, Some(named)) => Ok(Called {
            agent: Cow::Owned(named.to_owned()),
            method: path,
        }),
        (Asked::Control, None) => Err(CallError::BadRequest(format!(
            "no agent is named: send its id as metadata `{AGENT_ID}`, or call /agents/{{id}}/package.Service/Method"
        ))),
    }
}

fn named_in_metadata(headers: &HeaderMap) -> Result<Option<&str>, CallError> {
    let mut lines = headers.get_all(X_AGENT_ID).iter();
    let Some(line) = lines.next() else {
        return Ok(None);
    };
    let only = line.to_str().ok().filter(|_| lines.next().is_none());
    let only =
        only.ok_or_else(|| CallError::BadRequest(format!("`{AGENT_ID}` is not one agent id")));
    only.map(Some)
}

/// Where the worker is asked: its part of the path, at the host that the caller asked.
pub(crate) fn target(method: &str, uri: &Uri, headers: &HeaderMap) -> Result<Uri, CallError> {
    let invalid = || CallError::BadRequest("the path or the host is not valid".into());
    let host = headers.get(HOST).ok_or_else(invalid)?;
    let mut parts = http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::try_from(host.as_bytes()).map_err(|_| invalid())?);
    let path = Bytes::from(path::target(method, uri.query()));
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).map_err(|_| invalid())?);
    Uri::from_parts(parts).map_err(|_| invalid())
}

/// The code with which a call ends.
pub(crate) fn status(end: &HeaderMap) -> Option<u16> {
    end.get(STATUS)?.to_str().ok()?.parse().ok()
}

/// An answer that is over with its head.
pub(crate) fn refusal(error: &CallError) -> Response<ReplyBody> {
    let mut response = Response::new(ReplyBody::Words(Full::default()));
    *response.headers_mut() = trailers(error);
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// The end of an answer that has begun.
pub(crate) fn trailers(error: &CallError) -> HeaderMap {
    let (_, code) = error.on_the_wire();
    let message = HeaderValue::try_from(grpc::encode_message(&error.to_string()))
        .expect("an encoded message is made of header value characters");
    HeaderMap::from_iter([(STATUS, HeaderValue::from(code)), (MESSAGE, message)])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(content_type: &str) -> bool {
        let request = Request::post("/x")
            .version(Version::HTTP_2)
            .header(CONTENT_TYPE, content_type);
        is_call(&request.body(()).expect("a request"))
    }

    fn metadata(ids: &[&str]) -> HeaderMap {
        let ids = ids.iter().map(|id| HeaderValue::from_str(id));
        ids.map(|id| (X_AGENT_ID, id.expect("a header value")))
            .collect()
    }

    #[test]
    fn a_call_is_told_by_its_content_type() {
        for yes in [
            "application/grpc",
            "application/grpc+proto",
            "application/grpc;x=y",
        ] {
            assert!(call(yes), "{yes}");
        }
        for no in [
            "application/grpc-web",
            "application/grpcx",
            "application/json",
            "",
        ] {
            assert!(!call(no), "{no}");
        }
    }

    #[test]
    fn the_path_or_the_metadata_names_the_agent() {
        let named = called("/p.S/M", &metadata(&["a"]))
            .map(|called| (called.agent.into_owned(), called.method.to_owned()));
        assert_eq!(named, Ok(("a".to_owned(), "/p.S/M".to_owned())));
        for ids in [&[][..], &["a"]] {
            let headers = metadata(ids);
            let asked = called("/agents/%61/p.S/M", &headers).expect("an agent");
            assert_eq!((&*asked.agent, asked.method), ("a", "/p.S/M"));
        }
    }

    #[test]
    fn a_call_that_names_no_agent_or_two_is_refused_with_what_to_do() {
        for (path, ids, words) in [
            ("/p.S/M", &[][..], "send its id as metadata `x-agent-id`"),
            ("/agents/a/p.S/M", &["b"], "leave one of them out"),
            ("/p.S/M", &["a", "a"], "not one agent id"),
        ] {
            let refused = called(path, &metadata(ids)).expect_err("refused");
            assert!(refused.to_string().contains(words), "{refused}");
            assert_eq!(refused.on_the_wire().1, 3);
        }
    }
}
