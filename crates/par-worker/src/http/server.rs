//! Accepts connections on the agent's port and on its unix socket.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::net::sockopt::set_tcp_user_timeout;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::either::Either;
use tracing::{debug, warn};

use super::door::Door;
use super::front::Front;

/// Connections at one time, through both doors together.
const MOST_CONNECTIONS: usize = 4096;
/// More than the supervisor lets pass, which adds some of its own.
const MOST_HEADERS: usize = 160;
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a client that takes nothing of its answer, in milliseconds; then its connection is cut.
const LONGEST_STALL: u32 = 120_000;
/// After an error that is not the client's, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub(crate) struct Server {
    closing: watch::Sender<bool>,
    doors: JoinSet<()>,
}

impl Server {
    pub(crate) fn start(
        front: &Rc<Front>,
        tcp: TcpListener,
        unix: Option<UnixListener>,
    ) -> std::io::Result<Self> {
        let (closing, closed) = watch::channel(false);
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let public = tcp.local_addr()?;
        let unix = unix.map(|listener| Listener::Unix { listener, public });
        let mut doors = JoinSet::new();
        for listener in [
            Some(Listener::Tcp {
                listener: tcp,
                local: public,
            }),
            unix,
        ]
        .into_iter()
        .flatten()
        {
            doors.spawn_local(accept(
                listener,
                Rc::clone(front),
                Arc::clone(&room),
                closed.clone(),
            ));
        }
        Ok(Self { closing, doors })
    }

    /// Takes no new connections and ends the idle ones; waits for the others at most `limit`.
    pub(crate) async fn close(mut self, limit: Duration) {
        self.closing.send_replace(true);
        let all = async { while self.doors.join_next().await.is_some() {} };
        if tokio::time::timeout(limit, all).await.is_err() {
            debug!("connections were still open at the end");
        }
    }
}

enum Listener {
    Tcp {
        listener: TcpListener,
        local: SocketAddr,
    },
    Unix {
        listener: UnixListener,
        public: SocketAddr,
    },
}

type Connection = Either<TcpStream, UnixStream>;

impl Listener {
    async fn accept(&self) -> std::io::Result<(Connection, Door)> {
        match self {
            Self::Tcp { listener, local } => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                set_tcp_user_timeout(&stream, LONGEST_STALL)?;
                Ok((
                    Either::Left(stream),
                    Door::Public {
                        peer,
                        local: *local,
                    },
                ))
            }
            Self::Unix { listener, public } => {
                let (stream, _unnamed) = listener.accept().await?;
                Ok((Either::Right(stream), Door::Supervisor { public: *public }))
            }
        }
    }
}

/// Serves each connection in a task of its own; leaves further ones waiting while there are too many.
async fn accept(
    listener: Listener,
    front: Rc<Front>,
    room: Arc<Semaphore>,
    mut closed: watch::Receiver<bool>,
) {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = closed.changed() => break,
        };
        match accepted {
            Ok((stream, door)) => {
                while connections.try_join_next().is_some() {}
                let permit = Arc::clone(&room)
                    .acquire_owned()
                    .await
                    .expect("the semaphore is never closed");
                connections.spawn_local(serve(
                    stream,
                    door,
                    Rc::clone(&front),
                    permit,
                    closed.clone(),
                ));
            }
            Err(error) => pause(&error).await,
        }
    }
    while connections.join_next().await.is_some() {}
}

async fn serve(
    stream: Connection,
    door: Door,
    front: Rc<Front>,
    room: OwnedSemaphorePermit,
    mut closed: watch::Receiver<bool>,
) {
    let _until_the_end = room;
    let service = service_fn(move |request| Rc::clone(&front).handle(door.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_headers(MOST_HEADERS)
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

async fn pause(error: &std::io::Error) {
    warn!(%error, "failed to accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
