//! How one supervisor gives its place to the next while calls go on.
//!
//! ```text
//! old                                            new (a child of the old, its standard input a socket to it)
//!  ├─ starts the new binary ──────────────────▶  reads its settings
//!  │  ◀───────────────────────── "here" ───────┤
//!  ├─ driver stops, state file closes            (workers go on; the old gateway still passes calls)
//!  ├─ "go", with the listening socket and the lock ▶  opens the state file, adopts the workers, listens
//!  │  ◀──────────────────────── "serving" ─────┤
//!  └─ accepts no more, finishes its calls, ends
//! ```
//! When the new one fails at any step, the old one goes on as before.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::process::Child;
use tokio::time::timeout;

/// The variable by which a process knows that it takes over from whoever started it.
pub(crate) const VARIABLE: &str = "PAR_HANDOVER";

/// For the new process to say that it is there, and to serve.
const PATIENCE: Duration = Duration::from_secs(60);

const HERE: u8 = b'h';
const GO: u8 = b'g';
const SERVING: u8 = b's';

/// What a process that takes over gets.
pub(crate) struct Inheritance {
    pub(crate) public: TcpListener,
    pub(crate) lock: File,
    predecessor: UnixStream,
}

impl Inheritance {
    /// Waits for it, if this process is to take over.
    pub(crate) fn of_this_process() -> io::Result<Option<Self>> {
        if std::env::var_os(VARIABLE).is_none() {
            return Ok(None);
        }
        let predecessor = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
        predecessor.set_read_timeout(Some(PATIENCE))?;
        say(&predecessor, HERE)?;
        let mut fds = receive(&predecessor)?.into_iter();
        let missing = || io::Error::other("the supervisor before us gave us no sockets");
        Ok(Some(Self {
            public: TcpListener::from(fds.next().ok_or_else(missing)?),
            lock: File::from(fds.next().ok_or_else(missing)?),
            predecessor,
        }))
    }

    /// From now on the one before us may go.
    pub(crate) fn serving(&self) -> io::Result<()> {
        say(&self.predecessor, SERVING)
    }
}

fn say(to: &UnixStream, word: u8) -> io::Result<()> {
    io::Write::write_all(&mut &*to, &[word])
}

fn receive(from: &UnixStream) -> io::Result<Vec<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut word = [0];
    let received = recvmsg(
        from,
        &mut [IoSliceMut::new(&mut word)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    if received.bytes == 0 || word != [GO] {
        return Err(io::Error::other("the supervisor before us has gone"));
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    Ok(rights.flatten().collect())
}

/// A process that is to take over.
pub(crate) struct Successor {
    pub(crate) child: Child,
    socket: tokio::net::UnixStream,
}

impl Successor {
    /// Starts `binary` as we were started. It has yet to say that it is there.
    pub(crate) fn start(binary: &Path) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = par_sandbox::spawn_successor(binary, OwnedFd::from(theirs), VARIABLE)?;
        let socket = tokio::net::UnixStream::from_std(ours)?;
        Ok(Self { child, socket })
    }

    pub(crate) async fn here(&mut self) -> io::Result<()> {
        self.hear(HERE).await
    }

    /// Lets it go on with these.
    pub(crate) async fn go(&mut self, public: &TcpListener, lock: &File) -> io::Result<()> {
        let fds = [public.as_fd(), lock.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        control.push(SendAncillaryMessage::ScmRights(&fds));
        self.socket.writable().await?;
        let sent = sendmsg(
            self.socket.as_fd(),
            &[IoSlice::new(&[GO])],
            &mut control,
            SendFlags::empty(),
        )?;
        if sent != 1 {
            return Err(io::Error::other("the new process took nothing"));
        }
        Ok(())
    }

    pub(crate) async fn serving(&mut self) -> io::Result<()> {
        self.hear(SERVING).await
    }

    async fn hear(&mut self, expected: u8) -> io::Result<()> {
        let heard = async {
            loop {
                self.socket.readable().await?;
                let mut word = [0];
                match self.socket.try_read(&mut word) {
                    Ok(0) => return Err(io::Error::other("it ended; its log says why")),
                    Ok(_) if word == [expected] => return Ok(()),
                    Ok(_) => return Err(io::Error::other("it said something that is not known")),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        };
        let silent = |_| io::Error::other(format!("it said nothing within {PATIENCE:?}"));
        timeout(PATIENCE, heard).await.map_err(silent)?
    }

    /// It failed: nothing is left of it.
    pub(crate) async fn end(mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::debug!(%error, "the new process has ended already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_reach_the_other_side_and_are_the_same_sockets() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        ours.set_nonblocking(true).expect("set");
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let lock = tempfile::tempfile().expect("a file");
        let mut child = tokio::process::Command::new("/bin/true");
        let mut successor = Successor {
            child: child.spawn().expect("started"),
            socket: tokio::net::UnixStream::from_std(ours).expect("a socket"),
        };
        successor.go(&listener, &lock).await.expect("sent");
        let fds = receive(&theirs).expect("received");
        assert_eq!(fds.len(), 2);
        let received = TcpListener::from(fds.into_iter().next().expect("two"));
        let address = |listener: &TcpListener| listener.local_addr().expect("bound");
        assert_eq!(address(&received), address(&listener));
        say(&theirs, SERVING).expect("said");
        successor.serving().await.expect("heard");
        drop(theirs);
        assert!(successor.serving().await.is_err(), "it has gone");
        successor.end().await;
    }
}
