//! Routing with many agents known, beside routing with one: the gateway alone, before a worker that does nothing, in
//! this process. What is compared is the same gateway with another table.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use par_gateway::{
    Backend, Config, Control, ControlAnswer, Gate, Gateway, Listeners, Route, RouteTable, Routes,
    Targets, start,
};
use par_model::{AgentId, ReplicaId};
use serde::Serialize;
use serde_json::json;
use tokio::runtime::Handle;

use super::answer::post_json;
use super::call::{Call, HttpCall};
use super::extent::Extent;
use super::load::load;
use super::progress;
use super::statistics::median;
use super::workshop::Workshop;

const MANY: usize = 1000;
const AT_A_TIME: usize = 16;
/// A ratio near 1 wants more rounds than one that is not.
const MORE_ROUNDS: usize = 3;
const PUBLISHED: u32 = 200;
pub(super) const GRACE: Duration = Duration::from_secs(2);

#[derive(Serialize)]
pub(crate) struct Known {
    pub(crate) with_one: Routing,
    pub(crate) with_many: Routing,
    /// Calls per second with many ÷ with one, of each round; their median.
    pub(crate) ratio: f64,
}

#[derive(Serialize)]
pub(crate) struct Routing {
    pub(crate) agents: usize,
    pub(crate) per_second: f64,
    pub(crate) p50_us: f64,
    /// A change of one agent's route.
    pub(crate) publish_us: f64,
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Known> {
    progress("routing with many agents known")?;
    let socket = workshop.folder().join("known.sock");
    answer_all(UnixListener::bind(&socket)?);
    let routes = Routes::default();
    let gateway = gateway(&routes, Config::default())?;
    let tables = [1, MANY].map(|agents| table(agents, &socket));
    let call = call(gateway.local_addr(), &routes, &tables[0]).await?;
    let mut samples = [vec![], vec![]];
    for _ in 0..extent.rounds * MORE_ROUNDS {
        for (table, samples) in tables.iter().zip(&mut samples) {
            routes.publish(table.clone());
            samples.push(load(&call, AT_A_TIME, extent.round / 2).await?);
        }
    }
    let [ones, manies] = &samples;
    let ratios = ones.iter().zip(manies);
    let ratio = median(
        ratios
            .map(|(one, many)| many.per_second / one.per_second)
            .collect(),
    );
    let routing = |agents: usize, samples: &[super::load::Sample], table: &RouteTable| Routing {
        agents,
        per_second: median(samples.iter().map(|sample| sample.per_second).collect()),
        p50_us: median(samples.iter().map(|sample| sample.p50_us).collect()),
        publish_us: publishing(&routes, table),
    };
    let known = Known {
        with_one: routing(1, ones, &tables[0]),
        with_many: routing(MANY, manies, &tables[1]),
        ratio,
    };
    gateway.shutdown(GRACE).await;
    Ok(known)
}

pub(super) async fn call(
    address: SocketAddr,
    routes: &Routes,
    table: &RouteTable,
) -> anyhow::Result<Call> {
    routes.publish(table.clone());
    let body = json!({ "x": 1 });
    let proven = HttpCall::prove(address, post_json("/agents/a0/invoke", &body), &body).await;
    let proven = proven.context("the first call through a gateway of our own")?;
    Ok(Call::Http(Rc::new(proven)))
}

pub(super) fn gateway(routes: &Routes, config: Config) -> anyhow::Result<Gateway> {
    let listeners = Listeners {
        public: TcpListener::bind("127.0.0.1:0")?,
        tls: None,
        internal: None,
    };
    let control = Control {
        runtime: Handle::current(),
        answer: Arc::new(|_, _| Box::pin(std::future::pending()) as ControlAnswer),
    };
    let (callers, wake) = (Arc::new(|_| None), Arc::new(|_: &AgentId| {}));
    let routes = routes.clone();
    let gate = Gate::open();
    Ok(start(
        listeners, config, routes, gate, control, callers, wake,
    )?)
}

pub(super) fn table(agents: usize, socket: &Path) -> RouteTable {
    (0..agents)
        .map(|number| {
            let agent: AgentId = format!("a{number}").parse().expect("a valid id");
            let replica = ReplicaId(number as u64);
            let backend = Backend::new(&agent, replica, socket.to_owned());
            (agent, Route::Ready(Targets::one(backend)))
        })
        .collect()
}

/// In microseconds, the mean.
fn publishing(routes: &Routes, table: &RouteTable) -> f64 {
    routes.publish(table.clone());
    let agent: AgentId = "a0".parse().expect("a valid id");
    let begun = Instant::now();
    for _ in 0..PUBLISHED {
        routes.change(|table| table.set(&agent, Route::Down));
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(PUBLISHED)
}

/// As little of a worker as a gateway can tell from one; a thread for each connection, which ends with it.
pub(super) fn answer_all(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || answer_until_the_end(stream));
        }
    });
}

fn answer_until_the_end(mut stream: UnixStream) {
    const BODY: &[u8] = b"{\"x\":1}";
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece) {
            Ok(count @ 1..) => request.extend_from_slice(&piece[..count]),
            Ok(0) | Err(_) => return,
        }
        if !request.ends_with(BODY) {
            continue;
        }
        request.clear();
        let answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 7\r\n\r\n{\"x\":1}";
        if stream.write_all(answer).is_err() {
            return;
        }
    }
}
