//! The table `[logs]` of `par.toml`: how much of what agents write is kept on disk.

use std::time::Duration;

use super::table::{Notes, Setting, Value};
use crate::logs::LogSettings;

const DAY: u64 = 24 * 3600;

const SETTINGS: [Setting<u64, LogSettings>; 4] = [
    ("file_mb", 1..=10_000, |settings, megabytes| {
        settings.file_bytes = megabytes << 20;
    }),
    ("files", 2..=1_000, |settings, count| {
        settings.files = usize::try_from(count).unwrap_or(usize::MAX);
    }),
    ("days", 1..=3_650, |settings, days| {
        settings.age = Duration::from_secs(days * DAY);
    }),
    ("total_mb", 1..=100_000_000, |settings, megabytes| {
        settings.total_bytes = megabytes << 20;
    }),
];

pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> LogSettings {
    notes.settings("logs", value, &SETTINGS)
}
