//! Our own pid 1: makes the walls that the payload stands in, then reaps, and ends with it.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::OwnedFd;

use par_model::Layer;
use rustix::process::{Pid, WaitOptions, wait};

use super::control::Received;
use super::namespaces::{Child, close_all_but, fork};
use super::plan::Confined;
use super::{Failed, Step, control, failpoint, limits, loopback, payload, root};

/// Never returns to its caller's business: says how the payload ended through `status`, in the kernel's own word for
/// it.
pub(super) fn run(
    received: Received,
    mut confined: Confined,
    status: OwnedFd,
) -> Result<i32, Failed> {
    let asked = &received.plan.confinement;
    let sources = root::Sources::open(&asked.view)?;
    super::namespaces::become_inner_user()?;
    // Who becomes another user may be looked into again, as the machine is set.
    super::hide()?;
    limits::die_with_parent().step("be ended with the confiner")?;
    root::make(sources, &asked.view)?;
    confined.layers.push(Layer::PrivateRoot);
    failpoint::reached(asked, "rooted");
    rustix::system::sethostname(b"agent").step("name the host")?;
    loopback::up().step("switch on the loopback device")?;
    let listeners = loopback::listen(&asked.ports).step("listen on the loopback device")?;
    confined.layers.push(Layer::PrivateNetwork);
    match fork().step("start the payload")? {
        Child::Us => {
            drop(status);
            let control = received
                .control
                .try_clone()
                .step("keep the control socket")?;
            let failed = match payload::run_with(received, confined, &listeners) {
                Ok(never) => match never {},
                Err(failed) => failed,
            };
            control::tell_failure(&control, &failed);
            Ok(1)
        }
        Child::Other(payload) => {
            drop((received, listeners));
            let mut status = File::from(close_all_but(status).step("close what is not ours")?);
            let ended = reap_until(payload).step("wait for the payload")?;
            // The confiner may be gone, and we with it.
            let _said = status.write_all(&ended.to_ne_bytes());
            Ok(0)
        }
    }
}

/// The wait status of `payload`; orphans that came to us are forgotten.
fn reap_until(payload: Pid) -> io::Result<i32> {
    loop {
        match wait(WaitOptions::empty())? {
            Some((pid, status)) if pid == payload => return Ok(status.as_raw()),
            _ => {}
        }
    }
}
