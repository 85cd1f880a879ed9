//! Limits of the process, which all that it becomes and starts inherits.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;

use par_model::limits::LimitName;
use rustix::process::{
    Resource, Rlimit, Signal, getppid, getrlimit, nice, set_parent_process_death_signal, setrlimit,
};

use super::plan::{Confined, Confinement};

pub(super) fn join_groups(asked: &Confinement) -> Confined {
    Confined {
        without_group: asked.groups.iter().find_map(|door| join(door)),
        ..Confined::default()
    }
}

/// Why it did not work, if it did not.
fn join(door: &Path) -> Option<String> {
    let joined = OpenOptions::new().write(true).open(door);
    let joined = joined.and_then(|mut door| door.write_all(b"0"));
    let error = joined.err()?;
    Some(format!("failed to join {}: {error}", door.display()))
}

/// To be done anew after every change of who we are, which takes it back.
pub(super) fn die_with_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}

pub(super) fn die_with(worker: u32) -> io::Result<()> {
    die_with_parent()?;
    let parent = getppid().map_or(0, |pid| pid.as_raw_nonzero().get());
    if u32::try_from(parent) != Ok(worker) {
        return Err(io::Error::other("the worker ended before its agent began"));
    }
    Ok(())
}

/// Before anything is given up that a better niceness needs.
pub(super) fn be_nice(niceness: i32) -> Option<(LimitName, String)> {
    if niceness == 0 {
        return None;
    }
    let error = nice(niceness).err()?;
    let why = format!("the kernel refuses niceness {niceness}: {error}");
    Some((LimitName::Priority, why))
}

/// Those that do not hold, and why.
pub(super) fn limit_resources(asked: &Confinement) -> io::Result<Vec<(LimitName, String)>> {
    limit(Resource::Core, 0)?;
    if let Some(bytes) = asked.data_bytes {
        limit(Resource::Data, bytes)?;
    }
    if let Some(bytes) = asked.file_bytes {
        limit(Resource::Fsize, bytes)?;
    }
    if let Some(most) = asked.processes {
        limit(Resource::Nproc, most)?;
    }
    Ok(asked
        .open_files
        .and_then(limit_open_files)
        .into_iter()
        .collect())
}

fn limit_open_files(most: u64) -> Option<(LimitName, String)> {
    limit(Resource::Nofile, most).err()?;
    let now = getrlimit(Resource::Nofile).maximum;
    // Fewer than asked for is held; more is not given without privileges.
    let now = now.map_or_else(|| "unlimited".to_owned(), |most| most.to_string());
    let why = format!("it cannot be raised: the hard limit is {now}");
    Some((LimitName::OpenFiles, why))
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(setrlimit(resource, limit)?)
}
