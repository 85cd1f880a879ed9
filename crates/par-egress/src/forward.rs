//! A request in plain HTTP, passed on to the granted host: in plain HTTP, or in TLS that the proxy speaks.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use par_model::network::{Host, Speaks, split_port};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::connection::{Body, Caller};
use crate::headers::{check_host, put_secrets, strip};
use crate::meter::{Metered, Silence};
use crate::policy::Way;
use crate::refusal::Refusal;
use crate::route;

const HTTP: u16 = 80;
const HTTPS: u16 = 443;
/// For a TLS connection to be made.
const TLS_WITHIN: Duration = Duration::from_secs(10);

/// A connection to where the last request went, for the next one that goes there.
pub(crate) struct Kept {
    way: Way,
    address: SocketAddr,
    sender: SendRequest<Incoming>,
    /// Ends the connection when it is dropped.
    _driving: AbortOnDropHandle<()>,
}

pub(crate) async fn forward(
    caller: &Caller,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let house = &caller.house;
    let (host, port) = asked(request.uri())?;
    check_host(request.headers(), &host, port.unwrap_or(HTTP), HTTP)?;
    let policy = house.policy();
    let way = policy.plain(&host, port)?;
    put_secrets_and_strip(&policy, &way, &mut request)?;
    let addresses = route::addresses(&policy, &house.resolver, &way).await?;
    let mut kept = match reusable(caller, &way, &addresses) {
        Some(kept) => kept,
        None => connect(caller, &way, &addresses).await?,
    };
    house.figures.connected();
    let response = match kept.sender.try_send_request(request).await {
        Ok(response) => response,
        Err(mut failed) => match failed.take_message() {
            // Nothing of it was sent: the other side had closed a connection that nobody used.
            Some(unsent) => {
                kept = connect(caller, &way, &addresses).await?;
                let sent = kept.sender.send_request(unsent).await;
                sent.map_err(|error| unreachable(&way, &error))?
            }
            None => return Err(unreachable(&way, failed.error())),
        },
    };
    caller.kept.set(Some(kept));
    Ok(answer(response))
}

/// Whom a request in absolute form is for.
fn asked(uri: &Uri) -> Result<(Host, Option<u16>), Refusal> {
    let odd =
        Refusal::BadRequest("this is a proxy: it takes CONNECT, and requests for http://HOST/");
    let (Some(scheme), Some(authority)) = (uri.scheme(), uri.authority()) else {
        return Err(odd);
    };
    if *scheme != Scheme::HTTP || authority.as_str().contains('@') {
        return Err(odd);
    }
    let (host, port) = split_port(authority.as_str());
    let port = match port {
        None => None,
        Some(port) => Some(port.parse().map_err(|_| odd.clone())?),
    };
    Ok((Host::parse(host).map_err(|_| odd)?, port))
}

/// As the other side is to get it.
fn put_secrets_and_strip(
    policy: &crate::Policy,
    way: &Way,
    request: &mut Request<Incoming>,
) -> Result<(), Refusal> {
    let uri = request.uri().clone();
    strip(request.headers_mut());
    put_secrets(policy.secrets(), &way.host, &uri, request.headers_mut())?;
    let usual = match way.speaks {
        Speaks::Anything => HTTP,
        Speaks::Https => HTTPS,
    };
    let host = match way.port == usual {
        true => way.host.to_string(),
        false => format!("{}:{}", way.host, way.port),
    };
    let odd = |_| Refusal::BadRequest("the host fits into no header");
    let host = HeaderValue::try_from(host).map_err(odd)?;
    request.headers_mut().insert(HOST, host);
    let path = uri.path_and_query().cloned();
    *request.uri_mut() = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    *request.version_mut() = Version::HTTP_11;
    Ok(())
}

/// If it leads where it may lead now.
fn reusable(caller: &Caller, way: &Way, addresses: &[SocketAddr]) -> Option<Kept> {
    let kept = caller.kept.take()?;
    let fits = kept.way == *way && addresses.contains(&kept.address) && kept.sender.is_ready();
    fits.then_some(kept)
}

async fn connect(caller: &Caller, way: &Way, addresses: &[SocketAddr]) -> Result<Kept, Refusal> {
    let house = &caller.house;
    let stream = route::connect(addresses, way).await?;
    let unknown = |_| Refusal::Unreachable {
        host: way.host.clone(),
        port: way.port,
    };
    let address = stream.peer_addr().map_err(unknown)?;
    let (stream, silence) = Metered::new(stream, Rc::clone(&house.figures));
    if way.speaks == Speaks::Anything {
        return begin(way, address, stream, silence).await;
    }
    let untrusted = || Refusal::Untrusted {
        host: way.host.clone(),
    };
    match timeout(TLS_WITHIN, house.tls.connect(&way.host, stream)).await {
        Ok(Ok(stream)) => begin(way, address, stream, silence).await,
        Ok(Err(error)) => {
            debug!(host = %way.host, %error, "no TLS connection could be made");
            Err(untrusted())
        }
        Err(_) => Err(untrusted()),
    }
}

async fn begin<S>(
    way: &Way,
    address: SocketAddr,
    stream: S,
    silence: Silence,
) -> Result<Kept, Refusal>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let begun = http1::handshake(TokioIo::new(stream)).await;
    let (sender, connection) = begun.map_err(|error| unreachable(way, &error))?;
    let driving = tokio::task::spawn_local(async move {
        tokio::select! {
            ended = connection => if let Err(error) = ended {
                debug!(%error, "a connection to the outside broke");
            },
            () = silence.is_too_long() => debug!("a connection that nothing went through was closed"),
        }
    });
    Ok(Kept {
        way: way.clone(),
        address,
        sender,
        _driving: AbortOnDropHandle::new(driving),
    })
}

fn unreachable(way: &Way, error: &hyper::Error) -> Refusal {
    debug!(host = %way.host, %error, "a request could not be passed on");
    Refusal::Unreachable {
        host: way.host.clone(),
        port: way.port,
    }
}

fn answer(mut response: Response<Incoming>) -> Response<Body> {
    strip(response.headers_mut());
    // Nobody was asked to leave HTTP.
    if response.status() == StatusCode::SWITCHING_PROTOCOLS {
        *response.status_mut() = StatusCode::BAD_GATEWAY;
    }
    response.map(|body| body.boxed_unsync())
}
