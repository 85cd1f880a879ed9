//! Sets the limits of one group, and says what of them holds.

use std::io;
use std::path::Path;

use par_model::limits::{
    Controller, GroupPart, GroupVersion, How, Limit, LimitName, Limits, Priority, amount,
};

use super::files::{reason, write};
use super::one::Group;

/// Of time that processors are given out in, in microseconds.
const PERIOD: u64 = 100_000;
/// The kernel takes no less.
const LEAST_QUOTA: u64 = 1_000;

impl Group {
    /// Limits memory, processors and processes of all that is in the group together; the other limits are not a group's.
    pub fn set(&self, limits: &Limits) -> Vec<Limit> {
        let mut said = vec![];
        let mut say = |name, asked, controller, set: &dyn Fn(&GroupPart) -> io::Result<()>| {
            said.push(match self.try_set(controller, set) {
                Ok(how) => Limit::held(name, asked, how),
                Err(why) => Limit::not_held(name, asked, why),
            });
        };
        if let Some(bytes) = limits.memory {
            say(
                LimitName::Memory,
                amount(bytes),
                Controller::Memory,
                &|part| limit_memory(part, bytes),
            );
        }
        if let Some(cpus) = limits.cpus {
            say(LimitName::Cpu, cpus.to_string(), Controller::Cpu, &|part| {
                limit_cpu(part, cpus)
            });
        }
        if let Some(most) = limits.pids {
            say(
                LimitName::Pids,
                most.to_string(),
                Controller::Pids,
                &|part| write(&part.folder, "pids.max", &most.to_string()),
            );
        }
        said
    }

    /// How it stands among the groups beside it.
    pub fn prefer(&self, priority: Priority) -> Result<How, String> {
        self.try_set(Controller::Cpu, &|part| {
            let (file, usual) = match part.version {
                GroupVersion::Two => ("cpu.weight", 100),
                GroupVersion::One => ("cpu.shares", 1024),
            };
            let weight = match priority {
                Priority::Low => usual / 4,
                Priority::Normal => usual,
                Priority::High => usual * 4,
            };
            write(&part.folder, file, &weight.to_string())
        })
    }

    fn try_set(
        &self,
        controller: Controller,
        set: &dyn Fn(&GroupPart) -> io::Result<()>,
    ) -> Result<How, String> {
        let part = self.part_with(controller)?;
        set(part).map_err(|error| reason(&error, "limit", &part.folder))?;
        Ok(part.version.into())
    }
}

fn limit_memory(part: &GroupPart, bytes: u64) -> io::Result<()> {
    let (folder, bytes) = (part.folder.as_path(), bytes.to_string());
    match part.version {
        GroupVersion::Two => {
            write(folder, "memory.max", &bytes)?;
            if_offered(write(folder, "memory.swap.max", "0"))
        }
        GroupVersion::One => limit_memory_of_version_1(folder, &bytes),
    }
}

/// The limit of memory and swap together may never be the smaller one, so which comes first depends on what was.
fn limit_memory_of_version_1(folder: &Path, bytes: &str) -> io::Result<()> {
    const MEMORY: &str = "memory.limit_in_bytes";
    const WITH_SWAP: &str = "memory.memsw.limit_in_bytes";
    if write(folder, MEMORY, bytes).is_ok() {
        return if_offered(write(folder, WITH_SWAP, bytes));
    }
    if_offered(write(folder, WITH_SWAP, bytes))?;
    write(folder, MEMORY, bytes)
}

/// A kernel without swap accounting has no file for it, and no swap that counts.
fn if_offered(written: io::Result<()>) -> io::Result<()> {
    match written {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written,
    }
}

fn limit_cpu(part: &GroupPart, cpus: f64) -> io::Result<()> {
    // Saturates, as floats do when they are cast.
    let quota = ((cpus * PERIOD as f64) as u64).max(LEAST_QUOTA);
    match part.version {
        GroupVersion::Two => write(&part.folder, "cpu.max", &format!("{quota} {PERIOD}")),
        GroupVersion::One => {
            write(&part.folder, "cpu.cfs_period_us", &PERIOD.to_string())?;
            write(&part.folder, "cpu.cfs_quota_us", &quota.to_string())
        }
    }
}
