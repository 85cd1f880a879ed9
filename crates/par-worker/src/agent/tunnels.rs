//! What an agent in a network of its own finds where its environment says: the supervisor, its own ports, and its proxy.
//!
//! The confiner listens there and hands us the sockets. Each connection is carried to the real place, byte by byte; the
//! supervisor knows by the channel, which is ours, who calls.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use par_model::control::WorkerSpec;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// Connections of one agent through its tunnels at one time; more wait.
const MOST_CONNECTIONS: usize = 256;
const LONGEST_CONNECT: Duration = Duration::from_secs(5);
/// After an accept that failed for want of descriptors.
const BREATH: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Socket(PathBuf),
    Address(SocketAddr),
}

/// A port of the agent's own loopback device, and what is behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tunnel {
    pub(crate) port: u16,
    end: End,
}

/// All that this agent needs. An agent without a network of its own has the machine's, and needs none.
pub(crate) fn of(spec: &WorkerSpec, proxy: SocketAddr) -> Vec<Tunnel> {
    if !spec.isolation.profile.has_namespaces() {
        return vec![];
    }
    let own = |port| Tunnel {
        port,
        end: End::Address(SocketAddr::new(reachable(spec.host), port)),
    };
    let proxy = Tunnel {
        port: proxy.port(),
        end: End::Address(proxy),
    };
    let mut tunnels = vec![own(spec.port), own(spec.grpc_port), proxy];
    if let Some(tunnel) = to_supervisor(spec)
        && tunnels.iter().all(|other| other.port != tunnel.port)
    {
        tunnels.push(tunnel);
    }
    tunnels
}

fn to_supervisor(spec: &WorkerSpec) -> Option<Tunnel> {
    let address: SocketAddr = spec.supervisor_url.strip_prefix("http://")?.parse().ok()?;
    // Without a channel on which the supervisor knows who calls there is no way: through its public door an agent would be
    // somebody of this machine, who may do everything.
    let socket = spec.supervisor_socket.clone()?;
    Some(Tunnel {
        port: address.port(),
        end: End::Socket(socket),
    })
}

/// Who listens everywhere is reached here.
fn reachable(host: std::net::IpAddr) -> std::net::IpAddr {
    match host {
        std::net::IpAddr::V4(host) if host.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        std::net::IpAddr::V6(host) if host.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

/// Carries connections until it is dropped.
pub(crate) fn dig(
    tunnels: &[Tunnel],
    listeners: Vec<std::net::TcpListener>,
) -> io::Result<Vec<AbortOnDropHandle<()>>> {
    let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
    let mut open = vec![];
    for (tunnel, listener) in tunnels.iter().zip(listeners) {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let carrying = carry_all(listener, tunnel.end.clone(), Arc::clone(&places));
        open.push(AbortOnDropHandle::new(tokio::task::spawn_local(carrying)));
    }
    Ok(open)
}

async fn carry_all(listener: TcpListener, end: End, places: Arc<Semaphore>) {
    let mut carried = JoinSet::new();
    loop {
        while carried.try_join_next().is_some() {}
        let place = Arc::clone(&places).acquire_owned().await;
        let place = place.expect("the semaphore is never closed");
        let near = match listener.accept().await {
            Ok((near, _)) => near,
            Err(error) => {
                debug!(%error, "failed to accept a connection of the agent's");
                sleep(BREATH).await;
                continue;
            }
        };
        let end = end.clone();
        carried.spawn_local(async move {
            if let Err(error) = carry(near, &end).await {
                debug!(%error, ?end, "a connection of the agent's broke");
            }
            drop(place);
        });
    }
}

async fn carry(near: TcpStream, end: &End) -> io::Result<()> {
    match end {
        End::Socket(path) => splice(near, connected(UnixStream::connect(path)).await?).await,
        End::Address(address) => splice(near, connected(TcpStream::connect(address)).await?).await,
    }
}

async fn connected<S>(connecting: impl Future<Output = io::Result<S>>) -> io::Result<S> {
    let late = |_| io::ErrorKind::TimedOut.into();
    timeout(LONGEST_CONNECT, connecting)
        .await
        .unwrap_or_else(|elapsed| Err(late(elapsed)))
}

async fn splice<S: AsyncRead + AsyncWrite + Unpin>(
    mut near: TcpStream,
    mut far: S,
) -> io::Result<()> {
    copy_bidirectional(&mut near, &mut far).await.map(drop)
}
