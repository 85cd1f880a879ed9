//! One gRPC call: from its route to the beginning of its answer.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::header::HOST;
use http::request::Parts;
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use par_access::Action;
use par_model::CallError;
use par_telemetry::metrics::Tally;
use tokio::task::spawn_local;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::backend::InFlight;
use crate::body::ReplyBody;
use crate::call_body::{CallBody, Underway};
use crate::deadline::{Deadline, Timer};
use crate::forward::{connect, gone};
use crate::grpc::{self, Called};
use crate::headers;
use crate::hold::Hold;
use crate::idle;
use crate::ledger::Turns;
use crate::pump::Pump;
use crate::room::Room;
use crate::serve::Caller;
use crate::session::SessionKey;
use crate::session_peek;
use crate::trunk::{Seat, Trunk};

/// The agent's answer, or our word on why there is none; and where the call counts.
pub(crate) async fn call(
    room: &Room,
    caller: &Caller,
    request: Request<Incoming>,
    turns: &mut Turns,
) -> (Response<ReplyBody>, Tally) {
    let uri = request.uri().clone();
    let called = grpc::called(uri.path(), request.headers());
    let agent = called.as_ref().ok().map(|called| &*called.agent);
    let mut tally = room.routes.count_grpc(agent);
    let answered = match called {
        Ok(called) => answer(room, caller, &called, request, turns).await,
        Err(error) => Err(error),
    };
    let response = answered.unwrap_or_else(|error| grpc::refusal(&error));
    // If the head is all there is, it says how the call went.
    if let Some(code) = grpc::status(response.headers()) {
        tally.ends_with(code);
    }
    (response, tally)
}

async fn answer(
    room: &Room,
    caller: &Caller,
    called: &Called<'_>,
    mut request: Request<Incoming>,
    turns: &mut Turns,
) -> Result<Response<ReplyBody>, CallError> {
    let action = Action::Call(&called.agent);
    caller.check(&mut request, turns)?;
    let uri = request.uri().clone();
    let headers = request.headers_mut();
    caller
        .let_pass(action, &Method::POST, &uri, headers)
        .await?;
    let deadline = Deadline::asked(request.headers())?;
    if let Some(answer) = idle::grpc_health(room, &called.agent, called.method) {
        return Ok(answer);
    }
    let account = || room.routes.account_of(&called.agent);
    room.ledger.admit_to(account, turns)?;
    *request.uri_mut() = grpc::target(called.method, &uri, request.headers())?;
    *request.version_mut() = Version::HTTP_2;
    headers::strip_hop_by_hop(request.headers_mut());
    headers::identify(request.headers_mut(), &caller.identity)?;
    let mut timer = deadline.map(Deadline::timer);
    let begun = begin(room, called, request, deadline);
    let (response, underway) = within(&mut timer, begun).await?;
    Ok(response.map(|answer| {
        let body = CallBody::new(answer, underway, timer);
        ReplyBody::Call(Box::new(body))
    }))
}

/// Sends the call on once there is a worker for it, and waits for the head of the answer.
async fn begin(
    room: &Room,
    called: &Called<'_>,
    request: Request<Incoming>,
    deadline: Option<Deadline>,
) -> Result<(Response<RecvStream>, Underway), CallError> {
    let (mut head, mut body) = request.into_parts();
    let (session, first) = match SessionKey::in_headers(&head.headers) {
        Some(session) => (Some(session), None),
        None => session_peek::session(called.method, &head.headers, &mut body).await?,
    };
    let (seat, in_flight) = find_seat(room, called, session, &mut head).await?;
    head.headers.remove(HOST); // the target says it
    if let Some(deadline) = deadline {
        deadline.pass_on(&mut head.headers)?;
    }
    let is_all = first.is_none() && body.is_end_stream();
    let sent = seat.send(Request::from_parts(head, ()), is_all);
    let (response, sending) = sent.map_err(|error| unanswered(called, &error))?;
    let upload = if is_all {
        None
    } else {
        upload(first, body, sending).await
    };
    let response = response.await.map_err(|error| unanswered(called, &error))?;
    let underway = Underway {
        _upload: upload,
        _seat: seat,
        _in_flight: in_flight,
    };
    Ok((response, underway))
}

/// Nothing was sent before this returns, so that it may try as often as the call may wait.
async fn find_seat(
    room: &Room,
    called: &Called<'_>,
    session: Option<SessionKey>,
    head: &mut Parts,
) -> Result<(Seat, InFlight), CallError> {
    let mut hold = Hold::of_call(room, &called.agent, called.method).of_session(session);
    loop {
        let in_flight = hold.ready().await?;
        let backend = Arc::clone(in_flight.backend());
        let pool = room.pools.of(&backend);
        let trunk = Trunk::open(backend.socket(), room.config.max_header_bytes);
        let trunk = connect(room, &called.agent, &backend, trunk);
        if let Some(seat) = pool.trunks.seat(trunk).await? {
            hold.reached(&in_flight);
            headers::describe_address(&mut head.headers, backend.prefix());
            return Ok((seat, in_flight));
        }
        drop(in_flight);
        hold.missed(backend.replica()).await?;
    }
}

/// What is there already is sent at once, which is all of most calls.
async fn upload(
    first: Option<Bytes>,
    body: Incoming,
    sending: SendStream<Bytes>,
) -> Option<AbortOnDropHandle<()>> {
    let mut pump = Pump::new(first, body, sending);
    let sent = poll_fn(|cx| Poll::Ready(Pin::new(&mut pump).poll(cx))).await;
    sent.is_pending()
        .then(|| AbortOnDropHandle::new(spawn_local(pump)))
}

fn unanswered(called: &Called<'_>, error: &h2::Error) -> CallError {
    debug!(agent = %called.agent, %error, "call broken");
    gone("its connection closed before an answer")
}

async fn within<T>(
    timer: &mut Option<Timer>,
    work: impl Future<Output = Result<T, CallError>>,
) -> Result<T, CallError> {
    let mut work = pin!(work);
    poll_fn(|cx| {
        if let Poll::Ready(done) = work.as_mut().poll(cx) {
            return Poll::Ready(done);
        }
        match timer {
            Some(timer) => timer.poll_exceeded(cx).map(Err),
            None => Poll::Pending,
        }
    })
    .await
}
