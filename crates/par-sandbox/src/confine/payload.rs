//! The last steps before the program: what it cannot take back, and then the program itself.

use std::convert::Infallible;
use std::io;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use par_model::{Layer, Profile};
use rustix::fs::{Gid, Uid};
use rustix::process::{getpid, set_child_subreaper, setsid};
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, clear_ambient_capability_set,
    remove_capability_from_bounding_set, set_capabilities, set_capabilities_secure_bits,
    set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
};

use super::control::{Received, wait_for_go};
use super::plan::{Confined, Confinement, Program};
use super::{Failed, Step, failpoint, filter, landlock, limits};
use crate::{canary, private_tmp};

/// Without namespaces: the confiner itself becomes the program.
pub(super) fn run(received: Received, mut confined: Confined) -> Result<Infallible, Failed> {
    let asked = &received.plan.confinement;
    if let Some(wanted) = &asked.private_tmp {
        confined.without_private_tmp = private_tmp::make(wanted).step("make a /tmp of its own")?;
    }
    if asked.profile != Profile::Unsafe {
        // While we may: another user may not.
        empty_bounding_set().step("give up capabilities")?;
    }
    if let Some(user) = asked.user {
        become_user(user).step("become the agent's user")?;
        confined.layers.push(Layer::OwnUser);
    }
    // After the change of who we are, which would take it back.
    limits::die_with(asked.parent).step("be ended with the worker")?;
    if asked.keeps_orphans {
        set_child_subreaper(Some(getpid())).step("keep orphans")?;
    }
    run_with(received, confined, &[])
}

pub(super) fn run_with(
    received: Received,
    mut confined: Confined,
    listeners: &[TcpListener],
) -> Result<Infallible, Failed> {
    let Received {
        control,
        channel,
        plan,
    } = received;
    let asked = &plan.confinement;
    setsid().step("begin a session")?;
    rustix::stdio::dup2_stdin(&channel).step("take the channel")?;
    drop(channel);
    close_on_exec().step("close what is not the program's")?;
    std::env::set_current_dir(&plan.folder).step("enter the program's folder")?;
    confined
        .not_held
        .extend(limits::limit_resources(asked).step("limit resources")?);
    if asked.profile != Profile::Unsafe {
        give_up_capabilities().step("give up capabilities")?;
        confined.layers.push(Layer::Capabilities);
    }
    failpoint::reached(asked, "bare");
    set_no_new_privs(true).step("refuse new privileges")?;
    confined.layers.push(Layer::NoNewPrivileges);
    if asked.profile != Profile::Unsafe {
        wall_in(asked, &mut confined)?;
    }
    wait_for_go(control, confined, listeners)?;
    failpoint::reached(&plan.confinement, "let-go");
    match plan.program {
        Program::Execute { path, arguments } => {
            let mut program = Command::new(path);
            program.args(arguments).env_clear().envs(&plan.env);
            Err(program.exec()).step("start the program")
        }
        Program::Canary(bait) => {
            canary::fly(&bait).step("say what was reached")?;
            std::process::exit(0)
        }
    }
}

/// The filter comes last: it allows nothing that the steps before need.
fn wall_in(asked: &Confinement, confined: &mut Confined) -> Result<(), Failed> {
    landlock::restrict(asked).step("apply Landlock")?;
    confined.layers.push(Layer::Landlock);
    filter::install(asked).step("filter system calls")?;
    confined.layers.push(Layer::Seccomp);
    Ok(())
}

fn become_user(user: u32) -> rustix::io::Result<()> {
    let (user, group) = (Uid::from_raw(user), Gid::from_raw(user));
    set_thread_groups(&[])?;
    set_thread_res_gid(group, group, group)?;
    set_thread_res_uid(user, user, user)
}

/// For good: what is not in the bounding set never comes back, whatever is executed.
fn give_up_capabilities() -> rustix::io::Result<()> {
    empty_bounding_set()?;
    match set_capabilities_secure_bits(locked()) {
        Ok(()) | Err(rustix::io::Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    let sets = CapabilitySets {
        effective: none,
        permitted: none,
        inheritable: none,
    };
    set_capabilities(None, sets)
}

fn empty_bounding_set() -> rustix::io::Result<()> {
    for capability in CapabilitySet::all().iter() {
        match remove_capability_from_bounding_set(capability) {
            // It needs one itself, which a plain user has not; without new privileges the set gives nothing.
            Ok(()) | Err(rustix::io::Errno::PERM | rustix::io::Errno::INVAL) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn locked() -> CapabilitiesSecureBits {
    CapabilitiesSecureBits::NO_ROOT
        | CapabilitiesSecureBits::NO_ROOT_LOCKED
        | CapabilitiesSecureBits::NO_SETUID_FIXUP
        | CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED
        | CapabilitiesSecureBits::KEEP_CAPS_LOCKED
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE
        | CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED
}

#[expect(
    unsafe_code,
    reason = "a flag is set on descriptors that other values own"
)]
fn close_on_exec() -> io::Result<()> {
    // SAFETY: nothing is closed now; what is marked is closed by the program's start, when its owners are gone.
    let done = unsafe {
        libc::close_range(
            3,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC as libc::c_int,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
