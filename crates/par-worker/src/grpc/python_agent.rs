//! `pixell.python_agent.PythonAgent`, the execution backend, for agents that ask for it.

use std::rc::Rc;
use std::time::UNIX_EPOCH;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use http::{Request as HttpRequest, Response};
use hyper::body::Incoming;
use par_model::{CallError, SessionId, SessionLimits, Tier};
use par_protocol::protobuf::python_agent::stream_chunk::ChunkType;
use par_protocol::protobuf::python_agent::{
    ExecuteRequest, ExecuteResponse, ExecutionMetrics, ResourceTier, RetryRequest,
    SessionStateRequest, SessionStateResponse, StreamChunk,
};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Status;

use super::reply::{Reply, refusal, status};
use super::time::{give_up, timestamp};
use super::unary::{server_streaming, unary};
use crate::admission::Memory;
use crate::http::Front;
use crate::sessions::{
    Answered, Event, LineEdit, Metrics, Outcome, Request, Sessions, Stream, map_of, time,
};

/// None when there is no such method, or this agent has no backend.
pub(super) async fn answer(
    front: &Front,
    method: &str,
    request: HttpRequest<Incoming>,
) -> Option<Response<Reply>> {
    let sessions = front.sessions()?;
    let give_up = match give_up(request.headers()) {
        Ok(give_up) => give_up,
        Err(error) => return Some(refusal(&error)),
    };
    let admission = &front.admission;
    Some(match method {
        "Execute" => {
            unary(request, admission, |asked| {
                execute(&sessions, asked, give_up)
            })
            .await
        }
        "StreamExecute" => {
            let stream = |asked| stream_execute(&sessions, asked, give_up);
            server_streaming(request, admission, stream).await
        }
        "GetSessionState" => unary(request, admission, async |asked| state(&sessions, asked)).await,
        "RetryWithPatch" => {
            unary(request, admission, |asked| retry(&sessions, asked, give_up)).await
        }
        _ => return None,
    })
}

async fn execute(
    sessions: &Rc<Sessions>,
    asked: ExecuteRequest,
    give_up: Option<Instant>,
) -> Result<ExecuteResponse, Status> {
    let events = begin(sessions, asked, give_up)?;
    Ok(response(Answered::of(events).await))
}

fn stream_execute(
    sessions: &Rc<Sessions>,
    asked: ExecuteRequest,
    give_up: Option<Instant>,
) -> Result<BoxStream<'static, Result<StreamChunk, Status>>, Status> {
    let events = begin(sessions, asked, give_up)?;
    // The memory of a result is kept until its chunk was taken.
    type Listening = (mpsc::Receiver<Event>, Option<Memory>);
    let next = async |(mut events, _taken): Listening| {
        let mut event = events.recv().await?;
        let memory = event.take_memory();
        Some((Ok(chunk(event)), (events, memory)))
    };
    Ok(stream::unfold((events, None), next).boxed())
}

fn begin(
    sessions: &Rc<Sessions>,
    asked: ExecuteRequest,
    give_up: Option<Instant>,
) -> Result<mpsc::Receiver<Event>, Status> {
    let begun = understood(asked, give_up, sessions.limits())
        .and_then(|(id, request)| sessions.execute(id, request));
    begun.map_err(|error| status(&error))
}

fn understood(
    asked: ExecuteRequest,
    give_up: Option<Instant>,
    limits: &SessionLimits,
) -> Result<(Option<SessionId>, Request), CallError> {
    let tier = tier(asked.resource_tier)?;
    let time = time(asked.timeout_seconds.into(), limits)?;
    let id = match asked.session_id.is_empty() {
        true => None,
        false => Some(session_id(asked.session_id)?),
    };
    let request = Request {
        code: asked.code,
        context: asked.context,
        files: asked.files,
        tier,
        time,
        give_up,
    };
    Ok((id, request))
}

fn tier(number: i32) -> Result<Tier, CallError> {
    match ResourceTier::try_from(number) {
        Ok(ResourceTier::Small) => Ok(Tier::Small),
        Ok(ResourceTier::Medium) => Ok(Tier::Medium),
        Ok(ResourceTier::Large) => Ok(Tier::Large),
        Err(_) => Err(CallError::BadRequest(format!(
            "resource_tier {number} is none of SMALL (0), MEDIUM (1) and LARGE (2)"
        ))),
    }
}

fn session_id(text: String) -> Result<SessionId, CallError> {
    SessionId::try_from(text).map_err(|error| CallError::BadRequest(error.to_string()))
}

fn state(sessions: &Sessions, asked: SessionStateRequest) -> Result<SessionStateResponse, Status> {
    let seen = session_id(asked.session_id).and_then(|id| sessions.look(&id));
    let (seen, variables) = seen.map_err(|error| status(&error))?;
    let seconds = |time: std::time::SystemTime| {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    };
    Ok(SessionStateResponse {
        variables,
        created_at: seconds(seen.created),
        last_accessed: seconds(seen.last_accessed),
    })
}

async fn retry(
    sessions: &Rc<Sessions>,
    asked: RetryRequest,
    give_up: Option<Instant>,
) -> Result<ExecuteResponse, Status> {
    let edits: Vec<LineEdit> = asked
        .patch
        .unwrap_or_default()
        .edits
        .into_iter()
        .map(|edit| LineEdit {
            line_number: edit.line_number,
            old_line: edit.old_line,
            new_line: edit.new_line,
        })
        .collect();
    let begun = session_id(asked.session_id).and_then(|id| sessions.retry(id, &edits, give_up));
    let events = begun.map_err(|error| status(&error))?;
    Ok(response(Answered::of(events).await))
}

fn response(answered: Answered) -> ExecuteResponse {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let outcome = answered.outcome;
    ExecuteResponse {
        success: outcome.success,
        stdout: text(answered.stdout),
        stderr: text(answered.stderr),
        error: outcome.error_with_traceback(),
        metrics: Some(metrics(&outcome.metrics)),
        stdout_truncated: outcome.stdout_truncated,
        stderr_truncated: outcome.stderr_truncated,
        results: outcome.results,
    }
}

fn metrics(metrics: &Metrics) -> ExecutionMetrics {
    ExecutionMetrics {
        execution_time_ms: i64::try_from(metrics.time.as_millis()).unwrap_or(i64::MAX),
        memory_used_bytes: i64::try_from(metrics.memory_bytes).unwrap_or(i64::MAX),
        cpu_percent: i32::try_from(metrics.cpu_percent()).unwrap_or(i32::MAX),
    }
}

fn chunk(event: Event) -> StreamChunk {
    let (kind, data) = match event {
        Event::Output(Stream::Stdout, text) => (ChunkType::Stdout, text),
        Event::Output(Stream::Stderr, text) => (ChunkType::Stderr, text),
        Event::Progress(json) => (ChunkType::Progress, json),
        Event::Ended(outcome) if outcome.success => (ChunkType::Result, map_of(&outcome.results)),
        Event::Ended(outcome) => (ChunkType::Error, error_text(&outcome)),
    };
    StreamChunk {
        r#type: kind.into(),
        data,
        timestamp: timestamp(),
    }
}

fn error_text(outcome: &Outcome) -> Bytes {
    outcome.error_with_traceback().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_in_a_request_is_refused_by_name() {
        let limits = SessionLimits::default();
        let words = |asked: ExecuteRequest| {
            let refused = understood(asked, None, &limits).map(|_| ());
            refused.expect_err("refused").to_string()
        };
        let with_tier = ExecuteRequest {
            resource_tier: 9,
            ..ExecuteRequest::default()
        };
        assert!(words(with_tier).starts_with("resource_tier 9"));
        let with_time = ExecuteRequest {
            timeout_seconds: -5,
            ..ExecuteRequest::default()
        };
        assert!(words(with_time).starts_with("timeout_seconds is -5"));
        for id in ["../x", "a\0b", &"x".repeat(10_000)] {
            let with_id = ExecuteRequest {
                session_id: id.to_owned(),
                ..ExecuteRequest::default()
            };
            assert!(words(with_id).starts_with("session id"), "{id:.20}");
        }
    }
}
