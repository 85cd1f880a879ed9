//! The agent's own paths: one HTTP request, driven through its ASGI application over frames.

use std::net::SocketAddr;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use par_model::CallError;
use par_model::headers::FORWARDED_PREFIX;
use par_protocol::frame::{Frame, Kind};
use par_protocol::harness::{Failure, HttpRequest, HttpResponse};
use tokio::task::{AbortHandle, spawn_local};
use tokio::time::timeout;

use super::answer;
use super::body::{AgentStream, Answer, Framing, latin1};
use super::call::{call_error, deadline};
use super::door::Door;
use super::naming::Naming;
use crate::agent::Exchange;
use crate::agent::exchange::ChunkSender;
use crate::serving::Serving;

/// Passes a request to the application and its answer back. The deadline bounds the time to the answer's head; what
/// streams after it lasts as long as both ends want.
pub(crate) async fn forward(
    serving: &Serving,
    door: &Door,
    request: Request<Incoming>,
) -> Result<Response<Answer>, CallError> {
    let limit = deadline(request.headers(), serving.admission.limits().deadline)?;
    let naming = Naming::of(request.headers());
    let answered = timeout(limit, answered(serving, door, request, limit, &naming))
        .await
        .unwrap_or(Err(CallError::DeadlineExceeded(limit)));
    Ok(naming.tell(answered.unwrap_or_else(|error| answer::refusal(&error))))
}

async fn answered(
    serving: &Serving,
    door: &Door,
    request: Request<Incoming>,
    limit: Duration,
    naming: &Naming,
) -> Result<Response<Answer>, CallError> {
    let place = serving.admission.enter().await?;
    let (parts, body) = request.into_parts();
    let head = head_of(&parts, door, body.is_end_stream(), false);
    let mut exchange = begin(serving, &head, door.hops(&parts.headers))?;
    naming.begin(serving, &exchange);
    exchange.hold(place);
    let upload = (!head.end).then(|| spawn_local(upload(exchange.sender(), body)).abort_handle());
    let guard = UploadGuard(upload);
    let start = start_of(serving, &mut exchange, limit).await?;
    // What streams from here on may live long; it makes room for calls.
    exchange.hold(serving.admission.stream()?);
    let stream = AgentStream::new(exchange, Framing::Raw, None).with_upload(guard.disarm());
    response(start, stream)
}

/// Asks the application for `path`; what is wrong with the answer, if it is not 2xx.
pub(crate) async fn probe(serving: &Serving, path: &str) -> Option<String> {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let head = HttpRequest {
        websocket: false,
        method: "GET".to_owned(),
        raw_path: path.to_owned(),
        query: query.to_owned(),
        root_path: String::new(),
        scheme: "http".to_owned(),
        headers: vec![("host".to_owned(), "localhost".to_owned())],
        client: None,
        server: None,
        end: true,
    };
    let status = async {
        let mut exchange = begin(serving, &head, 0)?;
        let HttpResponse::Start { status, .. } =
            start_of(serving, &mut exchange, Duration::ZERO).await?
        else {
            return Err(CallError::Handler("no answer to a request".to_owned()));
        };
        // To the end: an application whose client leaves may say so in its log.
        let stream = AgentStream::new(exchange, Framing::Raw, None);
        let _either_way_it_answered = http_body_util::Limited::new(stream, PROBED).collect().await;
        Ok(status)
    };
    match status.await {
        Ok(200..=299) => None,
        Ok(status) => Some(format!("`{path}` answered {status}")),
        Err(error) => Some(format!("`{path}` failed ({error})")),
    }
}

/// What is read of the answer to a probe, in bytes.
const PROBED: usize = 64 << 10;

pub(crate) fn begin(
    serving: &Serving,
    head: &HttpRequest,
    hops: u32,
) -> Result<Exchange, CallError> {
    let exchange = serving.channel.begin(hops);
    let json = serde_json::to_vec(head).expect("a request's head is plain JSON");
    exchange
        .put(Kind::Http, &[&json])
        .map_err(|error| CallError::BadRequest(error.to_string()))?;
    Ok(exchange)
}

/// Waits for the head of the answer.
async fn start_of(
    serving: &Serving,
    exchange: &mut Exchange,
    limit: Duration,
) -> Result<HttpResponse, CallError> {
    let frame = serving.next(exchange).await?;
    match frame.kind {
        Kind::Http => head(&frame),
        Kind::Error => {
            exchange.finish();
            let failure = serde_json::from_slice(&frame.body);
            Err(failure.map_or_else(
                |error| CallError::Handler(error.to_string()),
                |failure: Failure| call_error(failure),
            ))
        }
        _ => Err(CallError::Handler(format!(
            "the application sent a body before its head (deadline {limit:?})"
        ))),
    }
}

pub(crate) fn head(frame: &Frame) -> Result<HttpResponse, CallError> {
    serde_json::from_slice(&frame.body)
        .map_err(|error| CallError::Handler(format!("the application's head: {error}")))
}

fn response(start: HttpResponse, stream: AgentStream) -> Result<Response<Answer>, CallError> {
    let HttpResponse::Start {
        status,
        headers,
        trailers: _,
    } = start
    else {
        return Err(CallError::Handler(
            "the application spoke WebSocket to an HTTP request".to_owned(),
        ));
    };
    let status = StatusCode::from_u16(status)
        .ok()
        .filter(|status| !status.is_informational());
    let status = status.ok_or_else(|| {
        CallError::Handler("the application answered an impossible status".to_owned())
    })?;
    let mut response = Response::new(Answer::Streamed(Box::new(stream)));
    *response.status_mut() = status;
    put_headers(response.headers_mut(), headers)?;
    Ok(response)
}

/// The application's headers, without those that belong to the connection.
pub(crate) fn put_headers(
    target: &mut HeaderMap,
    headers: Vec<(String, String)>,
) -> Result<(), CallError> {
    for (name, value) in headers {
        let invalid = || {
            CallError::Handler(format!(
                "the application answered an invalid header `{}`",
                name.escape_debug()
            ))
        };
        let name = HeaderName::try_from(name.as_str()).map_err(|_| invalid())?;
        let value = HeaderValue::from_bytes(&latin1(&value)).map_err(|_| invalid())?;
        if CONNECTION_HEADERS.contains(&name.as_str()) {
            continue;
        }
        if name == CONTENT_LENGTH && target.get(&name).is_some_and(|known| *known != value) {
            return Err(CallError::Handler(
                "the application answered two lengths".to_owned(),
            ));
        }
        if name == CONTENT_LENGTH {
            target.insert(name, value);
        } else {
            target.append(name, value);
        }
    }
    Ok(())
}

const CONNECTION_HEADERS: [&str; 6] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "transfer-encoding",
    "upgrade",
    "te",
];

/// The head of a request as the application will see it.
pub(crate) fn head_of(parts: &Parts, door: &Door, end: bool, websocket: bool) -> HttpRequest {
    let text = |value: &HeaderValue| {
        value
            .as_bytes()
            .iter()
            .copied()
            .map(char::from)
            .collect::<String>()
    };
    let prefix = parts
        .headers
        .get(FORWARDED_PREFIX)
        .filter(|_| door.is_trusted());
    let scheme = parts
        .headers
        .get("x-forwarded-proto")
        .filter(|_| door.is_trusted());
    let secure = scheme.is_some_and(|scheme| scheme == "https");
    HttpRequest {
        websocket,
        method: parts.method.to_string(),
        raw_path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        root_path: prefix.map(text).unwrap_or_default(),
        scheme: match (websocket, secure) {
            (false, false) => "http",
            (false, true) => "https",
            (true, false) => "ws",
            (true, true) => "wss",
        }
        .to_owned(),
        headers: headers_of(parts, text),
        client: door.client(&parts.headers).map(pair),
        server: door.server().map(pair),
        end,
    }
}

fn headers_of(parts: &Parts, text: impl Fn(&HeaderValue) -> String) -> Vec<(String, String)> {
    let ours = |name: &HeaderName| name.as_str().starts_with("x-par-") || name == TRANSFER_ENCODING;
    // A token for the supervisor that came to the agent's own port.
    let for_us = |name: &HeaderName, value: &HeaderValue| {
        *name == AUTHORIZATION && par_access::is_our_token(value.as_bytes())
    };
    let kept = parts
        .headers
        .iter()
        .filter(|(name, value)| !ours(name) && !for_us(name, value));
    let mut headers: Vec<_> = kept
        .map(|(name, value)| (name.to_string(), text(value)))
        .collect();
    // An HTTP/1.0 request may come without; frameworks expect one.
    if parts.version == Version::HTTP_10 && !parts.headers.contains_key(http::header::HOST) {
        headers.push(("host".to_owned(), String::new()));
    }
    headers
}

fn pair(address: SocketAddr) -> (String, u16) {
    (address.ip().to_string(), address.port())
}

/// Sends the request's body as fast as the application takes it.
async fn upload(sender: ChunkSender, mut body: Incoming) {
    while let Some(frame) = body.frame().await {
        // A body that breaks off ends the connection, and that cancels the call.
        let Ok(frame) = frame else { return };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if sender.body(data, false).await.is_err() {
            return;
        }
    }
    // When the agent is gone its caller is told by the answer's side.
    let _agent_is_gone = sender.body(bytes::Bytes::new(), true).await;
}

/// Ends the upload when the call fails before its answer begins.
struct UploadGuard(Option<AbortHandle>);

impl UploadGuard {
    fn disarm(mut self) -> Option<AbortHandle> {
        self.0.take()
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        if let Some(upload) = self.0.take() {
            upload.abort();
        }
    }
}
