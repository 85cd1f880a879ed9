//! The execution backend over HTTP: `/sessions`, `/sessions/{session}` and `/sessions/{session}/execute`.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use par_model::{CallError, SessionId, Tier};
use par_protocol::session::Values;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;

use super::answer;
use super::body::{Answer, StreamError};
use super::call::{deadline, read_body};
use crate::admission::Admission;
use crate::sessions::{self, Answered, Event, Outcome, Seen, Sessions, Stream};

/// What `POST …/execute` takes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    code: String,
    #[serde(default)]
    context: BTreeMap<String, Json>,
    /// Each in base64.
    #[serde(default)]
    files: Vec<String>,
    #[serde(default)]
    resource_tier: Tier,
    /// 0: the usual time.
    #[serde(default)]
    timeout_seconds: f64,
}

pub(crate) async fn answer(
    sessions: &Rc<Sessions>,
    admission: &Admission,
    request: Request<Incoming>,
) -> Result<Response<Answer>, CallError> {
    let path = request.uri().path().to_owned();
    let below: Vec<&str> = path.trim_matches('/').split('/').skip(1).collect();
    match below[..] {
        [] => match *request.method() {
            Method::GET | Method::HEAD => Ok(list(sessions)),
            _ => Ok(answer::wrong_method("GET, HEAD")),
        },
        [id] => one(sessions, session_id(id)?, request.method()).await,
        [id, "execute"] => match *request.method() {
            Method::POST => execute(sessions, session_id(id)?, admission, request).await,
            _ => Ok(answer::wrong_method("POST")),
        },
        _ => Err(CallError::UnknownPath),
    }
}

fn session_id(segment: &str) -> Result<SessionId, CallError> {
    let text = percent_decode_str(segment).decode_utf8_lossy().into_owned();
    SessionId::try_from(text).map_err(|error| CallError::BadRequest(error.to_string()))
}

fn list(sessions: &Sessions) -> Response<Answer> {
    let all: Vec<Json> = sessions.list().iter().map(shown).collect();
    let count = all.len();
    answer::json(StatusCode::OK, &json!({ "sessions": all, "count": count }))
}

async fn one(
    sessions: &Sessions,
    id: SessionId,
    method: &Method,
) -> Result<Response<Answer>, CallError> {
    match *method {
        Method::GET | Method::HEAD => {
            let (seen, variables) = sessions.look(&id)?;
            let mut shown = shown(&seen);
            shown["variables"] = values(&variables);
            Ok(answer::json(StatusCode::OK, &shown))
        }
        Method::DELETE => {
            sessions.close(&id).await?;
            let done = json!({ "status": "success" });
            Ok(answer::json(StatusCode::OK, &done))
        }
        _ => Ok(answer::wrong_method("GET, HEAD, DELETE")),
    }
}

async fn execute(
    sessions: &Rc<Sessions>,
    id: SessionId,
    admission: &Admission,
    request: Request<Incoming>,
) -> Result<Response<Answer>, CallError> {
    let patience = deadline(request.headers(), sessions.limits().longest_time)?;
    let streams = request.headers().get(ACCEPT).is_some_and(|accepted| {
        let accepted = accepted.to_str().unwrap_or_default();
        accepted.contains("text/event-stream")
    });
    let (body, memory) = read_body(request, admission).await?;
    let mut asked = understood(&body, sessions)?;
    drop((body, memory));
    asked.time = asked.time.min(patience);
    let events = sessions.execute(Some(id.clone()), asked)?;
    if streams {
        return Ok(event_stream(id, events));
    }
    let answered = Answered::of(events).await;
    let mut whole = outcome(&id, &answered.outcome);
    whole["stdout"] = text(&answered.stdout).into();
    whole["stderr"] = text(&answered.stderr).into();
    Ok(answer::json(StatusCode::OK, &whole))
}

fn understood(body: &[u8], sessions: &Sessions) -> Result<sessions::Request, CallError> {
    let asked: Asked =
        serde_json::from_slice(body).map_err(|error| CallError::BadJson(error.to_string()))?;
    let context = asked.context.iter().map(|(name, value)| {
        let packed = rmp_serde::to_vec(value);
        let packed =
            packed.map_err(|error| CallError::BadRequest(format!("context `{name}`: {error}")))?;
        Ok((name.clone(), packed.into()))
    });
    let files = asked.files.iter().enumerate().map(|(number, text)| {
        let decoded = BASE64_STANDARD.decode(text).map(Bytes::from);
        decoded.map_err(|error| {
            CallError::BadRequest(format!("files[{number}] is not base64: {error}"))
        })
    });
    Ok(sessions::Request {
        context: context.collect::<Result<Values, CallError>>()?,
        files: files.collect::<Result<Vec<Bytes>, CallError>>()?,
        time: sessions::time(asked.timeout_seconds, sessions.limits())?,
        tier: asked.resource_tier,
        code: asked.code,
    })
}

/// `stdout`, `stderr` and `progress` as they happen, then `result` or `error`, which is the whole answer.
fn event_stream(id: SessionId, events: mpsc::Receiver<Event>) -> Response<Answer> {
    let next = async |(id, mut events): (SessionId, mpsc::Receiver<Event>)| {
        let event = events.recv().await?;
        let frame = Frame::data(server_sent(&id, event));
        Some((Ok::<_, Infallible>(frame), (id, events)))
    };
    let frames = stream::unfold((id, events), next).boxed();
    let body = StreamBody::new(frames).map_err(StreamError::from);
    let mut response = Response::new(Answer::Other(body.boxed_unsync()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn server_sent(id: &SessionId, event: Event) -> Bytes {
    let (name, data) = match event {
        Event::Output(Stream::Stdout, piece) => ("stdout", json!({ "text": text(&piece) })),
        Event::Output(Stream::Stderr, piece) => ("stderr", json!({ "text": text(&piece) })),
        Event::Progress(words) => ("progress", progress(&words)),
        Event::Ended(ended) if ended.success => ("result", outcome(id, &ended)),
        Event::Ended(ended) => ("error", outcome(id, &ended)),
    };
    format!("event: {name}\ndata: {data}\n\n").into()
}

/// What the code's process says may be no JSON at all.
fn progress(words: &[u8]) -> Json {
    serde_json::from_slice(words)
        .unwrap_or_else(|_| json!({ "value": null, "message": text(words) }))
}

fn outcome(id: &SessionId, outcome: &Outcome) -> Json {
    let unless_empty = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    json!({
        "session_id": id,
        "success": outcome.success,
        "results": values(&outcome.results),
        "opaque": outcome.opaque,
        "failure": outcome.failure,
        "error": unless_empty(&outcome.error),
        "traceback": unless_empty(&outcome.traceback),
        "changed": outcome.changed,
        "stdout_truncated": outcome.stdout_truncated,
        "stderr_truncated": outcome.stderr_truncated,
        "metrics": {
            "execution_time_ms": outcome.metrics.time.as_secs_f64() * 1000.0,
            "memory_used_bytes": outcome.metrics.memory_bytes,
            "cpu_percent": outcome.metrics.cpu_percent(),
        },
    })
}

fn shown(seen: &Seen) -> Json {
    json!({
        "session_id": seen.id,
        "state": if seen.busy { "running" } else { "idle" },
        "resource_tier": seen.tier,
        "created_at": seconds(seen.created),
        "last_accessed": seconds(seen.last_accessed),
        "runs": seen.runs,
    })
}

fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_secs_f64()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn values(values: &Values) -> Json {
    let shown = values
        .iter()
        .map(|(name, packed)| (name.clone(), unpacked(packed)));
    Json::Object(shown.collect())
}

/// The deepest value that is shown as JSON.
const DEEPEST: usize = 100;

/// MessagePack as JSON, as far as JSON reaches: bytes become `{"base64": …}`, NaN and infinity text.
fn unpacked(packed: &[u8]) -> Json {
    match rmpv::decode::read_value_with_max_depth(&mut &packed[..], DEEPEST) {
        Ok(value) => as_json(value),
        Err(error) => json!({ "unreadable": error.to_string() }),
    }
}

fn as_json(value: rmpv::Value) -> Json {
    use rmpv::Value;
    match value {
        Value::Nil => Json::Null,
        Value::Boolean(value) => value.into(),
        Value::Integer(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => number.into(),
            (None, number) => number.into(),
        },
        Value::F32(number) => float(number.into()),
        Value::F64(number) => float(number),
        Value::String(text) => String::from_utf8_lossy(text.as_bytes()).into(),
        Value::Binary(bytes) | Value::Ext(_, bytes) => {
            json!({ "base64": BASE64_STANDARD.encode(bytes) })
        }
        Value::Array(items) => items.into_iter().map(as_json).collect(),
        Value::Map(pairs) => {
            let pairs = pairs
                .into_iter()
                .map(|(key, value)| (as_key(key), as_json(value)));
            Json::Object(pairs.collect())
        }
    }
}

fn as_key(key: rmpv::Value) -> String {
    match as_json(key) {
        Json::String(text) => text,
        other => other.to_string(),
    }
}

fn float(number: f64) -> Json {
    match serde_json::Number::from_f64(number) {
        Some(number) => Json::Number(number),
        None => number.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_json_cannot_say_is_said_in_words() {
        let packed = |value: rmpv::Value| {
            let mut packed = vec![];
            rmpv::encode::write_value(&mut packed, &value).expect("memory");
            unpacked(&packed)
        };
        assert_eq!(
            packed(rmpv::Value::Binary(b"hi".to_vec())),
            json!({"base64": "aGk="})
        );
        assert_eq!(packed(f64::NAN.into()), json!("NaN"));
        assert_eq!(packed(u64::MAX.into()), json!(u64::MAX));
        let map = rmpv::Value::Map(vec![(1.into(), true.into())]);
        assert_eq!(packed(map), json!({"1": true}));
        assert!(unpacked(b"\x92\x01")["unreadable"].is_string());
    }

    proptest! {
        #[test]
        fn no_bytes_of_a_session_make_it_panic(bytes: Vec<u8>) {
            let _shown_somehow = unpacked(&bytes);
            let _shown_somehow = progress(&bytes);
        }

        #[test]
        fn json_comes_back_as_it_went_in(number in any::<i64>(), word in ".{0,20}") {
            let value = json!({"n": number, "list": [word, null, true, 0.5]});
            let packed = rmp_serde::to_vec(&value).expect("JSON can be packed");
            prop_assert_eq!(unpacked(&packed), value);
        }
    }
}
