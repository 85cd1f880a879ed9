//! Where callers come in, and how they are dealt to the threads.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use par_model::{AgentId, CallError};
use rustix::net::SendFlags;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::control::Callers;
use crate::refusal;

/// After a failure such as too many open files, which only time mends.
const PAUSE: Duration = Duration::from_millis(50);

/// A connection on its way to the thread that serves it.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    pub(crate) place: Place,
}

pub(crate) enum Stream {
    Public(TcpStream, SocketAddr),
    Internal(UnixStream, AgentId),
}

/// One connection in the count of its thread, until dropped.
pub(crate) struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A thread, as seen from the doors.
pub(crate) struct Lane {
    open: Arc<AtomicUsize>,
    inbox: mpsc::UnboundedSender<Arrival>,
}

impl Lane {
    pub(crate) fn new(inbox: mpsc::UnboundedSender<Arrival>) -> Self {
        Self {
            open: Arc::default(),
            inbox,
        }
    }

    fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

/// Deals connections to the threads. Unbounded channels stay small: what is in them is counted as open.
pub(crate) struct Dealer {
    pub(crate) lanes: Vec<Lane>,
    pub(crate) max_connections: usize,
}

impl Dealer {
    /// To the thread with the fewest connections. The kernel's own choice (`SO_REUSEPORT`) would often leave a
    /// thread idle while another one serves most of a few busy connections.
    fn deal(&self, stream: Stream) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.open()) else {
            return;
        };
        if lane.open() >= self.max_connections {
            return stream.refuse(&CallError::Overloaded);
        }
        lane.open.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(&lane.open));
        if lane.inbox.send(Arrival { stream, place }).is_err() {
            debug!("a connection came after its thread had ended");
        }
    }
}

impl Stream {
    /// Says why in one packet that never blocks; whether the caller still reads it is up to the caller.
    fn refuse(&self, error: &CallError) {
        let text = refusal::as_text(error);
        let sent = match self {
            Self::Public(stream, _) => rustix::net::send(stream, &text, SendFlags::DONTWAIT),
            Self::Internal(stream, _) => rustix::net::send(stream, &text, SendFlags::DONTWAIT),
        };
        warn!(%error, told = sent.is_ok(), "connection refused");
    }
}

/// Anybody, over TCP.
pub(crate) async fn public(listener: AsyncFd<TcpListener>, dealer: &Dealer) {
    loop {
        let Some((stream, address)) = accepted(&listener, TcpListener::accept).await else {
            continue;
        };
        let ready = stream
            .set_nonblocking(true)
            .and_then(|()| stream.set_nodelay(true));
        match ready {
            Ok(()) => dealer.deal(Stream::Public(stream, address)),
            Err(error) => debug!(%error, "failed to set up a connection"),
        }
    }
}

/// Workers, on behalf of their agents: the kernel says which process it is.
pub(crate) async fn internal(listener: AsyncFd<UnixListener>, callers: &Callers, dealer: &Dealer) {
    loop {
        let Some((stream, _)) = accepted(&listener, UnixListener::accept).await else {
            continue;
        };
        match stream
            .set_nonblocking(true)
            .and_then(|()| pid_of_peer(&stream))
        {
            Ok(pid) => match callers(pid) {
                Some(agent) => dealer.deal(Stream::Internal(stream, agent)),
                None => refuse_stranger(&stream, pid),
            },
            Err(error) => debug!(%error, "failed to identify a caller"),
        }
    }
}

fn refuse_stranger(stream: &UnixStream, pid: u32) {
    let error = CallError::UnknownCaller(pid);
    let sent = rustix::net::send(stream, &refusal::as_text(&error), SendFlags::DONTWAIT);
    warn!(
        pid,
        told = sent.is_ok(),
        "a process that is no worker called the internal door"
    );
}

fn pid_of_peer(stream: &UnixStream) -> io::Result<u32> {
    let credentials = rustix::net::sockopt::socket_peercred(stream)?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).map_err(io::Error::other)
}

/// The next connection; `None` when there was only a failure.
async fn accepted<L: AsRawFd, C>(
    listener: &AsyncFd<L>,
    accept: impl Fn(&L) -> io::Result<C>,
) -> Option<C> {
    let failure = match listener.readable().await {
        Ok(mut ready) => match ready.try_io(|listener| accept(listener.get_ref())) {
            Ok(Ok(connection)) => return Some(connection),
            Ok(Err(failure)) => failure,
            Err(_not_ready) => return None,
        },
        Err(failure) => failure,
    };
    let callers_fault = [ErrorKind::ConnectionAborted, ErrorKind::Interrupted];
    if !callers_fault.contains(&failure.kind()) {
        warn!(error = %failure, "failed to accept a connection");
        tokio::time::sleep(PAUSE).await;
    }
    None
}
