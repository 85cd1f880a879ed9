//! The hidden subcommand `__confine`: makes the walls around an agent, and becomes the agent.
//!
//! ```text
//! worker ──plan──▶ confiner: joins its group, limits            (profile `unsafe`, `restricted`: it becomes
//!                     │ clone: namespaces                         the agent itself)
//!                     ▼
//!                  init (pid 1): root, network, users; reaps, and ends with the agent
//!                     │ fork
//!                     ▼
//! worker ◀─layers── payload: no capabilities, Landlock, system calls
//! worker ───go────▶    └─ exec: the agent
//! ```
//! It has one thread, an empty environment, and one socket, on its standard input. What took hold is said before the
//! program begins, and the worker has the word whether it does.

mod control;
mod failpoint;
mod filter;
mod init;
mod landlock;
mod limits;
mod loopback;
mod namespaces;
mod payload;
mod plan;
mod root;
mod system;

use std::io;

use par_model::Layer;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

pub use control::Gate;
pub(crate) use control::Received;
pub use plan::{Confined, Confinement, Plan, Program, View};

/// What stood in the way, and at which step.
#[derive(Debug, thiserror::Error)]
#[error("failed to {step}")]
pub(crate) struct Failed {
    pub(crate) step: &'static str,
    #[source]
    pub(crate) source: io::Error,
}

/// `.step("mount the root")` names what was attempted.
pub(crate) trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, Failed>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: &'static str) -> Result<T, Failed> {
        self.map_err(|source| Failed {
            step,
            source: source.into(),
        })
    }
}

/// Reads the [`Plan`] from standard input and does it. Returns only if something failed.
pub fn confine() -> io::Error {
    let received = match Received::from_standard_input() {
        Ok(received) => received,
        Err(error) => return error,
    };
    // From now on a failure is told to the worker, which knows what to make of it.
    let control = match received.control.try_clone() {
        Ok(control) => control,
        Err(error) => return error,
    };
    let failed = match become_agent(received) {
        Ok(never) => match never {},
        Err(failed) => failed,
    };
    control::tell_failure(&control, &failed);
    failed.source
}

fn become_agent(received: Received) -> Result<std::convert::Infallible, Failed> {
    let asked = &received.plan.confinement;
    // First of all: whatever follows counts.
    let mut confined = limits::join_groups(asked);
    limits::die_with(asked.parent).step("be ended with the worker")?;
    confined.not_held.extend(limits::be_nice(asked.niceness));
    if !asked.groups.is_empty() && confined.without_group.is_none() {
        confined.layers.push(Layer::ControlGroup);
    }
    failpoint::reached(asked, "joined");
    if asked.profile.has_namespaces() {
        return namespaces::enter(received, confined);
    }
    payload::run(received, confined)
}

/// Nobody may look into us, whoever they are.
fn hide() -> Result<(), Failed> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step("hide the confiner's memory")
}
