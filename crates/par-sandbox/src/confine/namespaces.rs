//! Namespaces of our own, and who we are in them.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};

use par_model::Layer;
use rustix::fs::{Gid, Uid};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitOptions, getgid, getuid, kill_process, waitpid};
use rustix::thread::{
    CapabilitiesSecureBits, set_capabilities_secure_bits, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

use super::control::Received;
use super::plan::Confined;
use super::{Failed, Step, failpoint, init, limits};

/// Who the payload is, seen from inside.
pub(super) const INNER_USER: u32 = 1000;

const NAMESPACES: u64 = (libc::CLONE_NEWUSER
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWCGROUP) as u64;

/// Who goes on after a fork.
pub(super) enum Child {
    Us,
    Other(Pid),
}

/// Starts our pid 1, waits for its end, and ends as the payload did.
pub(super) fn enter(received: Received, mut confined: Confined) -> Result<Infallible, Failed> {
    let asked = &received.plan.confinement;
    let (user, group) = match asked.user {
        Some(user) => (user, user),
        None => (getuid().as_raw(), getgid().as_raw()),
    };
    if asked.user.is_some() {
        set_thread_groups(&[]).step("leave our groups")?;
        confined.layers.push(Layer::OwnUser);
    }
    let (mapped, map) = pipe().step("make a pipe")?;
    let (status, told) = pipe().step("make a pipe")?;
    match clone(NAMESPACES).step("make namespaces")? {
        Child::Us => {
            drop((map, status));
            limits::die_with_parent().step("be ended with the confiner")?;
            // Until somebody has said who we are, we are nobody.
            File::from(mapped)
                .read_exact(&mut [0])
                .step("wait for a user")?;
            super::hide()?;
            confined.layers.push(Layer::Namespaces);
            std::process::exit(init::run(received, confined, told)?)
        }
        Child::Other(init) => {
            failpoint::reached(&received.plan.confinement, "cloned");
            drop((mapped, told, received));
            map_user(init, user, group).step("map the user")?;
            // Not before: who is hidden is root's, and a plain user could not map its own child.
            super::hide()?;
            File::from(map).write_all(b"m").step("start")?;
            let status = close_all_but(status).step("close what is not ours")?;
            end_as(init, File::from(status)).step("wait for the agent")
        }
    }
}

fn pipe() -> rustix::io::Result<(OwnedFd, OwnedFd)> {
    pipe_with(PipeFlags::CLOEXEC)
}

/// The kernel takes these files in one write.
fn map_user(init: Pid, user: u32, group: u32) -> io::Result<()> {
    let folder = format!("/proc/{}", init.as_raw_nonzero());
    fs::write(format!("{folder}/setgroups"), "deny")?;
    fs::write(
        format!("{folder}/uid_map"),
        format!("{INNER_USER} {user} 1"),
    )?;
    fs::write(
        format!("{folder}/gid_map"),
        format!("{INNER_USER} {group} 1"),
    )
}

/// From somebody who is nobody inside to the one that is mapped, keeping what we may do in our namespaces.
pub(super) fn become_inner_user() -> Result<(), Failed> {
    let keep = CapabilitiesSecureBits::NO_SETUID_FIXUP | CapabilitiesSecureBits::NO_ROOT;
    set_capabilities_secure_bits(keep).step("keep capabilities for a while")?;
    let (user, group) = (Uid::from_raw(INNER_USER), Gid::from_raw(INNER_USER));
    set_thread_res_gid(group, group, group).step("change the group")?;
    set_thread_res_uid(user, user, user).step("change the user")
}

/// Waits for pid 1, and ends the same way as its payload: what it said, or how it ended itself if it said nothing.
fn end_as(init: Pid, mut status: File) -> io::Result<Infallible> {
    let mut told = [0; 4];
    let told = status
        .read_exact(&mut told)
        .ok()
        .map(|()| i32::from_ne_bytes(told));
    let own = waitpid(Some(init), WaitOptions::empty())?;
    let own = own.map_or(1 << 8, |(_, status)| status.as_raw());
    let ended = told.unwrap_or(own);
    if libc::WIFSIGNALED(ended)
        && let Some(signal) = Signal::from_named_raw(libc::WTERMSIG(ended))
    {
        // The first may be heard by a handler of the standard library, which lets go of the signal for the second.
        for _ in 0..2 {
            kill_process(rustix::process::getpid(), signal)?;
        }
    }
    std::process::exit(libc::WEXITSTATUS(ended).max(i32::from(libc::WIFSIGNALED(ended))))
}

/// Like fork(2).
pub(super) fn fork() -> io::Result<Child> {
    clone(0)
}

#[expect(unsafe_code, reason = "there is no other way to copy a process")]
fn clone(flags: u64) -> io::Result<Child> {
    // SAFETY: all zero is a valid value of this plain structure of numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags;
    arguments.exit_signal = libc::SIGCHLD as u64;
    // SAFETY: the arguments live as long as the call, and ask for a copy of this process with a stack of its own. The
    // confiner has one thread, so no lock is held in the copy by a thread that is not there.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw mut arguments,
            size_of_val(&arguments),
        )
    };
    match i32::try_from(pid) {
        Ok(0) => Ok(Child::Us),
        Ok(pid) if pid > 0 => Pid::from_raw(pid)
            .map(Child::Other)
            .ok_or_else(io::Error::last_os_error),
        _ => Err(io::Error::last_os_error()),
    }
}

/// All descriptors of this process, standard ones included, except one, which gets the number 0.
#[expect(
    unsafe_code,
    reason = "descriptors are closed that other values may own"
)]
pub(super) fn close_all_but(kept: OwnedFd) -> io::Result<OwnedFd> {
    rustix::stdio::dup2_stdin(&kept)?;
    std::mem::forget(kept);
    // SAFETY: whoever calls this owns nothing any more that has a descriptor, and opens none before it ends.
    if unsafe { libc::close_range(1, libc::c_uint::MAX, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: it is open, and nobody else has it.
    let kept = unsafe { OwnedFd::from_raw_fd(0) };
    debug_assert_eq!(kept.as_raw_fd(), 0);
    Ok(kept)
}
