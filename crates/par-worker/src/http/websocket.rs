//! A WebSocket between a client and the agent's ASGI application.

use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use par_model::CallError;
use par_protocol::frame::{CHUNK_MORE, CHUNK_TEXT, Kind, split_chunk};
use par_protocol::harness::{Disconnect, HttpResponse};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::{Error, ProtocolError};
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::answer;
use super::asgi::{begin, head, head_of, put_headers};
use super::body::Answer;
use super::call::deadline;
use super::door::Door;
use super::naming::Naming;
use crate::agent::Exchange;
use crate::agent::exchange::ChunkSender;
use crate::serving::Serving;

/// The largest message, either way, in bytes.
const LARGEST_MESSAGE: usize = 16 << 20;

/// Whether a request asks to become a WebSocket.
pub(crate) fn is_asked_for(headers: &HeaderMap) -> bool {
    headers
        .get(UPGRADE)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
        && headers.contains_key(SEC_WEBSOCKET_KEY)
}

/// Lets the application accept or refuse; what follows an acceptance runs on its own until either side is gone.
pub(crate) async fn open(
    serving: &Serving,
    door: &Door,
    mut request: Request<Incoming>,
) -> Result<Response<Answer>, CallError> {
    let limit = deadline(request.headers(), serving.admission.limits().deadline)?;
    let upgraded = hyper::upgrade::on(&mut request);
    let (parts, _no_body) = request.into_parts();
    let naming = Naming::of(&parts.headers);
    let offered = async {
        let place = serving.admission.enter().await?;
        let head = head_of(&parts, door, true, true);
        let mut exchange = begin(serving, &head, door.hops(&parts.headers))?;
        naming.begin(serving, &exchange);
        exchange.hold(place);
        verdict(serving, exchange).await
    };
    let (answered, mut exchange) = timeout(limit, offered)
        .await
        .unwrap_or(Err(CallError::DeadlineExceeded(limit)))?;
    match answered {
        HttpResponse::Accept {
            subprotocol,
            headers,
        } => {
            let response = accepted(&parts, subprotocol, headers)?;
            exchange.hold(serving.admission.stream()?);
            tokio::task::spawn_local(async move {
                // A client that leaves during the handshake cancels the call by dropping it.
                if let Ok(upgraded) = upgraded.await {
                    let config = WebSocketConfig::default()
                        .max_message_size(Some(LARGEST_MESSAGE))
                        .max_frame_size(Some(LARGEST_MESSAGE));
                    let socket = WebSocketStream::from_raw_socket(
                        TokioIo::new(upgraded),
                        Role::Server,
                        Some(config),
                    );
                    converse(socket.await, exchange).await;
                }
            });
            Ok(naming.tell(response))
        }
        HttpResponse::Close { .. } => Ok(answer::empty(StatusCode::FORBIDDEN)),
        HttpResponse::Start {
            status, headers, ..
        } => {
            let mut response =
                answer::empty(StatusCode::from_u16(status).unwrap_or(StatusCode::FORBIDDEN));
            put_headers(response.headers_mut(), headers)?;
            Ok(response)
        }
    }
}

async fn verdict(
    serving: &Serving,
    mut exchange: Exchange,
) -> Result<(HttpResponse, Exchange), CallError> {
    let frame = serving.next(&mut exchange).await?;
    if frame.kind == Kind::Http {
        return Ok((head(&frame)?, exchange));
    }
    exchange.finish();
    Err(CallError::Handler(
        "the application failed before it accepted the WebSocket".to_owned(),
    ))
}

fn accepted(
    parts: &Parts,
    subprotocol: Option<String>,
    headers: Vec<(String, String)>,
) -> Result<Response<Answer>, CallError> {
    let key = parts
        .headers
        .get(SEC_WEBSOCKET_KEY)
        .map(HeaderValue::as_bytes)
        .unwrap_or_default();
    let mut response = answer::empty(StatusCode::SWITCHING_PROTOCOLS);
    let target = response.headers_mut();
    put_headers(target, headers)?;
    let invalid = |_| CallError::Handler("the application chose an invalid subprotocol".to_owned());
    target.insert(
        SEC_WEBSOCKET_ACCEPT,
        HeaderValue::try_from(derive_accept_key(key)).map_err(invalid)?,
    );
    target.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    target.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Some(subprotocol) = subprotocol {
        target.insert(
            SEC_WEBSOCKET_PROTOCOL,
            HeaderValue::try_from(subprotocol).map_err(invalid)?,
        );
    }
    Ok(response)
}

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;
type Sink = SplitSink<Socket, Message>;

/// Both directions run side by side: neither waits for the other, or two full windows could wait for ever.
async fn converse(socket: Socket, mut exchange: Exchange) {
    let (mut sink, stream) = socket.split();
    let sender = exchange.sender();
    let parting = tokio::select! {
        parting = incoming(stream, sender) => parting,
        goodbye = outgoing(&mut sink, &mut exchange) => match goodbye {
            Some(goodbye) => return say(&mut sink, goodbye).await,
            None => Parting::Left(ABNORMAL),
        },
    };
    let disconnect = match parting {
        Parting::Left(disconnect) => {
            // A close frame is answered by closing our side.
            let _either_way = timeout(CLEANING_UP, sink.close()).await;
            disconnect
        }
        Parting::Refused(code) => {
            say(&mut sink, farewell(code, "the message was refused")).await;
            Disconnect {
                code: code.into(),
                reason: String::new(),
            }
        }
        Parting::AgentGone => {
            return say(&mut sink, farewell(CloseCode::Error, "the agent ended")).await;
        }
    };
    let json = serde_json::to_vec(&disconnect).expect("a parting is plain JSON");
    if exchange.put(Kind::Http, &[&json]).is_ok() {
        // The application has a while to clean up; then it is cancelled.
        let _ended_or_late = timeout(CLEANING_UP, last_word(&mut exchange)).await;
    }
}

/// Why nothing more comes from the client.
enum Parting {
    Left(Disconnect),
    /// What it sent breaks a rule; the code says which.
    Refused(CloseCode),
    AgentGone,
}

/// The client is gone without a close frame.
const ABNORMAL: Disconnect = Disconnect {
    code: 1006,
    reason: String::new(),
};
const CLEANING_UP: Duration = Duration::from_secs(5);

/// Passes the client's messages on until it leaves.
async fn incoming(mut stream: SplitStream<Socket>, sender: ChunkSender) -> Parting {
    while let Some(message) = stream.next().await {
        let sent = match message {
            Ok(Message::Text(text)) => sender.message(Bytes::from(text), true).await,
            Ok(Message::Binary(bytes)) => sender.message(bytes, false).await,
            Ok(Message::Close(frame)) => return Parting::Left(parting_words(frame)),
            Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => Ok(()),
            Err(Error::Capacity(_)) => return Parting::Refused(CloseCode::Size),
            Err(Error::Utf8(_)) => return Parting::Refused(CloseCode::Invalid),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => break,
            Err(Error::Protocol(_)) => return Parting::Refused(CloseCode::Protocol),
            Err(_) => break,
        };
        if sent.is_err() {
            return Parting::AgentGone;
        }
    }
    Parting::Left(ABNORMAL)
}

/// Passes the application's messages on until it ends; `None` when the client is gone.
async fn outgoing(sink: &mut Sink, exchange: &mut Exchange) -> Option<CloseFrame> {
    let mut message = vec![];
    while let Ok(frame) = exchange.next().await {
        match frame.kind {
            Kind::Chunk => {
                exchange.used(frame.body.len());
                relay(sink, &mut message, frame.body).await.ok()?;
            }
            Kind::Http => {
                exchange.finish();
                let Ok(HttpResponse::Close { code, reason }) = head(&frame) else {
                    break;
                };
                return Some(farewell(code.into(), &reason));
            }
            Kind::Result => {
                exchange.finish();
                return Some(farewell(CloseCode::Normal, ""));
            }
            Kind::Error => {
                exchange.finish();
                break;
            }
            _ => {}
        }
    }
    Some(farewell(CloseCode::Error, "the application failed"))
}

async fn last_word(exchange: &mut Exchange) {
    while let Ok(frame) = exchange.next().await {
        if matches!(frame.kind, Kind::Result | Kind::Error) {
            exchange.finish();
            return;
        }
    }
}

/// Puts the pieces of a message together and sends it once it is whole.
async fn relay(sink: &mut Sink, message: &mut Vec<u8>, body: Bytes) -> Result<(), ()> {
    let (flags, piece) = split_chunk(body).map_err(drop)?;
    if message.len() + piece.len() > LARGEST_MESSAGE {
        return Err(());
    }
    message.extend_from_slice(&piece);
    if flags & CHUNK_MORE != 0 {
        return Ok(());
    }
    let whole = Bytes::from(std::mem::take(message));
    let message = if flags & CHUNK_TEXT != 0 {
        Message::Text(Utf8Bytes::try_from(whole).map_err(drop)?)
    } else {
        Message::Binary(whole)
    };
    sink.send(message).await.map_err(drop)
}

fn parting_words(frame: Option<CloseFrame>) -> Disconnect {
    frame.map_or(
        Disconnect {
            code: 1005,
            reason: String::new(),
        },
        |frame| Disconnect {
            code: frame.code.into(),
            reason: frame.reason.to_string(),
        },
    )
}

fn farewell(code: CloseCode, reason: &str) -> CloseFrame {
    let end = (0..=LONGEST_REASON.min(reason.len()))
        .rev()
        .find(|&end| reason.is_char_boundary(end));
    CloseFrame {
        code,
        reason: reason[..end.unwrap_or(0)].into(),
    }
}

/// What fits into a close frame beside its code, in bytes.
const LONGEST_REASON: usize = 123;

async fn say(sink: &mut Sink, goodbye: CloseFrame) {
    // The client may be gone already.
    let _either_way = sink.send(Message::Close(Some(goodbye))).await;
    let _either_way = sink.close().await;
}
