//! Starts the agent's process and waits for its first word.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::process::ExitStatus;
use std::rc::Rc;
use std::time::Duration;

use par_model::control::EndCause;
use par_model::log::{Level, Stream};
use par_protocol::frame::{Frame, FrameCodec, FrameError, Kind};
use par_protocol::harness::{Failure, Load, Ready};
use par_sandbox::{AgentCommand, AgentProcess, Confinement, PrivateTmp, Target};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::channel::{self, Channel, Pump};
use super::logs::{self, Output};
use crate::limits::Guard;
use crate::reports::Reporter;

/// For what an agent said before it ended.
const LAST_WORDS: Duration = Duration::from_millis(500);
/// For an agent that closed its channel to end.
const LAST_EXIT: Duration = Duration::from_secs(3);
/// Frames of the agent's own that may wait to be handled.
const WAITING_FRAMES: usize = 256;

pub(crate) struct Agent {
    pub(crate) child: tokio::process::Child,
    pub(crate) pid: u32,
    pub(crate) target: Target,
    pub(crate) channel: Rc<Channel>,
    pub(crate) unasked: mpsc::Receiver<Frame>,
    /// Ends when the agent closes its end.
    pub(crate) pump: tokio::task::JoinHandle<Result<(), FrameError>>,
    pub(crate) output: Rc<Output>,
    /// End when the agent, and all that it started, have closed their output.
    pub(crate) readers: [tokio::task::JoinHandle<()>; 2],
}

/// How the interpreter is started.
pub(crate) struct Launch<'a> {
    pub(crate) python: &'a Path,
    pub(crate) harness: &'a Path,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) folder: &'a Path,
    pub(crate) private_tmp: Option<PrivateTmp>,
    pub(crate) guard: &'a Rc<Guard>,
}

/// Starts the agent; what of its confinement did not take hold is in its log.
pub(crate) async fn start(
    launch: Launch<'_>,
    load: &Load,
    output: Rc<Output>,
    reporter: &Reporter,
) -> Result<Agent, EndCause> {
    let failed = |error: io::Error| worker_failed(&error);
    let process = par_sandbox::spawn_agent(AgentCommand {
        program: launch.python.to_owned(),
        arguments: ["-I", "-S", "-X", "utf8"]
            .iter()
            .map(Into::into)
            .chain([launch.harness.into()])
            .collect(),
        env: launch.env,
        folder: launch.folder.to_owned(),
        confinement: launch.guard.confine(Confinement {
            parent: std::process::id(),
            private_tmp: launch.private_tmp,
            ..Confinement::default()
        }),
    });
    let process = process.map_err(failed)?;
    let AgentProcess {
        child,
        pid,
        mut channel,
        stdout,
        stderr,
    } = process;
    // Before anything is waited for: what a confiner that fails says belongs into the log.
    let readers = [
        tokio::task::spawn_local(logs::collect(
            stdout,
            Stream::Stdout,
            output.clone(),
            reporter.clone(),
        )),
        tokio::task::spawn_local(logs::collect(
            stderr,
            Stream::Stderr,
            output.clone(),
            reporter.clone(),
        )),
    ];
    let confined = par_sandbox::confined(&mut channel).await.map_err(failed)?;
    if let Some(reason) = &confined.without_private_tmp {
        reporter.say(Level::Warning, format!("no /tmp of its own: {reason}"));
    }
    launch.guard.begin(pid, &confined)?;
    let (unasked_in, unasked) = mpsc::channel(WAITING_FRAMES);
    let (channel, pump) = channel::open(channel, FrameCodec::default(), unasked_in);
    output.names.watch(&channel);
    let body = serde_json::to_vec(load).map_err(io::Error::from);
    channel
        .put(0, Kind::Load, &[&body.map_err(failed)?])
        .map_err(|error| worker_failed(&error))?;
    Ok(Agent {
        target: Target::of(&child).map_err(failed)?,
        child,
        pid,
        channel,
        unasked,
        pump: tokio::task::spawn_local(Pump::run(pump)),
        output,
        readers,
    })
}

impl Agent {
    /// Waits until the agent says that it is ready, or why it never will be.
    pub(crate) async fn ready(&mut self, on_other: impl AsyncFn(Frame)) -> Result<Ready, EndCause> {
        loop {
            tokio::select! {
                frame = self.unasked.recv() => match frame {
                    Some(frame) => if let Some(answer) = first_word(&frame) { return answer } else { on_other(frame).await },
                    None => return Err(self.broken_or_exited().await),
                },
                status = self.child.wait() => {
                    let last_words = timeout(LAST_WORDS, self.first_word_left()).await;
                    return last_words.ok().flatten().unwrap_or_else(|| Err(cause_of(status)));
                }
            }
        }
    }

    /// What it said before it ended may still be on its way. Somebody else may hold its channel open.
    async fn first_word_left(&mut self) -> Option<Result<Ready, EndCause>> {
        loop {
            let frame = self.unasked.recv().await?;
            if let Some(answer) = first_word(&frame) {
                return Some(answer);
            }
        }
    }

    /// How the agent broke the protocol, if it did.
    pub(crate) async fn broken_protocol(&mut self) -> Option<EndCause> {
        if !self.pump.is_finished() {
            return None;
        }
        match (&mut self.pump).await {
            // A channel that breaks is a process that ends, and that has its own cause.
            Ok(Ok(()) | Err(FrameError::Io(_))) | Err(_) => None,
            Ok(Err(error)) => Some(EndCause::Worker {
                reason: format!("the agent broke the protocol: {error}"),
            }),
        }
    }

    /// Why an agent whose channel is closed ends, or has to.
    pub(crate) async fn broken_or_exited(&mut self) -> EndCause {
        if let Some(cause) = self.broken_protocol().await {
            return cause;
        }
        let went_on = |_| EndCause::Worker {
            reason: "the agent closed its channel and went on".to_owned(),
        };
        timeout(LAST_EXIT, self.exited())
            .await
            .unwrap_or_else(went_on)
    }

    /// Waits for the end of the process.
    pub(crate) async fn exited(&mut self) -> EndCause {
        cause_of(self.child.wait().await)
    }
}

pub(crate) fn cause_of(status: io::Result<ExitStatus>) -> EndCause {
    status.map_or_else(|error| worker_failed(&error), par_sandbox::end_cause)
}

pub(crate) fn worker_failed(error: &dyn std::error::Error) -> EndCause {
    EndCause::Worker {
        reason: crate::chain(error),
    }
}

fn first_word(frame: &Frame) -> Option<Result<Ready, EndCause>> {
    let nonsense = |error: serde_json::Error| EndCause::LoadFailed {
        reason: format!("the agent said something else than `ready`: {error}"),
        traceback: None,
    };
    match frame.kind {
        Kind::Ready => Some(serde_json::from_slice(&frame.body).map_err(nonsense)),
        Kind::Error if frame.id == 0 => Some(Err(serde_json::from_slice(&frame.body).map_or_else(
            nonsense,
            |failure: Failure| EndCause::LoadFailed {
                reason: failure.detail,
                traceback: failure.traceback,
            },
        ))),
        _ => None,
    }
}
