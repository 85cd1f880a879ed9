//! One call on the channel, from its first frame to its last.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Buf as _, Bytes};
use par_protocol::frame::{self, Frame, FrameError, INITIAL_CREDIT, Kind, MAX_CHUNK};
use tokio::sync::watch;

use super::channel::{Channel, Gone};
use crate::admission::Place;

/// What has come for a call and was not yet taken.
pub(crate) struct Inbox {
    frames: RefCell<VecDeque<Frame>>,
    reader: RefCell<Option<Waker>>,
    /// Bytes of chunks that we may still send.
    allowance: Cell<u64>,
    sender: RefCell<Option<Waker>>,
    /// Bytes of chunks that the agent may still send.
    granted: Cell<u64>,
    closed: Cell<bool>,
    /// There once somebody has asked.
    over: OnceCell<watch::Sender<bool>>,
    hops: u32,
    /// Frames that came and are no chunks.
    heads: Cell<u32>,
}

/// A head, a close, an end, and one to spare.
const MOST_HEADS: u32 = 4;

impl Inbox {
    pub(crate) fn new(hops: u32) -> Self {
        Self {
            frames: RefCell::default(),
            reader: RefCell::default(),
            allowance: Cell::new(INITIAL_CREDIT.into()),
            sender: RefCell::default(),
            granted: Cell::new(INITIAL_CREDIT.into()),
            closed: Cell::new(false),
            over: OnceCell::new(),
            hops,
            heads: Cell::new(0),
        }
    }

    pub(crate) fn receive(&self, frame: Frame) -> Result<(), FrameError> {
        match frame.kind {
            Kind::Credit => {
                let more = (&frame.body[..])
                    .try_get_u32()
                    .map_err(|_| FrameError::Truncated)?;
                self.allowance
                    .set(self.allowance.get().saturating_add(more.into()));
                wake(&self.sender);
                return Ok(());
            }
            Kind::Chunk => {
                let length = frame.body.len() as u64;
                // One chunk may overdraw: the agent sends when it has any credit left.
                if self.granted.get() == 0 || length > MAX_CHUNK as u64 + 1 {
                    return Err(FrameError::TooLarge(frame.body.len()));
                }
                self.granted.set(self.granted.get().saturating_sub(length));
            }
            // A call has one head and one end; what says more floods us.
            _ if self.heads.get() >= MOST_HEADS => return Err(FrameError::OutOfTurn),
            _ => self.heads.set(self.heads.get() + 1),
        }
        self.frames.borrow_mut().push_back(frame);
        wake(&self.reader);
        Ok(())
    }

    pub(crate) fn hops(&self) -> u32 {
        self.hops
    }

    /// For those who do something on behalf of the call: true once it is over.
    pub(crate) fn over(&self) -> watch::Receiver<bool> {
        let over = self
            .over
            .get_or_init(|| watch::Sender::new(self.closed.get()));
        over.subscribe()
    }

    pub(crate) fn close(&self) {
        self.closed.set(true);
        if let Some(over) = self.over.get() {
            over.send_replace(true);
        }
        wake(&self.reader);
        wake(&self.sender);
    }
}

fn wake(slot: &RefCell<Option<Waker>>) {
    if let Some(waker) = slot.borrow_mut().take() {
        waker.wake();
    }
}

/// A call under way. Dropped before its end, it is cancelled.
pub(crate) struct Exchange {
    channel: Rc<Channel>,
    id: u32,
    inbox: Rc<Inbox>,
    /// Chunk bytes taken since the last credit that we gave.
    taken: u32,
    ended: bool,
    /// Given back when the agent is done with the call, which may be after its caller has left.
    place: Option<Place>,
}

impl Exchange {
    pub(crate) fn new(channel: Rc<Channel>, id: u32, inbox: Rc<Inbox>) -> Self {
        Self {
            channel,
            id,
            inbox,
            taken: 0,
            ended: false,
            place: None,
        }
    }

    /// The id of the call on the channel.
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// The call takes this place until the agent is done with it.
    pub(crate) fn hold(&mut self, place: Place) {
        self.place = Some(place);
    }

    pub(crate) fn put(&self, kind: Kind, parts: &[&[u8]]) -> Result<(), FrameError> {
        self.channel.put(self.id, kind, parts)
    }

    /// A second hand on the same call, for whoever sends its chunks.
    pub(crate) fn sender(&self) -> ChunkSender {
        ChunkSender {
            channel: Rc::clone(&self.channel),
            id: self.id,
            inbox: Rc::clone(&self.inbox),
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Frame, Gone> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Frame, Gone>> {
        if let Some(frame) = self.inbox.frames.borrow_mut().pop_front() {
            return Poll::Ready(Ok(frame));
        }
        if self.inbox.closed.get() || self.channel.is_gone() {
            self.ended = true;
            return Poll::Ready(Err(Gone));
        }
        *self.inbox.reader.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Says that a chunk of so many bytes (flags included) was used, so that more may come.
    pub(crate) fn used(&mut self, length: usize) {
        self.taken += u32::try_from(length).unwrap_or(u32::MAX);
        if self.taken >= INITIAL_CREDIT / 2 {
            self.inbox
                .granted
                .set(self.inbox.granted.get() + u64::from(self.taken));
            if self.put(Kind::Credit, &[&self.taken.to_be_bytes()]).is_ok() {
                self.taken = 0;
            }
        }
    }

    /// The last frame has come: nothing is left to cancel.
    pub(crate) fn finish(&mut self) {
        self.ended = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.inbox.close();
        if self.ended {
            self.channel.forget(self.id);
        } else {
            self.channel.cancel(self.id, self.place.take());
        }
    }
}

/// Sends chunks of a call as far as the agent lets it.
pub(crate) struct ChunkSender {
    channel: Rc<Channel>,
    id: u32,
    inbox: Rc<Inbox>,
}

impl ChunkSender {
    /// Sends a part of a body; `last` ends it.
    pub(crate) async fn body(&self, data: Bytes, last: bool) -> Result<(), Gone> {
        self.send(data, 0, if last { frame::CHUNK_LAST } else { 0 })
            .await
    }

    /// Sends one WebSocket message.
    pub(crate) async fn message(&self, data: Bytes, text: bool) -> Result<(), Gone> {
        let kind = if text { frame::CHUNK_TEXT } else { 0 };
        self.send(data, kind | frame::CHUNK_MORE, kind).await
    }

    async fn send(&self, mut data: Bytes, before: u8, at_the_end: u8) -> Result<(), Gone> {
        while data.len() > MAX_CHUNK {
            let piece = data.split_to(MAX_CHUNK);
            self.send_one(&piece, before).await?;
        }
        self.send_one(&data, at_the_end).await
    }

    async fn send_one(&self, piece: &[u8], flags: u8) -> Result<(), Gone> {
        poll_fn(|cx| self.poll_allowance(cx)).await?;
        self.channel.room().await;
        let length = piece.len() as u64 + 1;
        self.inbox
            .allowance
            .set(self.inbox.allowance.get().saturating_sub(length));
        self.channel
            .put(self.id, Kind::Chunk, &[&[flags], piece])
            .expect("a chunk is smaller than the largest frame");
        Ok(())
    }

    fn poll_allowance(&self, cx: &mut Context<'_>) -> Poll<Result<(), Gone>> {
        if self.inbox.closed.get() || self.channel.is_gone() {
            return Poll::Ready(Err(Gone));
        }
        if self.inbox.allowance.get() > 0 {
            return Poll::Ready(Ok(()));
        }
        *self.inbox.sender.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}
