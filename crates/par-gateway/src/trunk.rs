//! Connections to workers that carry many calls at once (HTTP/2): for each replica and thread one, and a few more
//! while the worker takes no further call on it.
//!
//! Callers that know nothing of each other share a trunk, so nothing that one of them does may slow it down or end
//! it for the others: what a call has not taken yet is held against its own window only, and no count of what went
//! wrong is kept for the connection.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::Path;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use h2::SendStream;
use h2::client::{Builder, ResponseFuture, SendRequest};
use http::Request;
use par_model::CallError;
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

/// A worker that takes a few hundred calls on each takes thousands on all of them.
const MAX_TRUNKS: usize = 8;

/// What a worker may send for one call before its caller has taken any of it.
const CALL_WINDOW: u32 = 256 << 10;

/// The largest that HTTP/2 knows: a few callers that do not read would use up any that can be.
const TRUNK_WINDOW: u32 = (1 << 31) - 1;

/// What may be on its way to a worker for one call.
const BUFFER: usize = 128 << 10;

/// Streams that callers have left, for which a worker may still be sending.
const LEFT_STREAMS: usize = 1024;

pub(crate) struct Trunk {
    sender: SendRequest<Bytes>,
    calls: Cell<usize>,
    _connection: AbortOnDropHandle<()>,
}

impl Trunk {
    pub(crate) async fn open(socket: &Path, max_header_bytes: usize) -> io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, connection) = Builder::new()
            .initial_window_size(CALL_WINDOW)
            .initial_connection_window_size(TRUNK_WINDOW)
            .max_header_list_size(u32::try_from(max_header_bytes).unwrap_or(u32::MAX))
            .max_send_buffer_size(BUFFER)
            .max_concurrent_reset_streams(LEFT_STREAMS)
            .max_local_error_reset_streams(None)
            .enable_push(false)
            .handshake(stream)
            .await
            .map_err(io::Error::other)?;
        let connection = async move {
            if let Err(error) = connection.await {
                debug!(%error, "trunk broken");
            }
        };
        Ok(Self {
            sender,
            calls: Cell::new(0),
            _connection: AbortOnDropHandle::new(spawn_local(connection)),
        })
    }

    /// Whether a call that is sent now can still arrive.
    fn is_open(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        let ready = self.sender.clone().poll_ready(&mut nobody);
        matches!(ready, Poll::Ready(Ok(())))
    }

    fn has_room(&self) -> bool {
        self.calls.get() < self.sender.current_max_send_streams()
    }
}

/// The place of one call on a trunk, which stays open as long as there is one.
pub(crate) struct Seat(Rc<Trunk>);

impl Seat {
    fn on(trunk: &Rc<Trunk>) -> Self {
        trunk.calls.set(trunk.calls.get() + 1);
        Self(Rc::clone(trunk))
    }

    /// Begins the call. Dropping all that is returned ends it, and the worker learns of that.
    pub(crate) fn send(
        &self,
        head: Request<()>,
        is_all: bool,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        // A sender that is kept would keep its last stream, and thereby a call that its caller has left.
        self.0.sender.clone().send_request(head, is_all)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.calls.set(self.0.calls.get() - 1);
    }
}

/// The trunks to one replica.
pub(crate) struct Trunks {
    open: RefCell<Vec<Rc<Trunk>>>,
    /// One call opens a trunk, and those that came with it wait to share it.
    opening: Semaphore,
}

impl Default for Trunks {
    fn default() -> Self {
        Self {
            open: RefCell::default(),
            opening: Semaphore::new(1),
        }
    }
}

impl Trunks {
    /// `open` is asked for another trunk if there is no room on those that are open; none if it has none.
    pub(crate) async fn seat(
        &self,
        open: impl Future<Output = Option<Trunk>>,
    ) -> Result<Option<Seat>, CallError> {
        if let Some(seat) = self.free_seat() {
            return Ok(Some(seat));
        }
        let turn = self.opening.acquire().await;
        let _turn = turn.expect("the semaphore is never closed");
        if let Some(seat) = self.free_seat() {
            return Ok(Some(seat));
        }
        if self.open.borrow().len() >= MAX_TRUNKS {
            return Err(CallError::Overloaded);
        }
        let Some(trunk) = open.await.map(Rc::new) else {
            return Ok(None);
        };
        let seat = Seat::on(&trunk);
        self.open.borrow_mut().push(trunk);
        Ok(Some(seat))
    }

    fn free_seat(&self) -> Option<Seat> {
        let mut open = self.open.borrow_mut();
        open.retain(|trunk| trunk.is_open());
        let trunk = open.iter().find(|trunk| trunk.has_room())?;
        Some(Seat::on(trunk))
    }

    /// Closes those that are not needed beside the first.
    pub(crate) fn trim(&self) {
        let mut open = self.open.borrow_mut();
        open.retain(|trunk| trunk.is_open());
        let mut first = true;
        open.retain(|trunk| std::mem::take(&mut first) || trunk.calls.get() > 0);
    }
}
