//! Lines as they are written: server-sent events, or a WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::{SinkExt as _, Stream, StreamExt as _, stream};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use par_model::api::{LogExtra, LogRecord};
use par_model::log::Level;
use tokio::time::{interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::super::refusal::ApiError;
use super::asked::Asked;
use crate::logs::{Entry, Follower, LogStore, News};

/// How often a client that is told nothing is asked whether it is there.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// For a client that takes nothing.
const LONGEST_STALL: Duration = Duration::from_secs(60);
/// Clients say nothing but goodbye.
const LARGEST_MESSAGE: usize = 4 << 10;

pub(super) async fn answer(
    logs: &Arc<LogStore>,
    asked: Asked,
    elsewhere: CancellationToken,
    mut request: Request,
) -> Result<Response, ApiError> {
    let upgrade = wants_websocket(request.headers()).then(|| hyper::upgrade::on(&mut request));
    let records = records(logs, asked).await;
    let records = Box::pin(records.take_until(elsewhere.cancelled_owned()));
    let Some(upgrade) = upgrade else {
        let events = records.map(|record| Ok::<_, Infallible>(event(&record)));
        let events = Sse::new(events).keep_alive(KeepAlive::default());
        return Ok(events.into_response());
    };
    let response = switching(request.headers())?;
    // Ends with its client, or with the gateway, which ends all connections.
    tokio::spawn(async move {
        match upgrade.await {
            Ok(upgraded) => converse(upgraded, records).await,
            Err(error) => debug!(%error, "a follower left during the handshake"),
        }
    });
    Ok(response)
}

/// What was asked for, and whatever is written from then on.
async fn records(
    logs: &Arc<LogStore>,
    asked: Asked,
) -> impl Stream<Item = LogRecord> + Send + use<> {
    let resumed = asked
        .after
        .and_then(|after| logs.resume(asked.filter.clone(), after));
    let (before, follower) = match resumed {
        Some(follower) => (vec![], follower),
        None => logs.follow(asked.filter, asked.limit).await,
    };
    let before: Vec<LogRecord> = before
        .iter()
        .map(|entry: &Arc<Entry>| entry.to_api())
        .collect();
    let trouble = logs.trouble();
    let trouble = trouble.map(|reason| remark(format!("lines are not kept on disk: {reason}")));
    let after = stream::unfold(follower, |mut follower: Follower| async move {
        let record = match follower.next().await? {
            News::Line(entry) => entry.to_api(),
            News::Missed => remark(
                "lines are missing here: they came faster than they were read, or are not kept any more"
                    .to_owned(),
            ),
        };
        Some((record, follower))
    });
    let before = stream::iter(trouble.into_iter().chain(before));
    Box::pin(before.chain(after))
}

fn event(record: &LogRecord) -> Event {
    let event = match record.id {
        Some(id) => Event::default().id(id.to_string()),
        None => Event::default(),
    };
    event.json_data(record).unwrap_or_default()
}

/// Something that no agent wrote, for whoever follows.
fn remark(message: String) -> LogRecord {
    let line = crate::logs::line_of_ours(Level::Warning, message);
    LogRecord {
        process_id: "supervisor".to_owned(),
        timestamp: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
        level: line.level,
        message: line.message,
        extra: LogExtra {
            stream: line.stream,
            replica: None,
            call: None,
        },
        id: None,
    }
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get(UPGRADE);
    upgrade.is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

fn switching(headers: &HeaderMap) -> Result<Response, ApiError> {
    let is_current = headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_some_and(|version| version == "13");
    let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_current);
    let key =
        key.ok_or_else(|| ApiError::bad_request("the WebSocket handshake is not complete"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|error| ApiError::internal(&error))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let target = response.headers_mut();
    target.insert(SEC_WEBSOCKET_ACCEPT, accept);
    target.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    target.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(response)
}

/// One message a line, until the client leaves.
async fn converse(upgraded: Upgraded, records: impl Stream<Item = LogRecord> + Unpin) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(LARGEST_MESSAGE))
        .max_frame_size(Some(LARGEST_MESSAGE));
    let io = TokioIo::new(upgraded);
    let socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await;
    let (mut sink, mut said) = socket.split();
    let mut records = records.fuse();
    let mut signs = interval(SIGN_OF_LIFE);
    loop {
        let message = tokio::select! {
            record = records.next() => match record {
                Some(record) => Message::text(serde_json::to_string(&record).unwrap_or_default()),
                None => break,
            },
            said = said.next() => match said {
                Some(Ok(Message::Close(_)) | Err(_)) | None => break,
                // Reading answers its pings.
                Some(Ok(_)) => continue,
            },
            _ = signs.tick() => Message::Ping(Bytes::new()),
        };
        if !matches!(timeout(LONGEST_STALL, sink.send(message)).await, Ok(Ok(()))) {
            return;
        }
    }
    // A client that is gone needs no goodbye.
    let _either_way = timeout(LONGEST_STALL, sink.close()).await;
}
