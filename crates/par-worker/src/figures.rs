//! `GET /.par/metrics`: what a worker counts, and what it knows of its agent. `/metrics` is the same page for agents
//! that have no paths of their own; an agent that has may answer it itself.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use par_model::egress::EgressFigures;
use par_model::grpc;
use par_sandbox::Usage;
use par_telemetry::metrics::{
    Calls, Egress, Format, Kind, Page, Surface, Tally, write_egress, write_process,
};

/// Where callers come in. What the runtime answers of itself is not counted.
pub(crate) struct Figures {
    surfaces: [(&'static str, Arc<Calls>); 6],
}

impl Default for Figures {
    fn default() -> Self {
        let http = ["invoke", "exports", "sessions", "ui", "application"];
        let [invoke, exports, sessions, ui, application] =
            http.map(|name| (name, Calls::through(Surface::Http)));
        let grpc = ("grpc", Calls::through(Surface::Grpc));
        Self {
            surfaces: [invoke, exports, sessions, ui, application, grpc],
        }
    }
}

/// What is known at the moment somebody asks.
pub(crate) struct Now {
    pub(crate) in_flight: u32,
    pub(crate) waiting: u32,
    /// None for agents without the execution backend.
    pub(crate) sessions: Option<usize>,
    pub(crate) egress: Option<EgressFigures>,
}

impl Figures {
    /// Counts a call from now on; none for what is not counted.
    pub(crate) fn begin(&self, surface: &str) -> Option<Tally> {
        let mut surfaces = self.surfaces.iter();
        let (_, calls) = surfaces.find(|(name, _)| *name == surface)?;
        Some(Tally::begin(calls))
    }

    /// The surface of a path; none for what the runtime answers of itself.
    pub(crate) fn surface(path: &str, has_sessions: bool) -> Option<&'static str> {
        let first = path.trim_start_matches('/').split('/').next()?;
        match first {
            "health" | "meta" | ".par" => None,
            "invoke" => Some("invoke"),
            "exports" => Some("exports"),
            "sessions" if has_sessions => Some("sessions"),
            "ui" => Some("ui"),
            _ => Some("application"),
        }
    }

    pub(crate) fn write(&self, format: Format, now: &Now, usage: Option<(Usage, Usage)>) -> String {
        let mut page = Page::new(format);
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        page.family(Kind::Info, "par_build", "What runs.")
            .sample(&version, 1);
        self.write_calls(&mut page);
        write_now(&mut page, now);
        if let Some(figures) = &now.egress {
            let egress = Egress {
                agent: None,
                connections: figures.connections,
                sent_bytes: figures.sent_bytes,
                received_bytes: figures.received_bytes,
                refused: &figures.refused,
            };
            write_egress(&mut page, &[egress]);
        }
        if let Some((all, worker)) = usage {
            write_agent(&mut page, &all, &worker);
        }
        write_process(&mut page);
        page.finish()
    }

    fn write_calls(&self, page: &mut Page) {
        let help = "Calls that are over, by surface, and by class of status or code.";
        let mut family = page.family(Kind::Counter, "par_worker_calls", help);
        for (surface, calls) in &self.surfaces {
            for (outcome, count) in calls.outcomes() {
                family.sample(&[("surface", *surface), ("outcome", outcome)], count);
            }
        }
        let (grpc, http) = self.surfaces.split_last().expect("there are surfaces");
        let help = "Time from the head of a request to the end of its answer.";
        let mut family = page.family(
            Kind::Histogram,
            "http_server_request_duration_seconds",
            help,
        );
        for (surface, calls) in http {
            family.histogram(&[("surface", surface)], calls.duration());
        }
        let help = "Time from the head of a gRPC call to its end.";
        page.family(Kind::Histogram, "rpc_server_call_duration_seconds", help)
            .histogram(&[], grpc.1.duration());
    }
}

fn write_now(page: &mut Page, now: &Now) {
    let help = "Calls that the agent works on.";
    page.single(
        Kind::Gauge,
        "par_worker_calls_in_flight",
        help,
        u64::from(now.in_flight),
    );
    let help = "Calls that wait until the agent can work on them.";
    page.single(
        Kind::Gauge,
        "par_worker_calls_waiting",
        help,
        u64::from(now.waiting),
    );
    if let Some(sessions) = now.sessions {
        page.single(
            Kind::Gauge,
            "par_worker_sessions",
            "Execution sessions.",
            sessions as u64,
        );
    }
}

/// The agent's processes are all but the worker itself.
fn write_agent(page: &mut Page, all: &Usage, worker: &Usage) {
    let rss = all.rss_bytes.saturating_sub(worker.rss_bytes);
    let help = "Memory of the agent's processes that is resident; what they share counts for each.";
    page.single(Kind::Gauge, "par_agent_memory_rss_bytes", help, rss);
    let help = "Time on processors of the processes that the agent has now.";
    let (user, system) = (
        (all.user_time - worker.user_time).max(0.0),
        (all.system_time - worker.system_time).max(0.0),
    );
    page.family(Kind::Counter, "par_agent_cpu_seconds", help)
        .sample(&[("mode", "user")], user)
        .sample(&[("mode", "system")], system);
    let threads = all.threads.saturating_sub(worker.threads);
    page.single(
        Kind::Gauge,
        "par_agent_threads",
        "Threads of the agent's processes.",
        threads,
    );
}

/// The body of an answer whose end is the end of a call.
pub(crate) struct Tallied<B> {
    body: B,
    tally: Option<Tally>,
}

impl<B> Tallied<B> {
    /// An HTTP answer goes as its status says.
    pub(crate) fn http(response: Response<B>, mut tally: Option<Tally>) -> Response<Self> {
        if let Some(tally) = &mut tally {
            tally.ends_with(response.status().as_u16());
        }
        response.map(|body| Self { body, tally })
    }

    /// A call goes as its trailers say, or its head if that is all.
    pub(crate) fn grpc(response: Response<B>, mut tally: Option<Tally>) -> Response<Self> {
        if let (Some(tally), Some(code)) = (&mut tally, code(response.headers())) {
            tally.ends_with(code);
        }
        response.map(|body| Self { body, tally })
    }
}

fn code(end: &HeaderMap) -> Option<u16> {
    end.get(grpc::STATUS)?.to_str().ok()?.parse().ok()
}

impl<B: Body<Data = Bytes> + Unpin> Body for Tallied<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        if let (Some(tally), Some(Ok(frame))) = (&mut self.tally, &frame)
            && let Some(code) = frame.trailers_ref().and_then(code)
        {
            tally.ends_with(code);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
