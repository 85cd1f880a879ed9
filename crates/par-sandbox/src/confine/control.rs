//! The socket between a worker and its confiner.
//!
//! ```text
//! worker ── length, plan; with it the agent's channel ──▶ confiner
//! worker ◀─ one line: what took hold, or what failed; with it the listeners ──
//! worker ── one byte: go ──▶
//! ```

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncWriteExt as _, Interest};

use super::plan::{Confined, Plan};
use super::{Failed, Step};

/// Of a plan, in bytes: an environment may be large.
const LARGEST_PLAN: u32 = 8 << 20;
/// Of what the confiner says, in bytes.
const LONGEST_LINE: usize = 16 << 10;
/// Descriptors that go with one message.
const MOST_DESCRIPTORS: usize = 8;
const GO: u8 = b'g';

/// What the confiner says.
#[derive(Serialize, Deserialize)]
enum Said {
    Confined(Confined),
    Failed { step: String, error: String },
}

/// The confiner's end: what it was asked for.
pub(crate) struct Received {
    pub(super) control: UnixStream,
    /// The agent's end of its channel.
    pub(super) channel: OwnedFd,
    pub(super) plan: Plan,
}

impl Received {
    pub(super) fn from_standard_input() -> io::Result<Self> {
        let mut control = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        let mut length = [0; 4];
        let channel = receive(&control, &mut length)?;
        let channel = channel.ok_or_else(|| io::Error::other("__confine is for `par` itself"))?;
        let length = u32::from_le_bytes(length);
        if length > LARGEST_PLAN {
            return Err(io::Error::other("the plan is too large"));
        }
        let mut plan = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        control.read_exact(&mut plan)?;
        Ok(Self {
            control,
            channel,
            plan: serde_json::from_slice(&plan)?,
        })
    }
}

/// Fills `bytes`, and returns the descriptor that came with them.
fn receive(socket: &UnixStream, bytes: &mut [u8]) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut buffers = [IoSliceMut::new(bytes)];
    let flags = RecvFlags::WAITALL | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut buffers, &mut ancillary, flags)?;
    if received.bytes != bytes.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(descriptors(&mut ancillary).pop())
}

fn descriptors(ancillary: &mut RecvAncillaryBuffer<'_>) -> Vec<OwnedFd> {
    let rights = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(rights) => Some(rights),
        _ => None,
    });
    rights.flatten().collect()
}

/// Says what took hold, hands over `listeners`, and waits for the word to go on.
pub(super) fn wait_for_go(
    mut control: UnixStream,
    confined: Confined,
    listeners: &[TcpListener],
) -> Result<(), Failed> {
    let listeners: Vec<BorrowedFd<'_>> = listeners.iter().map(|socket| socket.as_fd()).collect();
    say(&control, &Said::Confined(confined), &listeners).step("say what took hold")?;
    let mut word = [0];
    control
        .read_exact(&mut word)
        .step("hear whether to go on")?;
    match word {
        [GO] => Ok(()),
        _ => Err(io::Error::other("the worker said something else")).step("hear whether to go on"),
    }
}

/// Nobody may be left to hear it.
pub(super) fn tell_failure(control: &UnixStream, failed: &Failed) {
    let said = Said::Failed {
        step: failed.to_string(),
        error: failed.source.to_string(),
    };
    let _nobody_listens = say(control, &said, &[]);
}

fn say(control: &UnixStream, said: &Said, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(said)?;
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("more listeners than go with one message"));
    }
    let sent = sendmsg(
        control,
        &[IoSlice::new(&line)],
        &mut ancillary,
        SendFlags::NOSIGNAL,
    )?;
    (&*control).write_all(&line[sent..])
}

/// The worker's end: behind it waits a process that was not let go yet. Dropped, it never is.
pub struct Gate {
    control: tokio::net::UnixStream,
}

impl Gate {
    pub(crate) fn new(control: UnixStream) -> io::Result<Self> {
        control.set_nonblocking(true)?;
        let control = tokio::net::UnixStream::from_std(control)?;
        Ok(Self { control })
    }

    /// Says what to do, and waits until it is done: what took hold, and who listens on the ports of the plan, in their
    /// order.
    pub async fn confined(
        &mut self,
        plan: &Plan,
        channel: OwnedFd,
    ) -> io::Result<(Confined, Vec<TcpListener>)> {
        let plan = serde_json::to_vec(plan)?;
        let length = u32::try_from(plan.len())
            .ok()
            .filter(|length| *length <= LARGEST_PLAN);
        let length = length.ok_or_else(|| io::Error::other("the environment is too large"))?;
        self.send_with(&length.to_le_bytes(), &channel).await?;
        drop(channel);
        self.control.write_all(&plan).await?;
        self.answer().await
    }

    async fn send_with(&self, bytes: &[u8], descriptor: &OwnedFd) -> io::Result<()> {
        let sent = self.control.async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut ancillary = SendAncillaryBuffer::new(&mut space);
            let descriptors = [descriptor.as_fd()];
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
            let bytes = [IoSlice::new(bytes)];
            Ok(sendmsg(
                &self.control,
                &bytes,
                &mut ancillary,
                SendFlags::NOSIGNAL,
            )?)
        });
        match sent.await? {
            sent if sent == bytes.len() => Ok(()),
            _ => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    async fn answer(&self) -> io::Result<(Confined, Vec<TcpListener>)> {
        let (mut line, mut listeners) = (vec![], vec![]);
        while line.last() != Some(&b'\n') {
            let (piece, came) = self.piece().await?;
            if piece.is_empty() {
                return Err(io::Error::other("the confiner ended without a word"));
            }
            line.extend(piece);
            listeners.extend(came.into_iter().map(TcpListener::from));
            if line.len() > LONGEST_LINE {
                return Err(io::Error::other("the confiner said more than is known"));
            }
        }
        match serde_json::from_slice(&line)? {
            Said::Confined(confined) => Ok((confined, listeners)),
            Said::Failed { step, error } => Err(io::Error::other(format!("{step}: {error}"))),
        }
    }

    async fn piece(&self) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
        let received = self.control.async_io(Interest::READABLE, || {
            let mut bytes = [0; 4 << 10];
            let mut space =
                [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let mut buffers = [IoSliceMut::new(&mut bytes)];
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(&self.control, &mut buffers, &mut ancillary, flags)?;
            Ok((
                bytes[..received.bytes].to_vec(),
                descriptors(&mut ancillary),
            ))
        });
        received.await
    }

    /// Lets the program begin.
    pub async fn open(mut self) -> io::Result<()> {
        self.control.write_all(&[GO]).await
    }
}
