//! A root of our own: a file system in memory, with what the program may see of the machine bound into it.
//!
//! What is bound is taken while we are still who we were outside, and put into its place as who we are inside, which is
//! the only one that can make folders in our own file systems.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat, symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags,
    OpenTreeFlags, UnmountFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
    mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{fchdir, pivot_root};

use super::namespaces::INNER_USER;
use super::plan::View;
use super::{Failed, Step, system};

/// Can be passed through, and not listed: what lies beside the folders that were given stays unknown.
const PASSAGE: Mode = Mode::from_raw_mode(0o111);
const LISTED: Mode = Mode::from_raw_mode(0o755);
/// Of the root itself: folders, links, and small files.
const ROOT_BYTES: u64 = 4 << 20;
const ROOT_FILES: u64 = 4096;
/// Files and folders in `/tmp`.
const TMP_FILES: u64 = 20_000;
/// Where the new root is put together, before it is the root.
const SITE: &str = "/tmp";

/// What is seen of the machine, in hand but not in its place yet.
pub(super) struct Sources {
    binds: Vec<Bind>,
    links: Vec<(&'static str, CString)>,
    copies: Vec<(&'static str, Vec<u8>)>,
    proc: OwnedFd,
}

struct Bind {
    place: PathBuf,
    tree: OwnedFd,
    is_folder: bool,
}

impl Sources {
    pub(super) fn open(view: &View) -> Result<Self, Failed> {
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        mount_change("/", private).step("make mounts private")?;
        let mut sources = Self {
            binds: vec![],
            links: vec![],
            copies: vec![],
            proc: processes().step("mount /proc")?,
        };
        sources.take_system()?;
        sources.take_devices().step("take the devices")?;
        let programs = system::PROGRAMS.map(PathBuf::from);
        let shown = view
            .read_only
            .iter()
            .filter(|path| !lies_below_any(path, &programs));
        for path in system::outermost(shown.cloned()) {
            sources
                .take(&path, &path, true)
                .map_err(|error| cannot_show(&path, error))?;
        }
        for path in &view.writable {
            sources
                .take(path, path, false)
                .map_err(|error| cannot_show(path, error))?;
        }
        for (name, path) in &view.sockets {
            let place = Path::new("/tmp").join(name);
            sources
                .take(path, &place, false)
                .map_err(|error| cannot_show(path, error))?;
        }
        Ok(sources)
    }

    fn take_system(&mut self) -> Result<(), Failed> {
        for path in system::PROGRAMS {
            match readlinkat(CWD, path, vec![]) {
                Ok(target) => self.links.push((path, target)),
                Err(_) if system::is_folder(Path::new(path)) => {
                    self.take(path.as_ref(), path.as_ref(), true)
                        .step("take programs and libraries")?;
                }
                Err(_) => {}
            }
        }
        for path in system::SETTINGS {
            if system::is_folder(Path::new(path)) {
                self.take(path.as_ref(), path.as_ref(), true)
                    .step("take certificates")?;
            }
        }
        for path in system::COPIES {
            // A system without one goes on without it.
            let Ok(file) = File::open(path) else { continue };
            let mut bytes = vec![];
            file.take(system::LARGEST_COPY)
                .read_to_end(&mut bytes)
                .step("copy settings")?;
            self.copies.push((path, bytes));
        }
        Ok(())
    }

    fn take_devices(&mut self) -> io::Result<()> {
        for name in system::DEVICES {
            let path = Path::new("/dev").join(name);
            let tree = tree_of(&path)?;
            set_attributes(
                &tree,
                MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NOEXEC,
            )?;
            self.binds.push(Bind {
                place: path,
                tree,
                is_folder: false,
            });
        }
        Ok(())
    }

    fn take(&mut self, path: &Path, place: &Path, read_only: bool) -> io::Result<()> {
        let tree = tree_of(path)?;
        let is_folder = rustix::fs::fstat(&tree)?.st_mode & libc::S_IFMT == libc::S_IFDIR;
        let mut attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        attributes.set(MountAttrFlags::MOUNT_ATTR_RDONLY, read_only);
        set_attributes(&tree, attributes)?;
        self.binds.push(Bind {
            place: place.to_owned(),
            tree,
            is_folder,
        });
        Ok(())
    }
}

fn lies_below_any(path: &Path, folders: &[PathBuf]) -> bool {
    folders
        .iter()
        .any(|folder| system::is_folder(folder) && path.starts_with(folder))
}

fn cannot_show(path: &Path, error: io::Error) -> Failed {
    let source = io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    Failed {
        step: "show a folder to the program",
        source,
    }
}

/// Puts the root together and enters it. The machine's own is out of reach afterwards.
pub(super) fn make(sources: Sources, view: &View) -> Result<(), Failed> {
    let nosuid = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = memory(ROOT_BYTES, ROOT_FILES, "0755", nosuid).step("make a root")?;
    put(&root, CWD, Path::new(SITE)).step("attach the root")?;
    let root =
        openat(CWD, SITE, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).step("open the root")?;
    for (path, target) in &sources.links {
        symlinkat(target, &root, relative(path.as_ref())).step("link programs and libraries")?;
    }
    let listed = [
        ("/proc", LISTED),
        ("/dev/shm", LISTED),
        ("/tmp", LISTED),
        ("/etc", LISTED),
    ];
    for (path, mode) in listed {
        folder(&root, path.as_ref(), mode).step("make a folder")?;
    }
    fill(&root, &sources.copies).step("write settings")?;
    put(&sources.proc, root.as_fd(), Path::new("proc")).step("attach /proc")?;
    let tmp = memory(view.tmp_bytes, TMP_FILES, "1777", nosuid).step("make /tmp")?;
    put(&tmp, root.as_fd(), Path::new("tmp")).step("attach /tmp")?;
    let shm = nosuid | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let shm = memory(view.shm_bytes, TMP_FILES, "1777", shm).step("make /dev/shm")?;
    put(&shm, root.as_fd(), Path::new("dev/shm")).step("attach /dev/shm")?;
    for bind in &sources.binds {
        bind.attach(&root)
            .map_err(|error| cannot_show(&bind.place, error))?;
    }
    link_standard_streams(&root).step("link standard streams")?;
    drop(sources);
    enter(&root).step("enter the root")?;
    let read_only = MountAttrFlags::MOUNT_ATTR_RDONLY;
    set_own_attributes(&root, read_only).step("make the root read-only")
}

/// The old root lies on top of the new one for a moment, and is let go with all that is mounted in it.
fn enter(root: &OwnedFd) -> io::Result<()> {
    fchdir(root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    std::env::set_current_dir("/")
}

impl Bind {
    fn attach(&self, root: &OwnedFd) -> io::Result<()> {
        let place = relative(&self.place);
        if self.is_folder {
            folder(root, place, PASSAGE)?;
        } else {
            let above = folder(
                root,
                place.parent().unwrap_or_else(|| Path::new("")),
                PASSAGE,
            )?;
            let name = place.file_name().ok_or(Errno::INVAL)?;
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&above, name, flags, Mode::RUSR)?;
        }
        put(&self.tree, root.as_fd(), place)
    }
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The folder at `path` below `root`, made with all above it where it is not there, without following any link.
fn folder(root: &OwnedFd, path: &Path, mode: Mode) -> io::Result<OwnedFd> {
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut at = root.try_clone()?;
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        let mode = if Path::new("/").join(name) == Path::new("/dev") {
            LISTED
        } else {
            mode
        };
        match mkdirat(&at, name, mode) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        at = openat2(&at, name, flags, Mode::empty(), how)?;
    }
    Ok(at)
}

fn fill(root: &OwnedFd, copies: &[(&'static str, Vec<u8>)]) -> io::Result<()> {
    for (path, text) in system::written(INNER_USER) {
        write(root, path, text.as_bytes())?;
    }
    for (path, bytes) in copies {
        write(root, path, bytes)?;
    }
    Ok(())
}

fn write(root: &OwnedFd, path: &str, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(
        root,
        relative(path.as_ref()),
        flags,
        Mode::from_raw_mode(0o444),
    )?;
    File::from(file).write_all(bytes)
}

fn link_standard_streams(root: &OwnedFd) -> rustix::io::Result<()> {
    for (name, target) in [
        ("dev/fd", "/proc/self/fd"),
        ("dev/stdin", "/proc/self/fd/0"),
        ("dev/stdout", "/proc/self/fd/1"),
        ("dev/stderr", "/proc/self/fd/2"),
    ] {
        symlinkat(target, root, name)?;
    }
    Ok(())
}

/// The processes of our own namespace; of those that are not ours, nothing.
fn processes() -> io::Result<OwnedFd> {
    let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "hidepid", "invisible")?;
    fsconfig_create(context.as_fd())?;
    let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// A file system in memory.
fn memory(bytes: u64, files: u64, mode: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "size", bytes.to_string())?;
    fsconfig_set_string(context.as_fd(), "nr_inodes", files.to_string())?;
    fsconfig_set_string(context.as_fd(), "mode", mode)?;
    fsconfig_create(context.as_fd())?;
    Ok(fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        attributes,
    )?)
}

/// A copy of the mounts at and below `path`, attached nowhere.
fn tree_of(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_RECURSIVE;
    Ok(open_tree(CWD, path, flags)?)
}

fn put(tree: &OwnedFd, folder: BorrowedFd<'_>, place: &Path) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    Ok(move_mount(tree, "", folder, place, flags)?)
}

/// Of all mounts of a tree.
fn set_attributes(tree: &OwnedFd, attributes: MountAttrFlags) -> io::Result<()> {
    mount_setattr(
        tree,
        AtFlags::EMPTY_PATH.bits() | libc::AT_RECURSIVE as u32,
        attributes,
    )
}

/// Of one mount, and not of those in it.
fn set_own_attributes(mount: &OwnedFd, attributes: MountAttrFlags) -> io::Result<()> {
    mount_setattr(mount, AtFlags::EMPTY_PATH.bits(), attributes)
}

#[expect(unsafe_code, reason = "no library wraps mount_setattr(2)")]
fn mount_setattr(mount: &OwnedFd, flags: u32, attributes: MountAttrFlags) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: u64::from(attributes.bits()),
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path is an empty string that ends in zero, and the structure lives as long as the call, which reads
    // as many bytes of it as it has.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
