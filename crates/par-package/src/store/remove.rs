//! Removing folders that agents had their hands on.

use std::ffi::{CStr, CString};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, Mode, OFlags, RenameFlags, fstat, openat, renameat_with, unlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

/// Removes a folder with all that it holds, also where somebody has taken away our right to write in it; or whatever
/// is in the place of the folder. Follows no link.
///
/// How deep the folders go is not ours to say: neither the stack nor the descriptors nor the longest path may run out.
/// So what lies deep is lifted to the top and removed from there.
pub fn remove_tree(root: &Path) -> io::Result<()> {
    if !fs::symlink_metadata(root)?.is_dir() {
        return fs::remove_file(root);
    }
    let top = open(CWD, root)?;
    let mut lifted = 0;
    loop {
        let names = names_in(&top)?;
        if names.is_empty() {
            return fs::remove_dir(root);
        }
        for name in names {
            remove_or_lift(&top, &name, &mut lifted)?;
        }
    }
}

/// Removes what `name` is in `top`. Folders in it that hold something are lifted into `top`.
fn remove_or_lift(top: &OwnedFd, name: &CStr, lifted: &mut u64) -> io::Result<()> {
    if is_removed(top, name)? {
        return Ok(());
    }
    let folder = open(top, name)?;
    for inner in names_in(&folder)? {
        if !is_removed(&folder, &inner)? {
            // It can be moved only by who may write in it.
            drop(open(&folder, &inner)?);
            lift(&folder, &inner, top, lifted)?;
        }
    }
    Ok(unlinkat(top, name, AtFlags::REMOVEDIR)?)
}

/// Whether it is gone now: a folder that holds something is not.
fn is_removed(above: &OwnedFd, name: &CStr) -> io::Result<bool> {
    match unlinkat(above, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(true),
        Err(Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    match unlinkat(above, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn lift(from: &OwnedFd, name: &CStr, top: &OwnedFd, lifted: &mut u64) -> io::Result<()> {
    loop {
        *lifted += 1;
        let free = format!(".lifted-{lifted}");
        match renameat_with(from, name, top, free, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            done => return Ok(done?),
        }
    }
}

/// A folder that can be read and written, opened without following a link.
fn open(above: impl AsFd, name: impl Arg) -> io::Result<OwnedFd> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = openat(above, name, flags | OFlags::PATH, Mode::empty())?;
    if fstat(&folder)?.st_mode & 0o700 != 0o700 {
        let itself = format!("/proc/self/fd/{}", folder.as_raw_fd());
        fs::set_permissions(itself, Permissions::from_mode(0o700))?;
    }
    Ok(openat(&folder, c".", flags, Mode::empty())?)
}

fn names_in(folder: &OwnedFd) -> io::Result<Vec<CString>> {
    let mut names = vec![];
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        if ![c".", c".."].contains(&entry.file_name()) {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::mkdirat;

    #[test]
    fn folders_that_go_deeper_than_stack_and_descriptors_and_paths_are_removed() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("root");
        fs::create_dir(&root).expect("made");
        let mut at = open(CWD, &root).expect("opened");
        for depth in 0..6000 {
            mkdirat(&at, c"d", Mode::RWXU).expect("made");
            if depth % 1000 == 0 {
                openat(&at, c"file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).expect("made");
                mkdirat(&at, format!(".lifted-{depth}"), Mode::RWXU).expect("made");
            }
            at = open(&at, c"d").expect("opened");
        }
        drop(at);
        remove_tree(&root).expect("removed");
        assert!(!root.exists());
    }

    #[test]
    fn what_links_lead_to_stays_and_locked_folders_go() {
        let home = tempfile::tempdir().expect("a folder");
        let (root, outside) = (home.path().join("root"), home.path().join("outside"));
        fs::create_dir_all(root.join("a/b/c")).expect("made");
        fs::create_dir(&outside).expect("made");
        fs::write(outside.join("kept"), "").expect("written");
        std::os::unix::fs::symlink(&outside, root.join("a/b/c/link")).expect("linked");
        for locked in ["a/b/c", "a/b", "a"] {
            fs::set_permissions(root.join(locked), Permissions::from_mode(0o000)).expect("locked");
        }
        remove_tree(&root).expect("removed");
        assert!(!root.exists() && outside.join("kept").exists());
        std::os::unix::fs::symlink(&outside, &root).expect("linked");
        remove_tree(&root).expect("removed");
        assert!(fs::symlink_metadata(&root).is_err() && outside.join("kept").exists());
    }
}
