//! Lines that agents write, and how loud they are.

mod levels;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ReplicaId;
pub use levels::Levels;

#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "UPPERCASE")]
pub enum Level {
    Debug,
    Info,
    Warning,
    Error,
    Critical,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stream {
    Stdout,
    Stderr,
    /// Said by the worker about its agent.
    Worker,
}

/// One line, already cut to a bounded length, control characters kept as they came.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Milliseconds since 1970.
    pub at_ms: u64,
    pub stream: Stream,
    pub level: Level,
    /// Whose it is; the supervisor knows that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replica: Option<ReplicaId>,
    /// The call that wrote it, where that can be known: what its caller was told as `x-request-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    pub message: String,
}

impl std::str::FromStr for Level {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        match word.to_ascii_uppercase().as_str() {
            "DEBUG" | "TRACE" => Ok(Self::Debug),
            "INFO" | "NOTICE" => Ok(Self::Info),
            "WARNING" | "WARN" => Ok(Self::Warning),
            "ERROR" => Ok(Self::Error),
            "CRITICAL" | "FATAL" => Ok(Self::Critical),
            _ => Err(format!(
                "`{word}` is no level: debug, info, warning, error or critical"
            )),
        }
    }
}
