//! The hidden subcommand `__confine`: changes the process that it is, then becomes the agent.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use rustix::process::{
    Resource, Rlimit, Signal, getppid, set_parent_process_death_signal, setrlimit, setsid,
};
use rustix::thread::set_no_new_privs;
use serde::{Deserialize, Serialize};

/// What the confiner is asked for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Confinement {
    /// The worker: when it is no longer our parent, there is nobody to serve.
    pub parent: u32,
    /// Most bytes of private memory that each process of the agent may have.
    pub data_bytes: Option<u64>,
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
    match serde_json::from_str(&asked)
        .map_err(io::Error::from)
        .and_then(|asked| apply(&asked))
    {
        Ok(()) => Command::new(program).args(arguments).exec(),
        Err(error) => error,
    }
}

fn apply(asked: &Confinement) -> io::Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL))?;
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(parent) != Ok(asked.parent) {
        return Err(io::Error::other("the worker ended before its agent began"));
    }
    setsid()?;
    setrlimit(
        Resource::Core,
        Rlimit {
            current: Some(0),
            maximum: Some(0),
        },
    )?;
    if let Some(bytes) = asked.data_bytes {
        setrlimit(
            Resource::Data,
            Rlimit {
                current: Some(bytes),
                maximum: Some(bytes),
            },
        )?;
    }
    set_no_new_privs(true)?;
    Ok(())
}
