//! One connection of an agent to its proxy: requests one after the other, or a tunnel.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue, PROXY_AUTHENTICATE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};
use hyper::body::Incoming;
use hyper::ext::ReasonPhrase;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use par_model::network::{Host, split_port};
use tokio::net::TcpStream;
use tracing::debug;

use crate::forward::{self, Kept};
use crate::refusal::Refusal;
use crate::serve::House;
use crate::tunnel::{self, Tunnel};

pub(crate) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// For the head of a request to come, and between two requests.
const HEAD_WITHIN: Duration = Duration::from_secs(60);
const MOST_HEADERS: usize = 100;
/// Of the head of a request.
const LARGEST_HEAD: usize = 64 << 10;
/// What a proxy says why not in the first line is all that some clients show.
const LONGEST_REASON: usize = 300;

/// What one connection has, beside what all share.
pub(crate) struct Caller {
    pub(crate) house: Rc<House>,
    /// The connection that its last request went through.
    pub(crate) kept: Cell<Option<Kept>>,
    /// Set by the request that makes a tunnel, which is the last.
    tunnel: RefCell<Option<Tunnel>>,
}

pub(crate) async fn run(house: Rc<House>, stream: TcpStream) {
    let caller = Rc::new(Caller {
        house,
        kept: Cell::new(None),
        tunnel: RefCell::new(None),
    });
    let answering = Rc::clone(&caller);
    let service = service_fn(move |request| {
        let caller = Rc::clone(&answering);
        async move { Ok::<_, Infallible>(caller.answer(request).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_headers(MOST_HEADERS)
        .max_buf_size(LARGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection of an agent broke");
    }
    let tunnel = caller.tunnel.borrow_mut().take();
    if let Some(tunnel) = tunnel {
        tunnel.run(&caller.house).await;
    }
}

impl Caller {
    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.ask(request).await {
            Ok(response) => response,
            Err(refusal) => refused(&refusal, self.house.refuse(&refusal)),
        }
    }

    async fn ask(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if let Some(authorization) = &self.house.authorization
            && !authorization.admits(request.headers())
        {
            return Err(Refusal::Unauthorized);
        }
        match *request.method() {
            Method::CONNECT => self.open(request).await,
            // It would be answered with the secrets that it was sent with.
            Method::TRACE => Err(Refusal::BadRequest("TRACE is not passed on")),
            _ => forward::forward(self, request).await,
        }
    }

    /// `CONNECT host:port`
    async fn open(&self, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        let odd = Refusal::BadRequest("CONNECT asks for HOST:PORT");
        let authority = request.uri().authority().ok_or_else(|| odd.clone())?;
        let (host, port) = split_port(authority.as_str());
        let port = port.and_then(|port| port.parse().ok());
        let (Ok(host), Some(port)) = (Host::parse(host), port) else {
            return Err(odd);
        };
        let tunnel = tunnel::open(&self.house, host, port, hyper::upgrade::on(request)).await?;
        self.tunnel.replace(Some(tunnel));
        Ok(Response::new(empty()))
    }
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn refused(refusal: &Refusal, told: String) -> Response<Body> {
    let status = refusal.status();
    let reason = reason(&told);
    let text = Full::new(Bytes::from(told + "\n"));
    let mut response = Response::new(text.map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    headers.insert(CONTENT_TYPE, plain);
    if status == StatusCode::PROXY_AUTHENTICATION_REQUIRED {
        let basic = HeaderValue::from_static("Basic realm=\"par\"");
        headers.insert(PROXY_AUTHENTICATE, basic);
    }
    response.extensions_mut().extend(reason_of(reason));
    response
}

fn reason(told: &str) -> String {
    let visible = |c: &char| c.is_ascii_graphic() || *c == ' ';
    told.chars().filter(visible).take(LONGEST_REASON).collect()
}

fn reason_of(reason: String) -> http::Extensions {
    let mut extensions = http::Extensions::new();
    if let Ok(reason) = ReasonPhrase::try_from(reason) {
        extensions.insert(reason);
    }
    extensions
}
