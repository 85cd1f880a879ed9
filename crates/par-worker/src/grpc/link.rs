//! The one HTTP/2 connection to another server, opened when it is first needed, and again when it is gone.

use std::cell::RefCell;
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::connection::Beside;

/// Where it is.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Socket(std::path::PathBuf),
    /// Host and port.
    Address(String),
}

/// Bytes that it may send ahead of whoever reads them. Many callers share the connection, and none of them can use it
/// up for the others.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Until there is a connection, with the wait for whoever opens it already.
const LONGEST_OPENING: Duration = Duration::from_secs(5);

pub(crate) struct Link {
    place: Place,
    open: RefCell<Option<Open>>,
    /// One opens it, and the others wait for that.
    opening: Semaphore,
}

struct Open {
    sender: SendRequest<Incoming>,
    /// Ends with the link, and its streams with it.
    _connection: AbortOnDropHandle<()>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error("nobody answers")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
}

impl Link {
    pub(crate) fn to(place: Place) -> Self {
        Self {
            place,
            open: RefCell::default(),
            opening: Semaphore::new(1),
        }
    }

    pub(super) async fn send(
        &self,
        mut request: Request<Incoming>,
    ) -> Result<Response<Incoming>, LinkError> {
        address(&mut request);
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let sender = timeout(LONGEST_OPENING, self.sender()).await;
        let sender = sender.map_err(late).and_then(|opened| opened);
        let mut sender = sender.map_err(LinkError::Connect)?;
        sender
            .send_request(request)
            .await
            .map_err(LinkError::Broken)
    }

    async fn sender(&self) -> io::Result<SendRequest<Incoming>> {
        if let Some(sender) = self.living().await {
            return Ok(sender);
        }
        let turn = self.opening.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        if let Some(sender) = self.living().await {
            return Ok(sender);
        }
        let (sender, connection) = self.opened().await?;
        self.open.replace(Some(Open {
            sender: sender.clone(),
            _connection: connection,
        }));
        Ok(sender)
    }

    async fn opened(&self) -> io::Result<(SendRequest<Incoming>, AbortOnDropHandle<()>)> {
        match &self.place {
            Place::Socket(path) => open(connect(path).await?).await,
            Place::Address(address) => open(TcpStream::connect(address).await?).await,
        }
    }

    /// The sender of a connection that is not over.
    async fn living(&self) -> Option<SendRequest<Incoming>> {
        let mut sender = self.open.borrow().as_ref()?.sender.clone();
        sender.ready().await.is_ok().then_some(sender)
    }
}

/// The agent may put what it likes into its folder: a link to a socket of somebody else is not followed.
async fn connect(path: &Path) -> io::Result<UnixStream> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let socket = rustix::fs::open(path, flags, Mode::empty())?;
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

async fn open<S>(stream: S) -> io::Result<(SendRequest<Incoming>, AbortOnDropHandle<()>)>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let streams = TaskTracker::new();
    let (sender, connection) = http2::Builder::new(Beside(streams.clone()))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(io::Error::other)?;
    let driven = tokio::task::spawn_local(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to another gRPC server broke");
        }
        streams.close();
        streams.wait().await;
    });
    Ok((sender, AbortOnDropHandle::new(driven)))
}

/// HTTP/2 wants to know scheme and host, which mean nothing on a socket.
fn address(request: &mut Request<Incoming>) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    let nobody = Authority::from_static("localhost");
    parts.authority.get_or_insert(nobody);
    *request.uri_mut() = Uri::from_parts(parts).expect("scheme, host and the path that was there");
}
