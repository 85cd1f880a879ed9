//! How much of the machine an agent may have, what of that holds, and by whose hand.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What is asked for one agent. What is absent is not limited.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes, of all processes together.
    pub memory: Option<u64>,
    /// Processors' worth of time, such as 1.5.
    pub cpus: Option<f64>,
    /// Processes and threads, together.
    pub pids: Option<u64>,
    /// Of each process.
    pub open_files: Option<u64>,
    /// Bytes of all files in the workspace.
    pub workspace: Option<u64>,
    pub priority: Option<Priority>,
}

/// Who goes first when the processors do not suffice for all.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    Low,
    #[default]
    Normal,
    High,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Low => "low",
            Self::Normal => "normal",
            Self::High => "high",
        })
    }
}

/// By which means limits are to be held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LimitsBy {
    /// The best that this machine offers.
    #[default]
    Auto,
    Cgroup2,
    Cgroup1,
    /// Without control groups.
    Rlimits,
}

impl FromStr for LimitsBy {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word {
            "auto" => Ok(Self::Auto),
            "cgroup2" => Ok(Self::Cgroup2),
            "cgroup1" => Ok(Self::Cgroup1),
            "rlimits" => Ok(Self::Rlimits),
            _ => Err(format!(
                "`{word}` is none of auto, cgroup2, cgroup1 and rlimits"
            )),
        }
    }
}

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum LimitName {
    Memory,
    Cpu,
    Pids,
    OpenFiles,
    Workspace,
    Priority,
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::OpenFiles => "open files",
            Self::Workspace => "workspace",
            Self::Priority => "priority",
        })
    }
}

/// Who holds a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum How {
    #[serde(rename = "cgroup v2")]
    Cgroup2,
    #[serde(rename = "cgroup v1")]
    Cgroup1,
    #[serde(rename = "rlimit")]
    Rlimit,
    #[serde(rename = "nice")]
    Nice,
    /// The worker looks again and again, and ends an agent that has more.
    #[serde(rename = "watchdog")]
    Watchdog,
}

impl fmt::Display for How {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cgroup2 => "cgroup v2",
            Self::Cgroup1 => "cgroup v1",
            Self::Rlimit => "rlimit",
            Self::Nice => "nice",
            Self::Watchdog => "watchdog",
        })
    }
}

/// One limit that was asked for, and the truth about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Limit {
    pub name: LimitName,
    /// Such as `64 MiB`.
    pub asked: String,
    pub held: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub how: Option<How>,
    /// Why it does not hold, or not as one may think.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl Limit {
    pub fn held(name: LimitName, asked: impl Into<String>, how: How) -> Self {
        Self {
            name,
            asked: asked.into(),
            held: true,
            how: Some(how),
            why: None,
        }
    }

    pub fn not_held(name: LimitName, asked: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            name,
            asked: asked.into(),
            held: false,
            how: None,
            why: Some(why.into()),
        }
    }
}

/// `memory 64 MiB (cgroup v1)`, or `cpu 1.5 (not held: …)`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            asked,
            how,
            why,
            ..
        } = self;
        match (how, why) {
            (Some(how), None) => write!(f, "{name} {asked} ({how})"),
            (Some(how), Some(why)) => write!(f, "{name} {asked} ({how}: {why})"),
            (None, why) => {
                let why = why.as_deref().unwrap_or("for no known reason");
                write!(f, "{name} {asked} (not held: {why})")
            }
        }
    }
}

/// Which of the two kinds of control groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GroupVersion {
    One,
    Two,
}

impl From<GroupVersion> for How {
    fn from(version: GroupVersion) -> Self {
        match version {
            GroupVersion::One => Self::Cgroup1,
            GroupVersion::Two => Self::Cgroup2,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Controller {
    Memory,
    Cpu,
    Pids,
    Freezer,
}

impl Controller {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cpu => "cpu",
            Self::Pids => "pids",
            Self::Freezer => "freezer",
        }
    }
}

/// A folder of one hierarchy of control groups.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPart {
    pub version: GroupVersion,
    /// Those that limit what is in it.
    pub controllers: Vec<Controller>,
    pub folder: PathBuf,
}

/// Where a control group is: in one hierarchy, or in several that belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupPlace {
    pub parts: Vec<GroupPart>,
    /// Why a controller is in none of them.
    pub missing: Vec<(Controller, String)>,
}

/// Whether a replica has a control group of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Grouping {
    In(GroupPlace),
    Without { why: String },
}

/// The group of all agents of the supervisor that uses this state folder, by the folder's canonical path: two
/// supervisors never share one, and the next life of one finds its own again.
pub fn group_name(state: &std::path::Path) -> String {
    // FNV-1a: stable from build to build, and nothing to defend.
    let hash = state
        .as_os_str()
        .as_encoded_bytes()
        .iter()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
        });
    format!("par-{hash:016x}")
}

/// `64 MiB`, `1.5 GiB`: for people.
pub fn amount(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let digits = usize::from(value.fract() > 0.05 && value.fract() < 0.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn amounts_are_said_as_people_say_them() {
        for (bytes, said) in [
            (64 << 20, "64 MiB"),
            (3 << 29, "1.5 GiB"),
            (67_200_000, "64.1 MiB"),
            (100, "100 bytes"),
        ] {
            assert_eq!(amount(bytes), said);
        }
    }

    #[test]
    fn a_limit_says_who_holds_it_or_why_nobody_does() {
        let held = Limit::held(LimitName::Memory, "64 MiB", How::Cgroup1);
        assert_eq!(held.to_string(), "memory 64 MiB (cgroup v1)");
        let not = Limit::not_held(LimitName::Cpu, "1.5", "no control groups");
        assert_eq!(not.to_string(), "cpu 1.5 (not held: no control groups)");
    }

    #[test]
    fn every_state_folder_has_a_group_of_its_own() {
        let name = group_name(Path::new("/var/lib/par"));
        assert_eq!(name, group_name(Path::new("/var/lib/par")));
        assert_ne!(name, group_name(Path::new("/var/lib/par2")));
    }
}
