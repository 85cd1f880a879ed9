//! An environment that is finished belongs to us, can be read by all, and leads nowhere but to its interpreter.
//!
//! Whoever made it may have been hostile, and has ended before anything here looks: nothing moves under our feet.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};

/// Files and folders of one environment.
pub(super) const MOST_FILES: u64 = 500_000;

const FOLDER: u32 = 0o755;
const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;
/// Any of the bits that let somebody run it.
const RUNS: u32 = 0o111;

#[derive(Debug, thiserror::Error)]
pub(super) enum Unfit {
    #[error("the environment has more than {MOST_FILES} files")]
    TooMany,
    #[error("the environment has more than {0} bytes")]
    TooLarge(u64),
    #[error("`{}` in the environment is {what}", path.display())]
    Odd { path: PathBuf, what: &'static str },
    #[error("failed to look through the environment at `{}`", path.display())]
    Look {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Gives all of `home` to us, and refuses what an environment has not.
pub(super) fn seal(home: &Path, interpreter: &Path, most: u64) -> Result<(), Unfit> {
    let seal = Seal {
        home,
        interpreter: interpreter.canonicalize().map_err(at(interpreter))?,
        most,
    };
    let (mut files, mut bytes) = (0, 0);
    let mut waiting = vec![home.to_owned()];
    seal.take(home)?;
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).map_err(at(&folder))? {
            let path = entry.map_err(at(&folder))?.path();
            let found = seal.take(&path)?;
            files += 1;
            if files > MOST_FILES {
                return Err(Unfit::TooMany);
            }
            bytes += found.len();
            if bytes > seal.most {
                return Err(Unfit::TooLarge(seal.most));
            }
            if found.is_dir() {
                waiting.push(path);
            }
        }
    }
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> Unfit {
    let path = path.to_owned();
    move |source| Unfit::Look { path, source }
}

struct Seal<'a> {
    home: &'a Path,
    interpreter: PathBuf,
    most: u64,
}

impl Seal<'_> {
    fn take(&self, path: &Path) -> Result<Metadata, Unfit> {
        let found = fs::symlink_metadata(path).map_err(at(path))?;
        let kind = found.file_type();
        let odd = |what| {
            let path = path.to_owned();
            Err(Unfit::Odd { path, what })
        };
        if kind.is_symlink() && !self.stays(path) {
            return odd("a link that leads out of it");
        }
        if kind.is_file() && found.nlink() > 1 {
            return odd("a file with several names");
        }
        if !kind.is_symlink() && !kind.is_dir() && !kind.is_file() {
            return odd("neither a file nor a folder nor a link");
        }
        // Before the mode: a change of owner takes bits away, and the mode is to be what is said here.
        own(path, &found).map_err(at(path))?;
        if !kind.is_symlink() {
            let mode = Permissions::from_mode(mode_of(&found));
            fs::set_permissions(path, mode).map_err(at(path))?;
        }
        Ok(found)
    }

    /// Whether a link stays within the environment, or leads to the interpreter.
    fn stays(&self, link: &Path) -> bool {
        let Ok(target) = fs::read_link(link) else {
            return false;
        };
        let named_well = target.is_relative()
            || target.starts_with(self.home)
            || target
                .canonicalize()
                .is_ok_and(|end| end == self.interpreter);
        let end = link.canonicalize();
        named_well && end.is_ok_and(|end| end == self.interpreter || self.is_inside(&end))
    }

    fn is_inside(&self, path: &Path) -> bool {
        let home = self.home.canonicalize();
        home.is_ok_and(|home| path.starts_with(home))
    }
}

fn own(path: &Path, found: &Metadata) -> io::Result<()> {
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    if found.uid() == user.as_raw() && found.gid() == group.as_raw() {
        return Ok(());
    }
    lchown(path, Some(user.as_raw()), Some(group.as_raw()))
}

/// No bit that gives a user's rights to whoever runs it, and nobody writes but us.
fn mode_of(found: &Metadata) -> u32 {
    match found.is_dir() {
        true => FOLDER,
        false if found.mode() & RUNS != 0 => PROGRAM,
        false => FILE,
    }
}

/// Removes a folder however deep it is: what lies deeper is brought up to its top before it is looked into, so that no path
/// is longer than the kernel takes, and nothing here calls itself.
pub(super) fn remove(home: &Path) -> io::Result<()> {
    match fs::symlink_metadata(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(found) if !found.is_dir() => return fs::remove_file(home),
        Ok(_) => open_up(home)?,
    }
    let mut brought_up = 0;
    loop {
        let entries: Vec<fs::DirEntry> = fs::read_dir(home)?.collect::<io::Result<_>>()?;
        if entries.is_empty() {
            return fs::remove_dir(home);
        }
        for entry in entries {
            match entry.file_type()?.is_dir() {
                true => empty_out(&entry.path(), home, &mut brought_up)?,
                false => fs::remove_file(entry.path())?,
            }
        }
    }
}

/// Removes `folder`; folders in it go to `top`.
fn empty_out(folder: &Path, top: &Path, brought_up: &mut u64) -> io::Result<()> {
    open_up(folder)?;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            fs::remove_file(entry.path())?;
            continue;
        }
        // A folder that is moved is written: its way to the one above changes.
        open_up(&entry.path())?;
        let mut up = top.join(format!(".up-{brought_up}"));
        while up.symlink_metadata().is_ok() {
            *brought_up += 1;
            up = top.join(format!(".up-{brought_up}"));
        }
        fs::rename(entry.path(), up)?;
    }
    fs::remove_dir(folder)
}

fn open_up(folder: &Path) -> io::Result<()> {
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use rustix::fs::{Mode, OFlags, mkdirat, open, openat};

    struct Made {
        _folder: tempfile::TempDir,
        home: PathBuf,
        interpreter: PathBuf,
    }

    fn made() -> Made {
        let folder = tempfile::tempdir().expect("a folder");
        let (home, interpreter) = (folder.path().join("home"), folder.path().join("python"));
        fs::create_dir_all(home.join("bin/deep")).expect("made");
        fs::write(&interpreter, "").expect("written");
        fs::write(folder.path().join("secret"), "").expect("written");
        symlink(&interpreter, home.join("bin/python")).expect("linked");
        symlink("python", home.join("bin/python3")).expect("linked");
        fs::write(home.join("bin/deep/file"), "text").expect("written");
        Made {
            _folder: folder,
            home,
            interpreter,
        }
    }

    fn sealed(made: &Made) -> Result<(), String> {
        seal(&made.home, &made.interpreter, 1 << 20).map_err(|unfit| unfit.to_string())
    }

    #[test]
    fn bits_are_those_of_plain_files_and_everybody_reads() {
        let made = made();
        let file = made.home.join("bin/deep/file");
        fs::set_permissions(&file, Permissions::from_mode(0o6710)).expect("changed");
        let deep = made.home.join("bin/deep");
        fs::set_permissions(&deep, Permissions::from_mode(0o2700)).expect("changed");
        sealed(&made).expect("fit");
        let mode = |path: &Path| fs::metadata(path).expect("there").mode() & 0o7777;
        assert_eq!((mode(&file), mode(&deep)), (0o755, 0o755));
    }

    #[test]
    fn links_lead_to_the_interpreter_or_stay() {
        for target in [
            "../../secret",
            "/etc/passwd",
            "/proc/self/root/etc",
            "nowhere",
            "/",
        ] {
            let made = made();
            symlink(target, made.home.join("bin/link")).expect("linked");
            let refused = sealed(&made).expect_err(target);
            assert!(
                refused.contains("bin/link") && refused.contains("leads out"),
                "{refused}"
            );
        }
        let made = made();
        symlink("../bin", made.home.join("bin/again")).expect("linked");
        sealed(&made).expect("it stays");
    }

    #[test]
    fn what_is_no_file_is_refused_and_so_is_one_with_a_name_elsewhere() {
        let odd = made();
        let _socket = std::os::unix::net::UnixListener::bind(odd.home.join("s")).expect("bound");
        assert!(sealed(&odd).expect_err("a socket").contains("neither"));
        let linked = made();
        fs::hard_link(&linked.interpreter, linked.home.join("hard")).expect("linked");
        assert!(
            sealed(&linked)
                .expect_err("a file")
                .contains("several names")
        );
    }

    #[test]
    fn an_environment_is_bounded() {
        let made = made();
        let file = fs::File::create(made.home.join("large")).expect("made");
        file.set_len(2 << 20).expect("a hole");
        assert!(sealed(&made).expect_err("too large").contains("bytes"));
    }

    #[test]
    fn a_folder_deeper_than_any_path_is_removed() {
        let made = made();
        let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
        let mut at = open(&made.home, flags, Mode::empty()).expect("opened");
        for _ in 0..3000 {
            mkdirat(&at, "d", Mode::RWXU).expect("made");
            at = openat(&at, "d", flags, Mode::empty()).expect("opened");
        }
        remove(&made.home).expect("removed");
        let left = fs::read_dir(made.home.parent().expect("a folder")).expect("read");
        let left = left.map(|entry| entry.expect("read").file_name());
        let mut left: Vec<_> = left.collect();
        left.sort();
        assert_eq!(left, ["python", "secret"]);
        remove(&made.home).expect("it is gone already");
    }
}
