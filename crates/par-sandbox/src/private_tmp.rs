//! A `/tmp` of its own for a process and all that it starts: what it finds there is its own or given to it, and what
//! it leaves there is seen by nobody else and goes when it goes.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind_recursive, mount_change};
use rustix::process::{getgid, getuid};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde::{Deserialize, Serialize};

const TMP: &str = "/tmp";

/// What is to be in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrivateTmp {
    /// Most bytes that files in it may have together.
    pub bytes: u64,
    /// Folders that stay where they are, should they lie in the machine's `/tmp`.
    pub keep: Vec<PathBuf>,
    /// Unix sockets by the name that they get in it.
    pub sockets: BTreeMap<String, PathBuf>,
}

/// Something of the machine that gets a place in the new `/tmp`, held open while its path leads nowhere.
struct Kept {
    place: PathBuf,
    origin: std::os::fd::OwnedFd,
    is_folder: bool,
}

/// For the calling process, which has no other thread and is about to become another program. Says why this machine
/// does not allow it; an error is for what failed half-way.
pub(crate) fn make(asked: &PrivateTmp) -> io::Result<Option<String>> {
    let here = std::env::current_dir()?;
    if let Err(refused) = own_mounts()? {
        return Ok(Some(format!(
            "the kernel refuses a mount namespace: {refused}"
        )));
    }
    // Only mounts of our own namespace can be given another place, and only while they are not hidden.
    let kept = hold(asked)?;
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )?;
    let options = CString::new(format!("mode=1777,size={}", asked.bytes))?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", TMP, "tmpfs", flags, Some(options.as_c_str()))?;
    for kept in kept {
        kept.give_place()?;
    }
    // The folder that we were in may be hidden now; the same path leads to what was kept of it.
    std::env::set_current_dir(here)?;
    Ok(None)
}

fn hold(asked: &PrivateTmp) -> io::Result<Vec<Kept>> {
    let in_tmp = |path: &&PathBuf| path.starts_with(TMP) && path.as_path() != Path::new(TMP);
    let folders = asked.keep.iter().filter(in_tmp);
    let folders = folders.map(|path| Kept::open(path.clone(), path, true));
    let sockets = asked.sockets.iter();
    let sockets = sockets.map(|(name, path)| Kept::open(Path::new(TMP).join(name), path, false));
    folders.chain(sockets).collect()
}

impl Kept {
    fn open(place: PathBuf, origin: &Path, is_folder: bool) -> io::Result<Self> {
        let origin = openat(CWD, origin, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        Ok(Self {
            place,
            origin,
            is_folder,
        })
    }

    fn give_place(&self) -> io::Result<()> {
        if self.is_folder {
            fs::create_dir_all(&self.place)?;
        } else {
            File::create_new(&self.place)?;
        }
        let origin = format!("/proc/self/fd/{}", self.origin.as_raw_fd());
        Ok(mount_bind_recursive(origin, &self.place)?)
    }
}

/// A view of the mounts that is ours to change: as root at once, else as root of a user namespace in which we are
/// still who we were.
fn own_mounts() -> io::Result<Result<(), Errno>> {
    match unshare(UnshareFlags::NEWNS) {
        Err(Errno::PERM) => {}
        done => return Ok(done),
    }
    let (user, group) = (getuid().as_raw(), getgid().as_raw());
    if let Err(refused) = unshare(UnshareFlags::NEWUSER | UnshareFlags::NEWNS) {
        return Ok(Err(refused));
    }
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("{user} {user} 1"))?;
    write("/proc/self/gid_map", &format!("{group} {group} 1"))?;
    Ok(Ok(()))
}

#[expect(
    unsafe_code,
    reason = "leaving a namespace can be unsafe for other threads"
)]
fn unshare(what: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: no table of file descriptors is left, and the confiner has one thread.
    unsafe { unshare_unsafe(what) }
}

/// The kernel takes these files in one write.
fn write(path: &str, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(path)?;
    io::Write::write_all(&mut file, text.as_bytes())
}
