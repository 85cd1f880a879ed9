//! The hidden subcommand `__confine`: changes the process that it is, then becomes the agent.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use par_model::limits::LimitName;
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, getrlimit, nice, set_child_subreaper,
    set_parent_process_death_signal, setrlimit, setsid,
};
use rustix::thread::set_no_new_privs;
use serde::{Deserialize, Serialize};

use crate::private_tmp::{self, PrivateTmp};

/// What the confiner is asked for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Confinement {
    /// The worker: when it is no longer our parent, there is nobody to serve.
    pub parent: u32,
    /// Most bytes of private memory that each process of the agent may have.
    pub data_bytes: Option<u64>,
    pub private_tmp: Option<PrivateTmp>,
    /// Orphans below the process stay below it, so that they can be found when it ends.
    pub keeps_orphans: bool,
    /// How much less than the worker it is preferred by the scheduler, -20 to 19.
    pub niceness: i32,
    /// Most files that each process may have open.
    pub open_files: Option<u64>,
    /// Files through which control groups are joined.
    pub groups: Vec<PathBuf>,
    /// Where one of these limits does not hold the program is not begun.
    pub limits_required: bool,
}

/// What took hold, said on standard input before the program begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// Why there is no private `/tmp`, where one was asked for.
    pub without_private_tmp: Option<String>,
    /// Why it is in no control group, where it should be in one.
    #[serde(default)]
    pub without_group: Option<String>,
    /// Limits of the process itself that do not hold, and why.
    #[serde(default)]
    pub not_held: Vec<(LimitName, String)>,
}

/// Arguments: the [`Confinement`] as JSON, the program, its arguments. Returns only if something failed.
pub fn confine(mut arguments: impl Iterator<Item = OsString>) -> io::Error {
    let missing = |what: &str| {
        io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("__confine needs {what}"),
        )
    };
    let Some(asked) = arguments.next().and_then(|text| text.into_string().ok()) else {
        return missing("what to hold to, as JSON");
    };
    let Some(program) = arguments.next() else {
        return missing("a program");
    };
    let confined = serde_json::from_str(&asked)
        .map_err(io::Error::from)
        .and_then(|asked| become_confined(&asked));
    match confined {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn become_confined(asked: &Confinement) -> io::Result<()> {
    let confined = apply(asked)?;
    tell(&confined)?;
    let holds = confined.without_group.is_none() && confined.not_held.is_empty();
    if asked.limits_required && !holds {
        return Err(io::Error::other("a limit that is required does not hold"));
    }
    Ok(())
}

fn apply(asked: &Confinement) -> io::Result<Confined> {
    // First of all: whatever follows counts, and the files may be out of sight soon.
    let without_group = asked.groups.iter().find_map(|door| join(door));
    let private_tmp = asked.private_tmp.as_ref().map(private_tmp::make);
    let without_private_tmp = private_tmp.transpose()?.flatten();
    die_with(asked.parent)?;
    setsid()?;
    limit(Resource::Core, 0)?;
    if let Some(bytes) = asked.data_bytes {
        limit(Resource::Data, bytes)?;
    }
    if asked.keeps_orphans {
        set_child_subreaper(Some(getpid()))?;
    }
    let open_files = asked.open_files.and_then(limit_open_files);
    let priority = Some(asked.niceness).filter(|niceness| *niceness != 0);
    let priority = priority.and_then(be_nice);
    set_no_new_privs(true)?;
    Ok(Confined {
        without_private_tmp,
        without_group,
        not_held: open_files.into_iter().chain(priority).collect(),
    })
}

/// Why it did not work, if it did not.
fn join(door: &Path) -> Option<String> {
    let joined = OpenOptions::new().write(true).open(door);
    let joined = joined.and_then(|mut door| door.write_all(b"0"));
    let error = joined.err()?;
    Some(format!("failed to join {}: {error}", door.display()))
}

fn limit_open_files(most: u64) -> Option<(LimitName, String)> {
    limit(Resource::Nofile, most).err()?;
    let now = getrlimit(Resource::Nofile).maximum;
    // Fewer than asked for is held; more is not given without privileges.
    let now = now.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    let why = format!("it cannot be raised: the hard limit is {now}");
    Some((LimitName::OpenFiles, why))
}

fn be_nice(niceness: i32) -> Option<(LimitName, String)> {
    let error = nice(niceness).err()?;
    let why = format!("the kernel refuses niceness {niceness}: {error}");
    Some((LimitName::Priority, why))
}

/// After the namespaces: a change of who we are would take it back.
fn die_with(worker: u32) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(parent) != Ok(worker) {
        return Err(io::Error::other("the worker ended before its agent began"));
    }
    Ok(())
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}

/// One line, before any frame.
fn tell(confined: &Confined) -> io::Result<()> {
    let mut line = serde_json::to_vec(confined)?;
    line.push(b'\n');
    let channel = io::stdin().as_fd().try_clone_to_owned()?;
    std::os::unix::net::UnixStream::from(channel).write_all(&line)
}
