//! Lines that agents write, and how loud they are.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

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

impl Level {
    /// The level that a line names near its beginning (`ERROR:root:…`, `[12:00] [WARNING] …`), else what its
    /// stream suggests: standard error is an error, standard output is information.
    pub fn of_line(stream: Stream, line: &str) -> Self {
        let words = line
            .split(|c: char| !c.is_ascii_alphabetic())
            .filter(|word| word.len() >= 4 && word.bytes().all(|b| b.is_ascii_uppercase()));
        words
            .take(2)
            .find_map(|word| word.parse().ok())
            .unwrap_or(match stream {
                Stream::Stderr => Self::Error,
                Stream::Stdout | Stream::Worker => Self::Info,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_loud_as_it_says() {
        for (line, level) in [
            ("ERROR:root:no", Level::Error),
            ("[2026-01-01 10:00] [WARNING] low", Level::Warning),
            ("INFO:     started", Level::Info),
            ("DEBUG x", Level::Debug),
            ("Traceback (most recent call last):", Level::Error),
            ("an Error in prose", Level::Error),
        ] {
            assert_eq!(Level::of_line(Stream::Stderr, line), level, "{line}");
        }
        assert_eq!(Level::of_line(Stream::Stdout, "plain"), Level::Info);
    }
}
