//! Threads and their end. Each has a runtime of its own, so that a call never moves between cores.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use par_door::{Account, Key};
use par_model::CallError;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::{debug, error};

use crate::control::{Callers, Control, Peer, Wake};
use crate::doors::{self, Arrival, Dealer, Lane, Stream};
use crate::gate::Gate;
use crate::headers::Scheme;
use crate::ledger::Ledger;
use crate::room::{Config, Room};
use crate::routes::Routes;
use crate::serve::{Caller, serve, serve_as};
use crate::tls::{self, Tls};

/// Connections to workers that nobody needed for this long are closed, within twice the time.
const TRIM_EVERY: Duration = Duration::from_secs(5);

/// For those who are still here at the end of the patience with them.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The sockets that the gateway serves.
pub struct Listeners {
    pub public: TcpListener,
    /// What is spoken on `public`, under HTTP.
    pub tls: Option<Tls>,
    /// For workers, whose agents call other agents.
    pub internal: Option<UnixListener>,
}

/// A running gateway. When it is dropped, it stops at once.
pub struct Gateway {
    local_addr: SocketAddr,
    threads: Vec<JoinHandle<()>>,
    doors: CancellationToken,
    closing: CancellationToken,
    kill: DropGuard,
}

/// Serves `listeners` on threads of its own until the gateway is shut down.
pub fn start(
    listeners: Listeners,
    config: Config,
    routes: Routes,
    gate: Gate,
    control: Control,
    callers: Callers,
    wake: Wake,
) -> io::Result<Gateway> {
    listeners.public.set_nonblocking(true)?;
    if let Some(internal) = &listeners.internal {
        internal.set_nonblocking(true)?;
    }
    let local_addr = listeners.public.local_addr()?;
    let config = Arc::new(config);
    let ledger = Arc::new(Ledger::new(config.per_caller, config.per_agent));
    let tls = listeners.tls.clone();
    let end = End::default();
    let mut gateway = Gateway {
        local_addr,
        threads: Vec::new(),
        doors: end.doors.clone(),
        closing: end.closing.clone(),
        kill: end.kill.clone().drop_guard(),
    };
    let mut lanes = Vec::new();
    for number in 0..config.threads.max(1) {
        let (inbox, arrivals) = mpsc::unbounded_channel();
        lanes.push(Lane::new(inbox));
        let (config, routes) = (Arc::clone(&config), routes.clone());
        let (gate, control, wake) = (gate.clone(), control.clone(), Arc::clone(&wake));
        let (ledger, tls) = (Arc::clone(&ledger), tls.clone());
        let end = end.clone();
        gateway.spawn(format!("gateway-{number}"), move || async move {
            let room = Room::new(config, ledger, tls, routes, gate, control, wake);
            serve_arrivals(&Rc::new(room), arrivals, end).await;
        })?;
    }
    let dealer = Dealer {
        lanes,
        max_connections: config.max_connections,
        max_connections_per_address: config.max_connections_per_address,
        ledger,
    };
    gateway.spawn("gateway-doors".to_owned(), move || async move {
        let open = open_doors(listeners, &callers, &dealer);
        if let Some(Err(error)) = end.doors.run_until_cancelled(open).await {
            error!(%error, "failed to open the doors");
        }
    })?;
    Ok(gateway)
}

/// The ways to end, each of which implies the one before: let nobody in, finish what was begun, and stop.
#[derive(Clone)]
struct End {
    doors: CancellationToken,
    closing: CancellationToken,
    kill: CancellationToken,
}

impl Default for End {
    fn default() -> Self {
        let kill = CancellationToken::new();
        let closing = kill.child_token();
        Self {
            doors: closing.child_token(),
            closing,
            kill,
        }
    }
}

impl Gateway {
    /// Where the public door is.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Leaves new connections to whoever has the same listening sockets, and asks callers to go there: HTTP/1 with the
    /// next answer, HTTP/2 at once (GOAWAY). The sockets are only closed, not shut down.
    pub fn stop_accepting(&self) {
        self.doors.cancel();
    }

    /// Stops to accept, and ends when all callers have left, at most after `patience`. A connection on which nothing is
    /// asked is not closed before it was silent as long as any may be: a request may be on its way to us.
    pub async fn retire(self, patience: Duration) {
        self.doors.cancel();
        self.end(patience, LAST_WORDS).await;
    }

    /// Lets nobody in any more, finishes the calls in flight within `grace`, and ends the rest.
    pub async fn shutdown(self, grace: Duration) {
        self.closing.cancel();
        self.end(grace, Duration::ZERO).await;
    }

    /// Waits for the threads; after `patience` callers are no more waited for, and after `grace` they are cut off.
    async fn end(self, patience: Duration, grace: Duration) {
        let threads = self.threads;
        let mut joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                if thread.join().is_err() {
                    error!("a thread of the gateway panicked");
                }
            }
        });
        if tokio::time::timeout(patience, &mut joined).await.is_ok() {
            return;
        }
        self.closing.cancel();
        if tokio::time::timeout(grace, &mut joined).await.is_ok() {
            return;
        }
        drop(self.kill);
        if joined.await.is_err() {
            debug!("the runtime ended before the gateway did");
        }
    }

    fn spawn<F: Future<Output = ()>>(
        &mut self,
        name: String,
        run: impl FnOnce() -> F + Send + 'static,
    ) -> io::Result<()> {
        let runtime = Builder::new_current_thread();
        let thread = thread::Builder::new().name(name).spawn(move || {
            let mut runtime = runtime;
            match runtime.enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime.block_on(run()),
                Err(error) => error!(%error, "failed to start a thread of the gateway"),
            }
        })?;
        self.threads.push(thread);
        Ok(())
    }
}

async fn open_doors(listeners: Listeners, callers: &Callers, dealer: &Dealer) -> io::Result<()> {
    let public = tokio::net::TcpListener::from_std(listeners.public)?;
    let Some(internal) = listeners.internal else {
        doors::public(public, dealer).await;
        return Ok(());
    };
    let internal = tokio::net::UnixListener::from_std(internal)?;
    tokio::join!(
        doors::public(public, dealer),
        doors::internal(internal, callers, dealer)
    );
    Ok(())
}

/// One thread: takes what the doors send until the end, and waits for what it has begun.
async fn serve_arrivals(room: &Rc<Room>, mut arrivals: mpsc::UnboundedReceiver<Arrival>, end: End) {
    let connections = TaskTracker::new();
    let mut look = tokio::time::interval(room.watch.interval());
    // A thread that was held up may not count the rounds that it missed as silence of its callers.
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut trim = tokio::time::interval(TRIM_EVERY);
    let mut news = room.routes.news();
    loop {
        tokio::select! {
            arrival = arrivals.recv() => match arrival {
                Some(arrival) if has_room(room, &arrival) => {
                    connections.spawn_local(welcome(arrival, Rc::clone(room)));
                }
                Some(arrival) => arrival.stream.refuse(&CallError::TooManyConnections),
                None => break, // the doors are closed
            },
            _ = look.tick() => room.watch.look(),
            _ = trim.tick() => room.pools.trim(),
            Ok(()) = news.changed() => room.pools.keep_to(&room.routes.peek()),
        }
    }
    connections.close();
    room.watch.retire();
    let leaving = async {
        loop {
            tokio::select! {
                () = connections.wait() => break,
                _ = look.tick() => room.watch.look(),
                _ = trim.tick() => room.pools.trim(),
                Ok(()) = news.changed() => room.pools.keep_to(&room.routes.peek()),
            }
        }
    };
    end.closing.run_until_cancelled(leaving).await;
    room.watch.close();
    end.kill.run_until_cancelled(connections.wait()).await;
}

/// A connection beyond the limit takes the place of one that is idle.
fn has_room(room: &Room, arrival: &Arrival) -> bool {
    !arrival
        .places
        .of_thread
        .is_beyond(room.config.max_connections)
        || room.watch.make_room()
}

async fn welcome(arrival: Arrival, room: Rc<Room>) {
    let _places = arrival.places;
    let account = arrival.account;
    let failure = match arrival.stream {
        Stream::Public(stream, address) => match (TcpStream::from_std(stream), room.tls.clone()) {
            (Ok(stream), None) => return welcome_plain(stream, address, account, room).await,
            (Ok(stream), Some(tls)) => {
                // Boxed: connections without TLS are no larger for it.
                return Box::pin(welcome_tls(&tls, stream, address, account, room)).await;
            }
            (Err(failure), _) => failure,
        },
        Stream::Internal(stream, agent) => match UnixStream::from_std(stream) {
            Ok(stream) => {
                let watched = room.watch.enter();
                let peer = Peer::Internal(agent);
                let caller = Caller::new(room, peer, account, watched, Scheme::Http);
                return serve(stream, caller).await;
            }
            Err(failure) => failure,
        },
    };
    debug!(error = %failure, "failed to serve a connection");
}

async fn welcome_plain(
    stream: TcpStream,
    address: SocketAddr,
    account: Arc<Account>,
    room: Rc<Room>,
) {
    let watched = room.watch.enter();
    let peer = Peer::Public {
        address,
        certificate: None,
    };
    serve(
        stream,
        Caller::new(room, peer, account, watched, Scheme::Http),
    )
    .await;
}

async fn welcome_tls(
    tls: &Tls,
    stream: TcpStream,
    address: SocketAddr,
    account: Arc<Account>,
    room: Rc<Room>,
) {
    // One that is silent in its handshake is as idle as one that asks nothing.
    let watched = room.watch.enter();
    let secured = match watched.unless_told_to_leave(tls::secure(tls, stream)).await {
        Some(Ok(secured)) => secured,
        Some(Err(error)) => return debug!(%address, %error, "no TLS with a caller"),
        None => return,
    };
    let certificate = secured.certificate;
    let account = match &certificate {
        Some(name) => room.ledger.account(&Key::Subject(Arc::clone(name))),
        None => account,
    };
    let peer = Peer::Public {
        address,
        certificate,
    };
    let caller = Caller::new(room, peer, account, watched, Scheme::Https);
    serve_as(secured.protocol, secured.stream, caller).await;
}
