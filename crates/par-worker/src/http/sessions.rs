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
use par_model::{CallError, SessionId, SessionLimits, Tier};
use par_protocol::session::Values;
use percent_encoding::percent_decode_str;
use serde::Deserialize;
use serde_json::{Value as Json, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::answer;
use super::body::{Answer, StreamError};
use super::call::{deadline, read_body};
use super::packed::{MOST_VALUES, count_of_json, values};
use crate::admission::{Admission, Memory};
use crate::sessions::{self, Answered, Event, Outcome, Seen, Sessions, Stream};

/// From this size on, in bytes, JSON and MessagePack are not worked on by the thread that serves everybody.
const LARGE: usize = 256 << 10;

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
        [id] => one(sessions, session_id(id)?, admission, request.method()).await,
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
    admission: &Admission,
    method: &Method,
) -> Result<Response<Answer>, CallError> {
    match *method {
        Method::GET | Method::HEAD => {
            let (seen, variables) = sessions.look(&id)?;
            let (mut shown, size) = (shown(&seen), size_of(&variables));
            let with_variables = move || {
                shown["variables"] = values(&variables);
                Bytes::from(shown.to_string())
            };
            let text = elsewhere(size, with_variables).await;
            let mut memory = admission.memory();
            memory.grow(text.len() as u64)?;
            Ok(answer::remembered_json(StatusCode::OK, text, Some(memory)))
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
    let give_up = Instant::now() + patience;
    let streams = request.headers().get(ACCEPT).is_some_and(|accepted| {
        let accepted = accepted.to_str().unwrap_or_default();
        accepted.contains("text/event-stream")
    });
    let (body, memory) = read_body(request, admission).await?;
    let limits = *sessions.limits();
    let asked = elsewhere(body.len(), move || understood(&body, &limits)).await?;
    let asked = sessions::Request {
        give_up: Some(give_up),
        ..asked
    };
    let events = sessions.execute(Some(id.clone()), asked)?;
    if streams {
        return Ok(event_stream(id, events, memory));
    }
    let answered = Answered::of(events).await;
    drop(memory);
    let size = size_of(&answered.outcome.results);
    let text = elsewhere(size, move || whole(&id, answered)).await;
    let mut memory = admission.memory();
    memory.grow(text.len() as u64)?;
    Ok(answer::remembered_json(StatusCode::OK, text, Some(memory)))
}

/// JSON of a size that takes a moment is worked on where nobody waits for this thread.
async fn elsewhere<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if bytes < LARGE {
        return work();
    }
    let worked = tokio::task::spawn_blocking(work).await;
    worked.unwrap_or_else(|failed| std::panic::resume_unwind(failed.into_panic()))
}

fn whole(id: &SessionId, answered: Answered) -> Bytes {
    let mut whole = outcome(id, &answered.outcome);
    whole["stdout"] = text(&answered.stdout).into();
    whole["stderr"] = text(&answered.stderr).into();
    whole.to_string().into()
}

fn size_of(values: &Values) -> usize {
    values.values().map(Bytes::len).sum()
}

fn understood(body: &[u8], limits: &SessionLimits) -> Result<sessions::Request, CallError> {
    if count_of_json(body) > MOST_VALUES {
        let words = format!("the body holds more than {MOST_VALUES} values");
        return Err(CallError::BadRequest(words));
    }
    // Fields by their place are nothing that a person would mean.
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(CallError::BadJson("an object is needed here".to_owned()));
    }
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
        time: sessions::time(asked.timeout_seconds, limits)?,
        tier: asked.resource_tier,
        code: asked.code,
        give_up: None,
    })
}

/// `stdout`, `stderr` and `progress` as they happen, then `result` or `error`, which is the whole answer.
fn event_stream(id: SessionId, events: mpsc::Receiver<Event>, memory: Memory) -> Response<Answer> {
    // The request is counted until the run is over.
    type Listening = (SessionId, mpsc::Receiver<Event>, Memory, Option<Memory>);
    let next = async |(id, mut events, memory, _taken): Listening| {
        let mut event = events.recv().await?;
        let of_event = event.take_memory();
        let (size, named) = (size_of_event(&event), id.clone());
        let frame = Frame::data(elsewhere(size, move || server_sent(&named, event)).await);
        Some((Ok::<_, Infallible>(frame), (id, events, memory, of_event)))
    };
    let frames = stream::unfold((id, events, memory, None), next).boxed();
    let body = StreamBody::new(frames).map_err(StreamError::from);
    let mut response = Response::new(Answer::Other(body.boxed_unsync()));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

fn size_of_event(event: &Event) -> usize {
    match event {
        Event::Ended(ended) => size_of(&ended.results),
        Event::Output(..) | Event::Progress(_) => 0,
    }
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
