//! How much an execution session may have.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a session asks for when it begins; it keeps that for its life.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Tier {
    #[default]
    Small,
    Medium,
    Large,
}

impl Tier {
    /// Bytes of memory, before they are cut to what the machine has.
    pub fn memory(self) -> u64 {
        match self {
            Self::Small => 2 << 30,
            Self::Medium => 4 << 30,
            Self::Large => 16 << 30,
        }
    }

    /// Processors, before they are cut to what the machine has.
    pub fn processors(self) -> usize {
        match self {
            Self::Small => 1,
            Self::Medium => 2,
            Self::Large => 4,
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Small => "SMALL",
            Self::Medium => "MEDIUM",
            Self::Large => "LARGE",
        })
    }
}

/// Why a run did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunFailure {
    /// The code is no Python.
    Compile,
    /// The code raised, or exited.
    Raised,
    /// Context, files or a patch that make no sense.
    Input,
    /// It wanted more memory than its session may have.
    Memory,
    /// Its files took more of the disk than they may.
    Disk,
    TimedOut,
    /// Whoever asked for it left.
    CallerLeft,
    SessionEnded,
    /// The interpreter ended, or none could be started.
    Interpreter,
}

/// Bounds of the execution backend of one agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionLimits {
    /// Sessions at one time; the least recently used goes first.
    pub most: usize,
    /// A session that nobody used for so long ends.
    pub idle: Duration,
    /// Runs at one time, in all sessions together.
    pub running: usize,
    /// Runs that wait, in all sessions together.
    pub queue: usize,
    /// Runs that wait for their turn in one session.
    pub waiting: usize,
    /// Of a run that asks for no other.
    pub time: Duration,
    /// The longest that a run may ask for.
    pub longest_time: Duration,
    /// Bytes of standard output, and as many of standard error, that one run's answer holds.
    pub output: usize,
    /// Bytes of all values of an answer together.
    pub result: u64,
    /// Bytes that the worker remembers of all sessions' variables together, beside what their interpreters hold.
    pub remembered: u64,
    /// Interpreters that wait for a session to begin.
    pub warm: usize,
}

impl Default for SessionLimits {
    fn default() -> Self {
        Self {
            most: 1000,
            idle: Duration::from_secs(90 * 60),
            running: 64,
            queue: 1024,
            waiting: 64,
            time: Duration::from_secs(60),
            longest_time: Duration::from_secs(24 * 3600),
            output: 1 << 20,
            result: 8 << 20,
            remembered: 512 << 20,
            warm: 2,
        }
    }
}
