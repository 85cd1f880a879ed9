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
use par_sandbox::{AgentProcess, Confinement, Plan, PrivateTmp, Program, Target, View};
use rustix::process::Signal;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

use super::channel::{self, Channel, Pump};
use super::logs::{self, Output};
use super::tunnels::{self, Tunnel};
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
    /// The process that all others of the agent come from.
    pub(crate) pid: u32,
    /// The interpreter.
    pub(crate) program: u32,
    target: Target,
    interpreter: Target,
    pub(crate) channel: Rc<Channel>,
    pub(crate) unasked: mpsc::Receiver<Frame>,
    /// Ends when the agent closes its end.
    pub(crate) pump: tokio::task::JoinHandle<Result<(), FrameError>>,
    pub(crate) output: Rc<Output>,
    /// End when the agent, and all that it started, have closed their output.
    pub(crate) readers: [tokio::task::JoinHandle<()>; 2],
    _tunnels: Vec<AbortOnDropHandle<()>>,
}

/// How the interpreter is started.
pub(crate) struct Launch<'a> {
    pub(crate) python: &'a Path,
    pub(crate) harness: &'a Path,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) folder: &'a Path,
    pub(crate) view: View,
    pub(crate) private_tmp: Option<PrivateTmp>,
    pub(crate) tunnels: &'a [Tunnel],
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
    let plan = plan(&launch)?;
    let mut process = par_sandbox::spawn_agent().map_err(failed)?;
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
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
    let (confined, listeners) = process.confine(&plan).await.map_err(not_confined)?;
    if let Some(reason) = &confined.without_private_tmp {
        reporter.say(Level::Warning, format!("no /tmp of its own: {reason}"));
    }
    launch.guard.begin(process.pid, &confined)?;
    let program = process.program(&plan).map_err(failed)?;
    let interpreter = Target::at(program).map_err(failed)?;
    let AgentProcess {
        child,
        pid,
        channel,
        gate,
        ..
    } = process;
    let tunnels = tunnels::dig(launch.tunnels, listeners).map_err(failed)?;
    gate.open().await.map_err(failed)?;
    let (unasked_in, unasked) = mpsc::channel(WAITING_FRAMES);
    let (channel, pump) = channel::open(channel, FrameCodec::default(), unasked_in);
    output.names.watch(&channel);
    let body = serde_json::to_vec(load).map_err(io::Error::from);
    channel
        .put(0, Kind::Load, &[&body.map_err(failed)?])
        .map_err(|error| worker_failed(&error))?;
    Ok(Agent {
        target: Target::of(&child).map_err(failed)?,
        interpreter,
        child,
        pid,
        program,
        channel,
        unasked,
        pump: tokio::task::spawn_local(Pump::run(pump)),
        output,
        readers,
        _tunnels: tunnels,
    })
}

fn plan(launch: &Launch<'_>) -> Result<Plan, EndCause> {
    let not_text = || EndCause::Worker {
        reason: format!("`{}` is not Unicode", launch.harness.display()),
    };
    let harness = launch.harness.to_str().ok_or_else(not_text)?;
    let arguments = ["-I", "-S", "-X", "utf8", harness];
    Ok(Plan {
        program: Program::Execute {
            path: launch.python.to_owned(),
            arguments: arguments.map(ToOwned::to_owned).to_vec(),
        },
        env: launch.env.clone(),
        folder: launch.folder.to_owned(),
        confinement: launch.guard.confine(Confinement {
            ports: launch.tunnels.iter().map(|tunnel| tunnel.port).collect(),
            view: launch.view.clone(),
            private_tmp: launch.private_tmp.clone(),
            ..Confinement::default()
        }),
    })
}

/// Nothing of the agent's was run.
pub(crate) fn not_confined(error: io::Error) -> EndCause {
    EndCause::NotIsolated {
        reason: error.to_string(),
    }
}

impl Agent {
    /// Ends it, with all that has not left its namespaces.
    pub(crate) fn kill(&self) {
        self.target.signal(Signal::KILL);
    }

    /// The harness writes the stacks of its threads when it hears this.
    pub(crate) fn ask_for_stacks(&self) {
        self.interpreter.signal(Signal::USR2);
    }

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
