//! A gateway with a folder for the sockets of its workers.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use par_gateway::{
    Backend, Callers, Config, Control, Gate, Gateway, Listeners, Peer, Route, RouteTable, Routes,
    Targets, Tls, Wake, start,
};
use par_model::{AgentId, ReplicaId};
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::wire::soon;

pub(crate) struct House {
    pub(crate) gateway: Gateway,
    pub(crate) routes: Routes,
    pub(crate) address: SocketAddr,
    folder: TempDir,
    replicas: AtomicU64,
    wakes: Arc<Mutex<Vec<AgentId>>>,
}

impl House {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let myself = std::process::id();
        let callers: Callers = Arc::new(move |pid| (pid == myself).then(|| agent("caller")));
        Self::with_callers(config, callers)
    }

    pub(crate) fn with_callers(config: Config, callers: Callers) -> Self {
        let public = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::on(public, config, callers)
    }

    pub(crate) fn secured(tls: Tls, config: Config) -> Self {
        let public = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::open(public, Some(tls), config, Arc::new(|_| None), Gate::open())
    }

    pub(crate) fn on(public: TcpListener, config: Config, callers: Callers) -> Self {
        Self::open(public, None, config, callers, Gate::open())
    }

    /// Callers from outside pass as this gate says.
    pub(crate) fn behind(gate: Gate) -> Self {
        let public = TcpListener::bind("127.0.0.1:0").expect("a free port");
        Self::open(public, None, Config::default(), Arc::new(|_| None), gate)
    }

    fn open(
        public: TcpListener,
        tls: Option<Tls>,
        config: Config,
        callers: Callers,
        gate: Gate,
    ) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let wakes = Arc::new(Mutex::new(Vec::new()));
        let woken = Arc::clone(&wakes);
        let wake: Wake = Arc::new(move |agent| woken.lock().expect("whole").push(agent.clone()));
        let routes = Routes::default();
        let listeners = Listeners {
            public,
            tls,
            internal: Some(UnixListener::bind(folder.path().join("internal")).expect("a socket")),
        };
        let gateway = start(
            listeners,
            config,
            routes.clone(),
            gate,
            control(),
            callers,
            wake,
        )
        .expect("a gateway");
        Self {
            address: gateway.local_addr(),
            gateway,
            routes,
            folder,
            replicas: AtomicU64::new(1),
            wakes,
        }
    }

    /// Who was woken, each time that one was.
    pub(crate) fn woken(&self) -> Vec<AgentId> {
        self.wakes.lock().expect("whole").clone()
    }

    pub(crate) fn internal_door(&self) -> PathBuf {
        self.folder.path().join("internal")
    }

    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new incarnation whose worker listens on `socket`.
    pub(crate) fn backend(&self, name: &str, socket: PathBuf) -> Arc<Backend> {
        let replica = ReplicaId(self.replicas.fetch_add(1, Ordering::Relaxed));
        Backend::new(&agent(name), replica, socket)
    }

    pub(crate) fn publish(&self, routes: impl IntoIterator<Item = (&'static str, Route)>) {
        let table: RouteTable = routes
            .into_iter()
            .map(|(name, route)| (agent(name), route))
            .collect();
        self.routes.publish(table);
    }

    /// Agent `a` is ready on the socket `a`.
    pub(crate) fn publish_a(&self) -> Arc<Backend> {
        let backend = self.backend("a", self.socket("a"));
        self.publish([("a", ready(&backend))]);
        backend
    }
}

/// One replica, which takes all calls.
pub(crate) fn ready(backend: &Arc<Backend>) -> Route {
    Route::Ready(Targets::one(Arc::clone(backend)))
}

pub(crate) fn agent(name: &str) -> AgentId {
    name.parse().expect("a valid name")
}

/// Answers with what it was asked, and by whom.
fn control() -> Control {
    Control {
        runtime: Handle::current(),
        answer: Arc::new(|request, peer| {
            Box::pin(async move {
                let peer = match peer {
                    Peer::Public {
                        certificate: Some(name),
                        ..
                    } => format!("public {name}"),
                    Peer::Public { .. } => "public".to_owned(),
                    Peer::Internal(agent) => agent.to_string(),
                };
                let headers = request.headers().len();
                let text = format!("control {} for {peer}, {headers} headers", request.uri());
                let body = Full::new(Bytes::from(text)).map_err(|never| match never {});
                Response::new(body.boxed_unsync())
            })
        }),
    }
}

/// Waits until the backend has nothing to do.
pub(crate) async fn rest(backend: &Backend) {
    soon(async {
        while backend.in_flight() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
