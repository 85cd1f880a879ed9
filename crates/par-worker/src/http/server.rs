//! Accepts connections on the agent's ports, on its unix socket, and on the door of its own processes.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use par_door::{Accounts, Connected, Key, Pulse, Strict};
use rustix::net::RecvFlags;
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::io::{AsyncRead, AsyncWrite, Interest};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::either::Either;
use tracing::{debug, warn};

use super::door::Door;
use super::front::Front;

/// Connections at one time, through each door: whoever fills one of them closes no other.
const MOST_CONNECTIONS: usize = 4096;
/// From one address, or network of IPv6.
const MOST_CONNECTIONS_OF_ONE: u32 = 512;
/// More than the supervisor lets pass, which adds some of its own.
const MOST_HEADERS: usize = 160;
const MOST_HEADER_BYTES: usize = 128 << 10;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client that takes nothing of its answer, in milliseconds; then its connection is cut.
const LONGEST_STALL: u32 = 120_000;
/// How every HTTP/2 connection begins.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After an error that is not the client's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    closing: watch::Sender<bool>,
    doors: JoinSet<()>,
}

/// The sockets of a worker.
pub(crate) struct Listeners {
    pub(crate) http: TcpListener,
    pub(crate) grpc: TcpListener,
    /// For the supervisor, which speaks both.
    pub(crate) supervisor: Option<UnixListener>,
    /// For the agent's own processes, which speak gRPC.
    pub(crate) agent: Option<UnixListener>,
}

impl Server {
    pub(crate) fn start(front: &Rc<Front>, listeners: Listeners) -> io::Result<Self> {
        let (closing, closed) = watch::channel(false);
        let mut doors = JoinSet::new();
        for listener in listeners.all()? {
            doors.spawn_local(accept(listener, Rc::clone(front), closed.clone()));
        }
        Ok(Self { closing, doors })
    }

    /// Takes no new connections and ends the idle ones; waits for the others at most `limit`.
    pub(crate) async fn close(mut self, limit: Duration) {
        self.closing.send_replace(true);
        let all = async { while self.doors.join_next().await.is_some() {} };
        if timeout(limit, all).await.is_err() {
            debug!("connections were still open at the end");
        }
    }
}

impl Listeners {
    fn all(self) -> io::Result<Vec<Listener>> {
        let public = self.http.local_addr()?;
        let grpc = self.grpc.local_addr()?;
        let mut all = vec![
            Listener::Tcp {
                listener: self.http,
                local: public,
                speaks: Speaks::Http1,
            },
            Listener::Tcp {
                listener: self.grpc,
                local: grpc,
                speaks: Speaks::Http2,
            },
        ];
        let supervisor = self.supervisor.map(|listener| Listener::Unix {
            listener,
            door: Door::Supervisor { public },
            speaks: Speaks::Either,
        });
        let agent = self.agent.map(|listener| Listener::Unix {
            listener,
            door: Door::Agent,
            speaks: Speaks::Http2,
        });
        all.extend(supervisor.into_iter().chain(agent));
        Ok(all)
    }
}

/// What is spoken on a connection.
#[derive(Clone, Copy)]
enum Speaks {
    Http1,
    /// From the first byte on.
    Http2,
    /// Its first bytes tell.
    Either,
}

enum Listener {
    Tcp {
        listener: TcpListener,
        local: SocketAddr,
        speaks: Speaks,
    },
    Unix {
        listener: UnixListener,
        door: Door,
        speaks: Speaks,
    },
}

type Connection = Either<TcpStream, UnixStream>;

impl Listener {
    async fn accept(&self) -> io::Result<(Connection, Door, Speaks)> {
        match self {
            Self::Tcp {
                listener,
                local,
                speaks,
            } => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                set_tcp_user_timeout(&stream, LONGEST_STALL)?;
                let local = *local;
                Ok((Either::Left(stream), Door::Public { peer, local }, *speaks))
            }
            Self::Unix {
                listener,
                door,
                speaks,
            } => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok((Either::Right(stream), door.clone(), *speaks))
            }
        }
    }
}

/// One connection of an address that has not too many of them.
fn let_in(accounts: &Accounts, door: &Door) -> Option<Option<Connected>> {
    let Door::Public { peer, .. } = door else {
        return Some(None);
    };
    let account = accounts.of(&Key::of_address(peer.ip()), 0);
    account.connect(MOST_CONNECTIONS_OF_ONE).map(Some)
}

/// Serves each connection in a task of its own; leaves further ones waiting while there are too many.
async fn accept(listener: Listener, front: Rc<Front>, mut closed: watch::Receiver<bool>) {
    let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let accounts = Accounts::new(2 * MOST_CONNECTIONS);
    let mut connections = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&room).acquire_owned().await;
            let place = place.expect("the semaphore is never closed");
            listener.accept().await.map(|accepted| (accepted, place))
        };
        let accepted = tokio::select! {
            accepted = next => accepted,
            _ = closed.changed() => break,
        };
        match accepted {
            Ok(((stream, door, speaks), place)) => {
                while connections.try_join_next().is_some() {}
                let Some(connected) = let_in(&accounts, &door) else {
                    debug!(?door, "a caller has too many connections: closed");
                    continue;
                };
                let served = serve(stream, door, speaks, Rc::clone(&front), closed.clone());
                connections.spawn_local(async move {
                    let _until_the_end = (place, connected);
                    served.await;
                });
            }
            Err(error) => pause(&error).await,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: Connection,
    door: Door,
    speaks: Speaks,
    front: Rc<Front>,
    mut closed: watch::Receiver<bool>,
) {
    match speaks {
        Speaks::Http1 => serve_http1(stream, door, front, closed).await,
        Speaks::Http2 | Speaks::Either => {
            let begins = timeout(HEADER_TIMEOUT, begins_as_http2(&stream));
            let begins = tokio::select! {
                begins = begins => begins,
                _ = closed.changed() => return, // nothing was asked yet
            };
            match (speaks, begins) {
                (_, Ok(Ok(true))) => crate::grpc::serve(stream, door, front, closed).await,
                (Speaks::Either, Ok(Ok(false))) => serve_http1(stream, door, front, closed).await,
                // Silent, gone, or no HTTP/2.
                _ => {}
            }
        }
    }
}

/// Looks at the first bytes without taking them, as many as it takes.
async fn begins_as_http2(stream: &Connection) -> io::Result<bool> {
    loop {
        let (ready, looked) = match stream {
            Either::Left(stream) => {
                let ready = stream.ready(Interest::READABLE).await?;
                (ready, stream.try_io(Interest::READABLE, || look(stream)))
            }
            Either::Right(stream) => {
                let ready = stream.ready(Interest::READABLE).await?;
                (ready, stream.try_io(Interest::READABLE, || look(stream)))
            }
        };
        match looked {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            // Nothing follows what may be a beginning.
            Err(_) if ready.is_read_closed() => return Ok(false),
            Err(_) => {}
            Ok(told) => return Ok(told),
        }
    }
}

/// `WouldBlock` waits for more than there is: it may be either.
fn look(stream: impl AsFd) -> io::Result<bool> {
    let mut first = [0; PREFACE.len()];
    let (length, _) = rustix::net::recv(stream, &mut first, RecvFlags::PEEK)?;
    match &first[..length] {
        PREFACE => Ok(true),
        [] => Ok(false),
        beginning if PREFACE.starts_with(beginning) => Err(io::ErrorKind::WouldBlock.into()),
        _ => Ok(false),
    }
}

async fn serve_http1(
    stream: Connection,
    door: Door,
    front: Rc<Front>,
    closed: watch::Receiver<bool>,
) {
    match door.is_public() {
        true => {
            let stream = Strict::new(stream, Arc::<Pulse>::default());
            serve_messages(stream, door, front, closed).await;
        }
        // The supervisor has read and written anew what comes from it.
        false => serve_messages(stream, door, front, closed).await,
    }
}

async fn serve_messages<S>(
    stream: S,
    door: Door,
    front: Rc<Front>,
    mut closed: watch::Receiver<bool>,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| Rc::clone(&front).handle(door.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MOST_HEADERS)
        .max_header_size(MOST_HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = closed.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection broke");
    }
}

async fn pause(error: &io::Error) {
    warn!(%error, "failed to accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
