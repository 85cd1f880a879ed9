//! Connections to workers: one pool per replica and thread, so that no lock is needed and no connection that was
//! opened to one incarnation can ever carry a call for another.
//!
//! No task runs a connection: whoever waits for an answer drives the connection that brings it. Dropping the
//! answer drops the connection, which is how a caller's disconnect reaches the agent.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::path::Path;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use par_model::{AgentId, ReplicaId};
use tokio::net::UnixStream;

use crate::backend::{Backend, InFlight};
use crate::routes::RouteTable;
use crate::trunk::Trunks;

/// Enough for the calls that come and go at one time; a burst's surplus is closed.
const MAX_IDLE_PER_REPLICA: usize = 256;

/// Largest piece of an answer that is held between worker and caller.
const BUFFER: usize = 128 << 10;

/// One connection to a worker, cheap to hand around.
pub(crate) struct Link(Box<Ends>);

struct Ends {
    sender: http1::SendRequest<Incoming>,
    /// None once it is over.
    connection: Option<http1::Connection<TokioIo<UnixStream>, Incoming>>,
}

/// Why a request got no answer.
pub(crate) enum Unanswered {
    /// Nothing of it was written: it may be sent again.
    Unsent(Box<Request<Incoming>>),
    /// The caller's own body broke off, or was not framed as HTTP.
    BadBody,
    /// The agent may have seen it.
    Broken(hyper::Error),
}

impl Link {
    pub(crate) async fn open(socket: &Path, max_header_bytes: usize) -> io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(BUFFER.max(max_header_bytes))
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        Ok(Self(Box::new(Ends {
            sender,
            connection: Some(connection),
        })))
    }

    /// The last exchange is over, both ways.
    fn is_ready(&self) -> bool {
        self.0.sender.is_ready()
    }

    fn drive(&mut self, cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        match &mut self.0.connection {
            Some(connection) => connection.poll_without_shutdown(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Incoming>,
    ) -> Result<Response<Incoming>, Unanswered> {
        let Ends { sender, connection } = &mut *self.0;
        let mut answer = pin!(sender.try_send_request(request));
        let sent = poll_fn(|cx| {
            let over = match connection {
                Some(connection) => connection.poll_without_shutdown(cx).is_ready(),
                None => true,
            };
            // Only the connection, polled just now, can bring the answer: a waker would wake its own task again.
            let mut nobody = Context::from_waker(Waker::noop());
            let polled = answer.as_mut().poll(&mut nobody);
            if over && polled.is_pending() {
                // It was closed before it took the request; what it never took comes back when it is dropped.
                *connection = None;
                return answer.as_mut().poll(&mut nobody);
            }
            polled
        });
        sent.await
            .map_err(|mut failure| match failure.take_message() {
                Some(request) => Unanswered::Unsent(Box::new(request)),
                None if failure.error().is_user() => Unanswered::BadBody,
                None => Unanswered::Broken(failure.into_error()),
            })
    }

    /// The bare stream after a switch of protocols, and what was already read from it.
    pub(crate) fn into_stream(self) -> Option<(UnixStream, Bytes)> {
        let parts = self.0.connection?.into_parts();
        Some((parts.io.into_inner(), parts.read_buf))
    }
}

/// The idle connections to one replica, and those that are shared.
pub(crate) struct Pool {
    agent: AgentId,
    pub(crate) trunks: Trunks,
    idle: RefCell<Vec<Link>>,
    /// The fewest connections that were idle at any time since the last look: nobody needed those.
    unneeded: Cell<usize>,
}

impl Pool {
    fn of(agent: &AgentId) -> Self {
        Self {
            agent: agent.clone(),
            trunks: Trunks::default(),
            idle: RefCell::default(),
            unneeded: Cell::default(),
        }
    }

    /// The worker may have closed it meanwhile: then what is sent comes back unsent.
    pub(crate) fn take(&self) -> Option<Link> {
        let mut idle = self.idle.borrow_mut();
        let link = idle.pop();
        self.unneeded.set(self.unneeded.get().min(idle.len()));
        link
    }

    fn put(&self, link: Link) {
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE_PER_REPLICA {
            idle.push(link);
        }
    }

    /// Closes what was not needed since the last time; the longest idle are at the bottom.
    fn trim(&self) {
        let mut idle = self.idle.borrow_mut();
        let unneeded = self.unneeded.get().min(idle.len());
        idle.drain(..unneeded);
        self.unneeded.set(idle.len());
        self.trunks.trim();
    }
}

/// All pools of one thread.
#[derive(Default)]
pub(crate) struct Pools(RefCell<HashMap<ReplicaId, Rc<Pool>>>);

impl Pools {
    pub(crate) fn of(&self, backend: &Backend) -> Rc<Pool> {
        let mut pools = self.0.borrow_mut();
        let pool = pools.entry(backend.replica());
        Rc::clone(pool.or_insert_with(|| Rc::new(Pool::of(backend.agent()))))
    }

    /// Closes the idle connections to replicas that were withdrawn.
    pub(crate) fn keep_to(&self, table: &RouteTable) {
        let mut pools = self.0.borrow_mut();
        pools.retain(|replica, pool| table.leads(pool.agent.as_str(), *replica));
    }

    pub(crate) fn trim(&self) {
        for pool in self.0.borrow().values() {
            pool.trim();
        }
    }
}

/// The body of an agent's answer, and the connection that it comes from.
pub(crate) struct AgentBody {
    body: Incoming,
    link: Option<Link>,
    pool: Rc<Pool>,
    _in_flight: InFlight,
}

impl AgentBody {
    pub(crate) fn new(body: Incoming, link: Link, pool: Rc<Pool>, in_flight: InFlight) -> Self {
        Self {
            body,
            link: Some(link),
            pool,
            _in_flight: in_flight,
        }
    }
}

impl Body for AgentBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let this = &mut *self;
        let mut nobody = Context::from_waker(Waker::noop());
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(&mut nobody) {
            return Poll::Ready(frame);
        }
        if let Some(link) = &mut this.link
            && link.drive(cx).is_ready()
        {
            this.link = None;
        }
        Pin::new(&mut this.body).poll_frame(&mut nobody)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AgentBody {
    fn drop(&mut self) {
        // A connection with an exchange that is not over is closed: this is what the worker notices.
        if let Some(link) = self.link.take()
            && link.is_ready()
        {
            self.pool.put(link);
        }
    }
}
