//! The table `[logs]` of `par.toml`: how much of what agents write is kept on disk.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::table::{Notes, Value};
use crate::logs::LogSettings;

const DAY: u64 = 24 * 3600;

/// A name, what it may be, and what it sets.
type Setting = (&'static str, RangeInclusive<u64>, fn(&mut LogSettings, u64));

const SETTINGS: [Setting; 4] = [
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

/// What is left out keeps its default.
pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> LogSettings {
    let mut settings = LogSettings::default();
    let Some(table) = notes.table("logs", value) else {
        return settings;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let setting = SETTINGS.iter().find(|(known, ..)| *known == name);
        let Some((_, range, set)) = setting else {
            notes.unknown(name, &key.span(), &SETTINGS.map(|(known, ..)| known));
            continue;
        };
        if let Some(number) = notes.whole_within(name, value, range) {
            set(&mut settings, number);
        }
    }
    settings
}
