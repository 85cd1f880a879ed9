//! The hidden subcommand `__confine`: changes the process that it is, then becomes the agent.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, nice, set_child_subreaper,
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
    /// How much less than the worker it is preferred by the scheduler, 0 to 19.
    pub niceness: i32,
}

/// What took hold, said on standard input before the program begins.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Confined {
    /// Why there is no private `/tmp`, where one was asked for.
    pub without_private_tmp: Option<String>,
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
        .and_then(|asked| apply(&asked))
        .and_then(|confined| tell(&confined));
    match confined {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn apply(asked: &Confinement) -> io::Result<Confined> {
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
    if asked.niceness > 0 {
        nice(asked.niceness)?;
    }
    set_no_new_privs(true)?;
    Ok(Confined {
        without_private_tmp,
    })
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
