//! One connection of a caller that speaks HTTP/2: many calls at once, each in a task of its own, all of them over
//! before the connection is.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use par_door::Calm;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::TaskTracker;

use crate::call::call;
use crate::grpc;
use crate::headers;
use crate::refusal;
use crate::serve::Caller;
use crate::watch::{Attended, OnCall, Verdict, Watched};

/// How long a caller may take to leave once it was asked to. Calls that it began before it knew are finished.
const GOODBYE: Duration = Duration::from_secs(1);

/// Tasks of one connection, on the thread that serves it.
#[derive(Clone, Default)]
struct Calls(TaskTracker);

impl<F: Future<Output = ()> + 'static> Executor<F> for Calls {
    fn execute(&self, call: F) {
        self.0.spawn_local(call);
    }
}

/// Runs until the caller leaves or has no call for too long, or the gateway closes.
pub(crate) async fn serve<S>(stream: S, caller: Caller) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let (caller, calls) = (Rc::new(caller), Calls::default());
    let served = converse(stream, caller, calls.clone()).await;
    // Calls that are left notice that their connection is gone, and so do their agents.
    calls.0.close();
    calls.0.wait().await;
    served
}

async fn converse<S>(stream: S, caller: Rc<Caller>, calls: Calls) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let http = caller.room.http2(calls);
    let watched = Rc::clone(&caller.watched);
    let service = service_fn(move |request| {
        let on_call = caller.watched.begin_call();
        let answer = answer(Rc::clone(&caller), on_call, request);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(Calm::new(stream)), service));
    let mut goodbye = None;
    poll_fn(|cx| {
        let verdict = watched.verdict(cx);
        if verdict == Verdict::Cut {
            return Poll::Ready(Ok(()));
        }
        if verdict != Verdict::Stay && goodbye.is_none() {
            connection.as_mut().graceful_shutdown();
            goodbye = Some(Goodbye::to(&watched));
        }
        if let Poll::Ready(served) = connection.as_mut().poll(cx) {
            return Poll::Ready(served);
        }
        match &mut goodbye {
            Some(goodbye) => goodbye.poll_silent(&watched, cx).map(Ok),
            None => Poll::Pending,
        }
    })
    .await
}

/// Gives the caller time to hear that it is to leave, and to hear the rest of what it asked before.
struct Goodbye {
    timer: Pin<Box<Sleep>>,
    silence: Option<u32>,
}

impl Goodbye {
    fn to(caller: &Watched) -> Self {
        Self {
            timer: Box::pin(sleep(GOODBYE)),
            silence: caller.silence(),
        }
    }

    fn poll_silent(&mut self, caller: &Watched, cx: &mut Context<'_>) -> Poll<()> {
        while self.timer.as_mut().poll(cx).is_ready() {
            let before = std::mem::replace(&mut self.silence, caller.silence());
            if before.is_some() && before == self.silence {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(Instant::now() + GOODBYE);
        }
        Poll::Pending
    }
}

async fn answer(
    caller: Rc<Caller>,
    mut on_call: OnCall,
    mut request: Request<Incoming>,
) -> Response<Attended> {
    let (response, tally) = if grpc::is_call(&request) {
        let (response, tally) = call(&caller.room, &caller, request, &mut on_call.turns).await;
        (response, Some(tally))
    } else {
        headers::join_cookies(request.headers_mut());
        let (answered, tally) = caller.admit(request, &mut on_call.turns).await;
        (
            answered.unwrap_or_else(|error| refusal::reply(&error)),
            tally,
        )
    };
    response.map(|body| Attended::new(body, on_call, tally))
}
