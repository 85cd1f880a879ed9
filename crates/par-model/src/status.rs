//! What is known of an agent at one moment.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ProcessState {
    /// Its package or dependencies are being prepared, or its code is loading.
    Starting,
    /// It answers.
    Running,
    /// It finishes its last calls, or is being ended.
    Stopping,
    /// It ended as it was asked to, or with exit code 0.
    Stopped,
    /// It never came up; the reason is in `error`.
    Failed,
    /// It ended by itself after it had served; it may be waiting for its next restart.
    Crashed,
}

impl ProcessState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
        }
    }
}
