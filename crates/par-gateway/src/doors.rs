//! Where callers come in, and how they are dealt to the threads.

use std::io::{self, ErrorKind};
use std::net::{self, SocketAddr};
use std::os::unix;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use par_door::{Account, Connected, Key, whole_answer};
use par_model::{AgentId, CallError};
use rustix::net::SendFlags;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::unix::SocketAddr as SocketName;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::control::Callers;
use crate::ledger::Ledger;

/// After a failure such as too many open files, which only time mends.
const PAUSE: Duration = Duration::from_millis(50);

/// Milliseconds in which a caller takes nothing that was sent to it, not even by the kernel; then it is gone.
const LONGEST_STALL: u32 = 120_000;

/// A connection on its way to the thread that serves it.
pub(crate) struct Arrival {
    pub(crate) stream: Stream,
    pub(crate) account: Arc<Account>,
    pub(crate) places: Places,
}

/// What a connection takes, until dropped.
pub(crate) struct Places {
    pub(crate) of_thread: Place,
    _of_caller: Option<Connected>,
}

pub(crate) enum Stream {
    Public(net::TcpStream, SocketAddr),
    Internal(unix::net::UnixStream, AgentId),
}

/// One connection in the count of its thread, until dropped.
pub(crate) struct Place {
    open: Arc<AtomicUsize>,
    /// How many there were with this one when it came.
    number: usize,
}

impl Place {
    fn take(open: &Arc<AtomicUsize>) -> Self {
        Self {
            number: open.fetch_add(1, Ordering::Relaxed) + 1,
            open: Arc::clone(open),
        }
    }

    /// Whether it is one too many, by what was there when it came and is there still.
    pub(crate) fn is_beyond(&self, limit: usize) -> bool {
        self.number.min(self.open.load(Ordering::Relaxed)) > limit
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
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
    pub(crate) max_connections_per_address: u32,
    pub(crate) ledger: Arc<Ledger>,
}

impl Dealer {
    /// Nobody takes all places for itself.
    fn let_in(&self, stream: net::TcpStream, address: SocketAddr) {
        let account = self.ledger.account(&Key::of_address(address.ip()));
        let stream = Stream::Public(stream, address);
        match account.connect(self.max_connections_per_address) {
            Some(connected) => self.deal(stream, account, Some(connected)),
            None => stream.refuse(&CallError::TooManyConnections),
        }
    }

    /// To the thread with the fewest connections. The kernel's own choice (`SO_REUSEPORT`) would often leave a
    /// thread idle while another one serves most of a few busy connections.
    fn deal(&self, stream: Stream, account: Arc<Account>, connected: Option<Connected>) {
        let Some(lane) = self.lanes.iter().min_by_key(|lane| lane.open()) else {
            return;
        };
        // The thread finds the room for one too many; this many means that it does not get around to it.
        if lane.open() >= self.max_connections.saturating_mul(2) {
            return stream.refuse(&CallError::TooManyConnections);
        }
        let places = Places {
            of_thread: Place::take(&lane.open),
            _of_caller: connected,
        };
        let arrival = Arrival {
            stream,
            account,
            places,
        };
        if lane.inbox.send(arrival).is_err() {
            debug!("a connection came after its thread had ended");
        }
    }
}

impl Stream {
    /// Says why in one packet that never blocks; whether the caller still reads it is up to the caller.
    pub(crate) fn refuse(&self, error: &CallError) {
        let text = whole_answer(error);
        let sent = match self {
            Self::Public(stream, _) => rustix::net::send(stream, &text, SendFlags::DONTWAIT),
            Self::Internal(stream, _) => rustix::net::send(stream, &text, SendFlags::DONTWAIT),
        };
        warn!(%error, told = sent.is_ok(), "connection refused");
    }
}

/// Anybody, over TCP.
pub(crate) async fn public(listener: TcpListener, dealer: &Dealer) {
    loop {
        match listener.accept().await.and_then(detach_public) {
            Ok((stream, address)) => dealer.let_in(stream, address),
            Err(failure) => recover(failure).await,
        }
    }
}

/// Workers, on behalf of their agents: the kernel says which process it is.
pub(crate) async fn internal(listener: UnixListener, callers: &Callers, dealer: &Dealer) {
    loop {
        match listener.accept().await.and_then(detach_internal) {
            Ok((stream, pid)) => match callers(pid) {
                Some(agent) => {
                    let account = dealer.ledger.account(&Key::Agent(agent.clone()));
                    dealer.deal(Stream::Internal(stream, agent), account, None);
                }
                None => refuse_stranger(&stream, pid),
            },
            Err(failure) => recover(failure).await,
        }
    }
}

/// Free of the runtime of the doors, for that of another thread.
fn detach_public(
    (stream, address): (TcpStream, SocketAddr),
) -> io::Result<(net::TcpStream, SocketAddr)> {
    stream.set_nodelay(true)?;
    set_tcp_user_timeout(&stream, LONGEST_STALL)?;
    Ok((stream.into_std()?, address))
}

fn detach_internal(
    (stream, _): (UnixStream, SocketName),
) -> io::Result<(unix::net::UnixStream, u32)> {
    let pid = stream.peer_cred()?.pid();
    let pid = pid.and_then(|pid| u32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| io::Error::other("the kernel names no process"))?;
    Ok((stream.into_std()?, pid))
}

async fn recover(failure: io::Error) {
    let one_callers_fault = [
        ErrorKind::ConnectionAborted,
        ErrorKind::NotConnected,
        ErrorKind::InvalidInput,
    ];
    if one_callers_fault.contains(&failure.kind()) {
        debug!(error = %failure, "a caller left at the door");
        return;
    }
    warn!(error = %failure, "failed to accept a connection");
    tokio::time::sleep(PAUSE).await;
}

fn refuse_stranger(stream: &unix::net::UnixStream, pid: u32) {
    let error = CallError::UnknownCaller(pid);
    let sent = rustix::net::send(stream, &whole_answer(&error), SendFlags::DONTWAIT);
    warn!(
        pid,
        told = sent.is_ok(),
        "a process that is no worker called the internal door"
    );
}
