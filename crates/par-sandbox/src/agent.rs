//! The process of an agent or of a session: confined, with one socketpair to its worker as its standard input.

use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::net::UnixStream;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

use crate::children::start;
use crate::confine::{Confined, Gate, Plan};
use crate::descendants::first_below;
use crate::own::OURSELVES;

/// A process that was started, and waits for what it is to become.
pub struct AgentProcess {
    pub child: Child,
    /// The process that all others come from: the confiner, which ends as the agent does.
    pub pid: u32,
    /// The worker's end of the socketpair.
    pub channel: UnixStream,
    pub stdout: Option<ChildStdout>,
    pub stderr: Option<ChildStderr>,
    pub gate: Gate,
    theirs: Option<OwnedFd>,
}

/// Starts a confiner.
///
/// The process dies with the thread that calls this, so call it from one that lives as long as the worker.
pub fn spawn_agent() -> io::Result<AgentProcess> {
    let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
    let (gate, control) = std::os::unix::net::UnixStream::pair()?;
    ours.set_nonblocking(true)?;
    let mut confiner = Command::new(OURSELVES);
    confiner
        .arg0("par")
        .arg("__confine")
        .env_clear()
        .current_dir("/")
        .stdin(OwnedFd::from(control))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = start(&mut confiner)?;
    let gone = || io::Error::other("the agent's process ended while it was started");
    Ok(AgentProcess {
        pid: child.id().ok_or_else(gone)?,
        channel: UnixStream::from_std(ours)?,
        stdout: child.stdout.take(),
        stderr: child.stderr.take(),
        child,
        gate: Gate::new(gate)?,
        theirs: Some(theirs.into()),
    })
}

impl AgentProcess {
    /// Waits until the walls of `plan` are there: what of them took hold, and who listens on its ports. The program
    /// begins when the gate is opened.
    pub async fn confine(&mut self, plan: &Plan) -> io::Result<(Confined, Vec<TcpListener>)> {
        let theirs = self.theirs.take();
        let theirs = theirs.ok_or_else(|| io::Error::other("it is confined already"))?;
        self.gate.confined(plan, theirs).await
    }

    /// The process that becomes the program, known once it is confined.
    pub fn program(&self, plan: &Plan) -> io::Result<u32> {
        if !plan.confinement.profile.has_namespaces() {
            return Ok(self.pid);
        }
        let program = first_below(self.pid).and_then(first_below);
        program.ok_or_else(|| io::Error::other("the agent's process ended while it was started"))
    }
}
