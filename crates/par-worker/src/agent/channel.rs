//! The one channel to the agent process: many calls over one socketpair.
//!
//! Everything here lives on one thread. Frames to the agent are gathered in one buffer, so that calls that come in
//! the same turn of the loop leave in one write. Frames from the agent go to the inbox of their call.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use bytes::BytesMut;
use par_protocol::frame::{self, Frame, FrameCodec, FrameError, Kind, OUTBOUND_BIT};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::codec::Decoder as _;

use super::exchange::{Exchange, Inbox};
use crate::admission::Place;

/// Bytes that may wait for the agent to read before those who send large bodies have to wait.
const HIGH_WATER: usize = 1 << 20;
/// What no agent that reads can let pile up: all that waits politely, and the largest body.
const FLOOD: usize = HIGH_WATER + frame::MAX_BODY + (16 << 20);
const READ_BUFFER: usize = 64 << 10;

/// What the channel ended with, for the calls that were under way.
#[derive(Clone, Debug)]
pub(crate) struct Gone;

pub(crate) struct Channel {
    out: RefCell<BytesMut>,
    filled: Notify,
    drained: Notify,
    calls: RefCell<HashMap<u32, Call>>,
    flooded: Notify,
    last_id: Cell<u32>,
    gone: Cell<bool>,
}

/// A call as the channel knows it.
enum Call {
    UnderWay(Rc<Inbox>),
    /// Its caller has left; its place is taken until the agent says that it is over.
    Cancelled {
        _place: Option<Place>,
    },
}

/// The two halves that move bytes, and the frames that belong to no call of ours.
pub(crate) struct Pump {
    channel: Rc<Channel>,
    read: OwnedReadHalf,
    write: OwnedWriteHalf,
    codec: FrameCodec,
    unasked: mpsc::Sender<Frame>,
}

/// `unasked` gets what the agent says of itself: ready, logs, outbound calls.
pub(crate) fn open(
    stream: UnixStream,
    codec: FrameCodec,
    unasked: mpsc::Sender<Frame>,
) -> (Rc<Channel>, Pump) {
    let (read, write) = stream.into_split();
    let channel = Rc::new(Channel {
        out: RefCell::default(),
        filled: Notify::new(),
        drained: Notify::new(),
        calls: RefCell::default(),
        flooded: Notify::new(),
        last_id: Cell::new(0),
        gone: Cell::new(false),
    });
    let pump = Pump {
        channel: Rc::clone(&channel),
        read,
        write,
        codec,
        unasked,
    };
    (channel, pump)
}

impl Channel {
    /// Begins a call that was made after `hops` agents had called each other. Its id is not in use, and not 0.
    pub(crate) fn begin(self: &Rc<Self>, hops: u32) -> Exchange {
        let mut calls = self.calls.borrow_mut();
        let mut id = self.last_id.get();
        loop {
            id = id.wrapping_add(1) & !OUTBOUND_BIT;
            if id != 0 && !calls.contains_key(&id) {
                break;
            }
        }
        self.last_id.set(id);
        let inbox = Rc::new(Inbox::new(hops));
        calls.insert(id, Call::UnderWay(Rc::clone(&inbox)));
        Exchange::new(Rc::clone(self), id, inbox)
    }

    /// How many agents had called each other when call `id` was made; 0 for one that is over.
    pub(crate) fn hops(&self, id: u32) -> u32 {
        match self.calls.borrow().get(&id) {
            Some(Call::UnderWay(inbox)) => inbox.hops(),
            _ => 0,
        }
    }

    /// Tells when call `id` is over; none for one that is over already.
    pub(crate) fn over(&self, id: u32) -> Option<watch::Receiver<bool>> {
        match self.calls.borrow().get(&id) {
            Some(Call::UnderWay(inbox)) => Some(inbox.over()),
            _ => None,
        }
    }

    /// Whether somebody waits for what call `id` says.
    pub(crate) fn is_under_way(&self, id: u32) -> bool {
        matches!(self.calls.borrow().get(&id), Some(Call::UnderWay(_)))
    }

    pub(crate) fn forget(&self, id: u32) {
        self.calls.borrow_mut().remove(&id);
    }

    /// Tells the agent that nobody waits for call `id` any more.
    pub(crate) fn cancel(&self, id: u32, place: Option<Place>) {
        if self.gone.get() {
            return self.forget(id);
        }
        self.calls
            .borrow_mut()
            .insert(id, Call::Cancelled { _place: place });
        self.put(id, Kind::Cancel, &[])
            .expect("an empty frame is never too large");
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.get()
    }

    /// Puts a frame into the buffer; it leaves when the tasks that are ready now have run.
    pub(crate) fn put(&self, id: u32, kind: Kind, parts: &[&[u8]]) -> Result<(), FrameError> {
        if self.gone.get() {
            return Ok(()); // Whoever waits for the answer is told by its inbox.
        }
        let mut out = self.out.borrow_mut();
        frame::put(&mut out, id, kind, parts)?;
        if out.len() > FLOOD {
            self.flooded.notify_one();
        }
        self.filled.notify_one();
        Ok(())
    }

    /// Waits until the agent has read most of what was put. Whoever puts large bodies waits first.
    pub(crate) async fn room(&self) {
        while self.out.borrow().len() > HIGH_WATER && !self.gone.get() {
            self.drained.notified().await;
        }
    }

    /// Tells every call that is under way that the agent is gone.
    pub(crate) fn close(&self) {
        self.gone.set(true);
        self.drained.notify_waiters();
        self.filled.notify_one();
        for call in self.calls.borrow().values() {
            if let Call::UnderWay(inbox) = call {
                inbox.close();
            }
        }
    }
}

impl Pump {
    /// Moves frames both ways until the agent closes its end or breaks the protocol.
    pub(crate) async fn run(self) -> Result<(), FrameError> {
        let Self {
            channel,
            read,
            write,
            codec,
            unasked,
        } = self;
        let ended = tokio::select! {
            ended = receive(&channel, read, codec, unasked) => ended,
            ended = send(&channel, write) => ended,
            () = channel.flooded.notified() => Err(FrameError::NotRead),
        };
        channel.close();
        ended
    }
}

async fn send(channel: &Channel, mut write: OwnedWriteHalf) -> Result<(), FrameError> {
    loop {
        let bytes = channel.out.borrow_mut().split();
        if bytes.is_empty() {
            channel.filled.notified().await;
            continue;
        }
        write.write_all(&bytes).await?;
        channel.drained.notify_waiters();
    }
}

async fn receive(
    channel: &Channel,
    mut read: OwnedReadHalf,
    mut codec: FrameCodec,
    unasked: mpsc::Sender<Frame>,
) -> Result<(), FrameError> {
    let mut buffer = BytesMut::with_capacity(READ_BUFFER);
    loop {
        while let Some(frame) = codec.decode(&mut buffer)? {
            if let Some(frame) = deliver(channel, frame)? {
                // The receiver is gone only when the worker is ending.
                if unasked.send(frame).await.is_err() {
                    return Ok(());
                }
            }
        }
        buffer.reserve(READ_BUFFER);
        if read.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
    }
}

/// Gives a frame to its call; returns it when it belongs to none of ours.
fn deliver(channel: &Channel, frame: Frame) -> Result<Option<Frame>, FrameError> {
    if frame.id == 0 || frame.id & OUTBOUND_BIT != 0 {
        return Ok(Some(frame));
    }
    let inbox = match channel.calls.borrow().get(&frame.id) {
        Some(Call::UnderWay(inbox)) => Some(Rc::clone(inbox)),
        _ => None,
    };
    match inbox {
        Some(inbox) => inbox.receive(frame)?,
        // The end of a cancelled call; anything else is late news.
        None if matches!(frame.kind, Kind::Result | Kind::Error) => channel.forget(frame.id),
        None => {}
    }
    Ok(None)
}
