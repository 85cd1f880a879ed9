//! Health of an agent that sleeps: it is well, and whoever asks does not wake it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::Full;
use par_model::{CallError, grpc};
use tokio::sync::watch;

use crate::body::{BoxError, ReplyBody};
use crate::grpc::trailers;
use crate::room::Room;
use crate::routes::{Route, Routes};

const HEALTH: &str = "/health";
const GRPC_HEALTH: &str = "/grpc.health.v1.Health/";
const WATCH: &str = "/grpc.health.v1.Health/Watch";
const CHECK: &str = "/grpc.health.v1.Health/Check";

/// `HealthCheckResponse { status: SERVING }`, as gRPC frames it.
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 0x08, 1];

/// The worker's figures.
const METRICS: &str = "/.par/metrics";

/// Asked by those who watch: never held, and never a reason to wake an agent.
pub(crate) fn is_watching(path: &str) -> bool {
    path == HEALTH || path == METRICS || path.starts_with(GRPC_HEALTH)
}

/// The answer for a sleeping agent; none if it is not asked for health, or does not sleep.
pub(crate) fn health(
    room: &Room,
    method: &Method,
    agent: &str,
    rest: &str,
) -> Option<Response<ReplyBody>> {
    if rest != HEALTH || !matches!(*method, Method::GET | Method::HEAD) {
        return None;
    }
    is_asleep(&room.routes, agent).then(|| {
        let text = format!(r#"{{"status":"idle","agent_id":"{agent}"}}"#);
        let mut response = Response::new(ReplyBody::Words(Full::new(Bytes::from(text))));
        *response.status_mut() = StatusCode::OK;
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    })
}

/// The same in gRPC, whatever service is asked for: which ones there are is known when the agent is awake. One who
/// watches is told to ask again when the agent's route changes.
pub(crate) fn grpc_health(room: &Room, agent: &str, method: &str) -> Option<Response<ReplyBody>> {
    if !matches!(method, CHECK | WATCH) {
        return None;
    }
    // Subscribed before the look: no news are missed.
    let news = room.routes.news();
    if !is_asleep(&room.routes, agent) {
        return None;
    }
    let slumber = (method == WATCH).then(|| Slumber {
        routes: room.routes.clone(),
        news,
        agent: agent.to_owned(),
    });
    let body = IdleBody {
        told: false,
        over: false,
        waking: slumber.map(|slumber| Box::pin(slumber.end()) as Pin<Box<dyn Future<Output = ()>>>),
    };
    let mut response = Response::new(ReplyBody::Idle(Box::new(body)));
    let kind = HeaderValue::from_static(grpc::CONTENT_TYPE);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    Some(response)
}

fn is_asleep(routes: &Routes, agent: &str) -> bool {
    matches!(routes.peek().get(agent), Some(Route::Asleep(_)))
}

struct Slumber {
    routes: Routes,
    news: watch::Receiver<()>,
    agent: String,
}

impl Slumber {
    async fn end(mut self) {
        while is_asleep(&self.routes, &self.agent) {
            if self.news.changed().await.is_err() {
                return;
            }
        }
    }
}

/// One message, for a watcher the rest of the sleep, and how it went.
pub(crate) struct IdleBody {
    told: bool,
    over: bool,
    waking: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Body for IdleBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        if !std::mem::replace(&mut self.told, true) {
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(SERVING)))));
        }
        let end = match &mut self.waking {
            None => {
                let status = HeaderName::from_static(grpc::STATUS);
                HeaderMap::from_iter([(status, HeaderValue::from_static("0"))])
            }
            Some(waking) => {
                ready!(waking.as_mut().poll(cx));
                trailers(&CallError::AgentGone("it is asleep no more".to_owned()))
            }
        };
        self.over = true;
        Poll::Ready(Some(Ok(Frame::trailers(end))))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}
