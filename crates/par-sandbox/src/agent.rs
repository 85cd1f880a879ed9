//! The process of an agent or of a session: confined, with one socketpair to its worker as its standard input.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Stdio;

use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::children::start;
use crate::confine::{Confined, Confinement};
use crate::own::OURSELVES;
use crate::private_tmp::PrivateTmp;

/// What to run, and in what surroundings. Has no `Debug`: the environment may hold secrets.
pub struct AgentCommand {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// All of it: nothing is inherited.
    pub env: BTreeMap<String, String>,
    pub folder: PathBuf,
    pub confinement: Confinement,
}

pub struct AgentProcess {
    pub child: Child,
    pub pid: u32,
    /// The worker's end of the socketpair.
    pub channel: UnixStream,
    pub stdout: ChildStdout,
    pub stderr: ChildStderr,
}

/// Starts an agent through `__confine`.
///
/// The process dies with the thread that calls this, so call it from one that lives as long as the worker.
pub fn spawn_agent(command: AgentCommand) -> io::Result<AgentProcess> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut confiner = Command::new(OURSELVES);
    confiner
        .arg0("par")
        .arg("__confine")
        .arg(serde_json::to_string(&command.confinement)?)
        .arg(command.program)
        .args(command.arguments)
        .env_clear()
        .envs(command.env)
        .current_dir(command.folder)
        .stdin(OwnedFd::from(theirs))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = start(&mut confiner)?;
    let gone = || io::Error::other("the agent's process ended while it was started");
    Ok(AgentProcess {
        pid: child.id().ok_or_else(gone)?,
        channel: UnixStream::from_std(ours)?,
        stdout: child.stdout.take().ok_or_else(gone)?,
        stderr: child.stderr.take().ok_or_else(gone)?,
        child,
    })
}

/// Whether a process of ours can have a `/tmp` of its own here, tried with one that ends at once; if not, why.
pub async fn try_private_tmp() -> io::Result<Option<String>> {
    let mut process = spawn_agent(AgentCommand {
        program: "/bin/true".into(),
        arguments: vec![],
        env: BTreeMap::new(),
        folder: "/".into(),
        confinement: Confinement {
            parent: std::process::id(),
            private_tmp: Some(PrivateTmp {
                bytes: 1 << 20,
                ..PrivateTmp::default()
            }),
            ..Confinement::default()
        },
    })?;
    let confined = confined(&mut process.channel).await;
    process.child.wait().await?;
    Ok(confined?.without_private_tmp)
}

/// The longest line that a confiner says.
const LONGEST_LINE: usize = 4 << 10;

/// Waits for what took hold; the first bytes on the channel, and the only ones that are no frame.
pub async fn confined(channel: &mut UnixStream) -> io::Result<Confined> {
    let mut line = vec![];
    // Byte by byte: what follows belongs to whoever reads frames.
    loop {
        match channel.read_u8().await? {
            b'\n' => return Ok(serde_json::from_slice(&line)?),
            _ if line.len() >= LONGEST_LINE => {
                return Err(io::Error::other("the confiner said nothing that is known"));
            }
            byte => line.push(byte),
        }
    }
}
