//! `/invoke` and `/exports/{name}`: one JSON value in, one JSON value or a stream of them out.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use par_model::CallError;
use par_model::headers::REQUEST_TIMEOUT;
use par_protocol::frame::{CHUNK_MORE, Frame, Kind, split_chunk};
use par_protocol::harness::{Failure, FailureKind};
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::answer;
use super::body::{AgentStream, Answer, Framing, StreamError};
use super::door::Door;
use super::naming::Naming;
use crate::admission::{Admission, Memory};
use crate::agent::Exchange;
use crate::serving::Serving;

/// Longest deadline that a caller may ask for.
const LONGEST_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Between two pieces of a body.
const LONGEST_SILENCE: Duration = Duration::from_secs(30);

/// Calls `export` (empty: invoke) with the request's body.
pub(crate) async fn call(
    serving: &Serving,
    export: &str,
    door: &Door,
    request: Request<Incoming>,
) -> Result<Response<Answer>, CallError> {
    let limit = deadline(request.headers(), serving.admission.limits().deadline)?;
    let framing = wanted_framing(request.headers());
    let hops = door.hops(request.headers());
    let naming = Naming::of(request.headers());
    let work = async {
        // The body first: who sends it slowly takes nobody's place.
        let (body, _memory) = read_body(request, &serving.admission).await?;
        let place = serving.admission.enter().await?;
        let mut exchange = begin(serving, export, &body, hops).await?;
        naming.begin(serving, &exchange);
        exchange.hold(place);
        drop(body);
        first_answer(serving, exchange, framing).await
    };
    let answered = timeout(limit, work)
        .await
        .unwrap_or(Err(CallError::DeadlineExceeded(limit)));
    // A refusal tells it too.
    Ok(naming.tell(answered.unwrap_or_else(|error| answer::refusal(&error))))
}

/// Calls `name`, whose caller may have named the call, and waits for the one value that it answers, as JSON text.
pub(crate) async fn ask(
    serving: &Serving,
    name: &str,
    body: &[u8],
    hops: u32,
    given: Option<&str>,
) -> Result<Bytes, CallError> {
    let place = serving.admission.enter().await?;
    let mut exchange = begin(serving, name, body, hops).await?;
    serving.output.names.begin(exchange.id(), given);
    exchange.hold(place);
    let frame = serving.next(&mut exchange).await?;
    exchange.finish();
    match frame.kind {
        Kind::Result => Ok(frame.body),
        Kind::Error => Err(failure(&frame.body)),
        _ => Err(CallError::Handler(
            "the agent answered out of turn".to_owned(),
        )),
    }
}

async fn begin(
    serving: &Serving,
    export: &str,
    body: &[u8],
    hops: u32,
) -> Result<Exchange, CallError> {
    serving.channel.room().await;
    let exchange = serving.channel.begin(hops);
    let length =
        u16::try_from(export.len()).map_err(|_| CallError::UnknownExport(String::new()))?;
    exchange
        .put(
            Kind::Call,
            &[&length.to_be_bytes(), export.as_bytes(), body],
        )
        .map_err(|_| CallError::BodyTooLarge {
            limit: serving.admission.limits().body,
        })?;
    Ok(exchange)
}

async fn first_answer(
    serving: &Serving,
    mut exchange: Exchange,
    framing: Option<Framing>,
) -> Result<Response<Answer>, CallError> {
    let frame = serving.next(&mut exchange).await?;
    match (frame.kind, framing) {
        (Kind::Result, _) if !frame.body.is_empty() => {
            exchange.finish();
            whole(serving, frame.body)
        }
        (Kind::Error, _) => {
            exchange.finish();
            Err(failure(&frame.body))
        }
        // A generator, which may have ended without an item.
        (Kind::Chunk | Kind::Result, Some(framing)) => Ok(stream(exchange, frame, framing)),
        (Kind::Chunk | Kind::Result, None) => collect(serving, exchange, frame).await,
        _ => Err(CallError::Handler(
            "the agent answered out of turn".to_owned(),
        )),
    }
}

fn stream(exchange: Exchange, first: Frame, framing: Framing) -> Response<Answer> {
    let stream = AgentStream::new(exchange, framing, Some(first));
    let mut response = Response::new(Answer::Streamed(Box::new(stream)));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(framing.content_type()),
    );
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// An answer that is counted for as long as its client takes to read it.
fn whole(serving: &Serving, json: Bytes) -> Result<Response<Answer>, CallError> {
    let mut memory = serving.admission.memory();
    memory.grow(json.len() as u64)?;
    Ok(answer::remembered_json(StatusCode::OK, json, Some(memory)))
}

/// All items of a generator as one JSON list.
async fn collect(
    serving: &Serving,
    mut exchange: Exchange,
    first: Frame,
) -> Result<Response<Answer>, CallError> {
    let limit = serving.admission.limits().body;
    let mut list = BytesMut::from(&b"["[..]);
    let mut within_item = false;
    let mut next = first;
    loop {
        match next.kind {
            Kind::Chunk => {
                exchange.used(next.body.len());
                let (flags, piece) = split_chunk(next.body)
                    .map_err(|error| CallError::Handler(error.to_string()))?;
                if !within_item && list.len() > 1 {
                    list.extend_from_slice(b",");
                }
                within_item = flags & CHUNK_MORE != 0;
                list.extend_from_slice(&piece);
            }
            Kind::Result => break,
            Kind::Error => {
                exchange.finish();
                return Err(failure(&next.body));
            }
            _ => {}
        }
        if list.len() as u64 > limit {
            return Err(CallError::Handler(format!(
                "the answer is larger than {limit} bytes; ask for a stream"
            )));
        }
        next = serving.next(&mut exchange).await?;
    }
    exchange.finish();
    list.extend_from_slice(b"]");
    whole(serving, list.freeze())
}

fn failure(body: &[u8]) -> CallError {
    match serde_json::from_slice::<Failure>(body) {
        Ok(failure) => call_error(failure),
        Err(error) => CallError::Handler(format!("the agent failed without words: {error}")),
    }
}

pub(crate) fn call_error(failure: Failure) -> CallError {
    match failure.kind {
        FailureKind::BadJson => CallError::BadJson(failure.detail),
        FailureKind::UnknownExport => CallError::UnknownExport(failure.detail),
        FailureKind::Cancelled => CallError::Cancelled,
        FailureKind::Load
        | FailureKind::Raised
        | FailureKind::NotJson
        | FailureKind::Unreachable => CallError::Handler(failure.detail),
    }
}

/// The whole body, if it is within its limits. Most bodies come in one piece and are not copied.
pub(super) async fn read_body(
    request: Request<Incoming>,
    admission: &Admission,
) -> Result<(Bytes, Memory), CallError> {
    let limit = admission.limits().body;
    let too_large = || CallError::BodyTooLarge { limit };
    let announced = request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large());
    }
    let mut body = request.into_body();
    let mut memory = admission.memory();
    let mut whole: Option<BytesMut> = None;
    let mut first = Bytes::new();
    while let Some(frame) = timeout(LONGEST_SILENCE, body.frame())
        .await
        .map_err(silent)?
    {
        let frame =
            frame.map_err(|error| CallError::BadRequest(format!("the body broke off: {error}")))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if first.is_empty() && whole.is_none() {
            memory.grow(data.len() as u64)?;
            first = data;
            continue;
        }
        let whole = whole.get_or_insert_with(|| BytesMut::from(&first[..]));
        whole.extend_from_slice(&data);
        if whole.len() as u64 > limit {
            return Err(too_large());
        }
        memory.grow(whole.len() as u64)?;
    }
    Ok((whole.map_or(first, BytesMut::freeze), memory))
}

fn silent(_: Elapsed) -> CallError {
    CallError::BadRequest(format!(
        "the body broke off: nothing came for {LONGEST_SILENCE:?}"
    ))
}

/// What the caller asks for with `x-request-timeout`, else the agent's own deadline.
pub(crate) fn deadline(headers: &HeaderMap, usual: Duration) -> Result<Duration, CallError> {
    let Some(value) = headers.get(REQUEST_TIMEOUT) else {
        return Ok(usual);
    };
    let seconds = value
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse::<f64>().ok());
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .filter(|limit| !limit.is_zero())
        .map(|limit| limit.min(LONGEST_DEADLINE))
        .ok_or_else(|| {
            CallError::BadRequest(format!("{REQUEST_TIMEOUT} is a number of seconds above 0"))
        })
}

/// A stream is what the caller accepts by name.
fn wanted_framing(headers: &HeaderMap) -> Option<Framing> {
    let accepted = headers.get(ACCEPT)?.to_str().ok()?;
    [Framing::Events, Framing::Lines]
        .into_iter()
        .find(|framing| accepted.contains(framing.content_type()))
}

impl From<StreamError> for CallError {
    fn from(error: StreamError) -> Self {
        Self::AgentGone(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("a valid header"));
        headers
    }

    #[test]
    fn a_caller_may_ask_for_another_deadline_within_reason() {
        let usual = Duration::from_secs(60);
        assert_eq!(deadline(&HeaderMap::new(), usual), Ok(usual));
        assert_eq!(
            deadline(&with(REQUEST_TIMEOUT, "0.5"), usual),
            Ok(Duration::from_millis(500))
        );
        assert_eq!(
            deadline(&with(REQUEST_TIMEOUT, "1e12"), usual),
            Ok(LONGEST_DEADLINE)
        );
        for nonsense in ["", "soon", "-1", "0", "NaN", "inf", "1e400"] {
            assert!(
                deadline(&with(REQUEST_TIMEOUT, nonsense), usual).is_err(),
                "{nonsense}"
            );
        }
    }

    #[test]
    fn streams_are_for_those_who_ask() {
        assert_eq!(
            wanted_framing(&with("accept", "text/event-stream")),
            Some(Framing::Events)
        );
        assert_eq!(
            wanted_framing(&with("accept", "application/x-ndjson, */*")),
            Some(Framing::Lines)
        );
        assert_eq!(wanted_framing(&with("accept", "*/*")), None);
    }
}
