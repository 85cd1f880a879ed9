//! The table `[execution]` of `par.toml`: bounds of the execution backend of each agent that has one.

use std::ops::RangeInclusive;
use std::time::Duration;

use par_model::SessionLimits;

use super::table::{Notes, Value};

const MONTH: u32 = 30 * 24 * 3600;
const DAY: u32 = 24 * 3600;
/// A message of gRPC and a frame take 64 MiB at most.
const MOST_KB: u32 = 60 << 10;

/// A name, what it may be, and what it sets.
type Setting = (
    &'static str,
    RangeInclusive<u32>,
    fn(&mut SessionLimits, u32),
);

const SETTINGS: [Setting; 7] = [
    ("sessions", 1..=100_000, |limits, most| {
        limits.most = most as usize;
    }),
    ("idle_seconds", 1..=MONTH, |limits, seconds| {
        limits.idle = Duration::from_secs(seconds.into());
    }),
    ("running", 1..=10_000, |limits, most| {
        limits.running = most as usize;
    }),
    ("timeout_seconds", 1..=DAY, |limits, seconds| {
        limits.time = Duration::from_secs(seconds.into());
    }),
    ("output_limit_kb", 1..=MOST_KB, |limits, kilobytes| {
        limits.output = (kilobytes as usize) << 10;
    }),
    ("result_limit_kb", 1..=MOST_KB, |limits, kilobytes| {
        limits.result = u64::from(kilobytes) << 10;
    }),
    ("warm", 0..=64, |limits, count| limits.warm = count as usize),
];

/// What is left out keeps its default.
pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> SessionLimits {
    let mut limits = SessionLimits::default();
    let Some(table) = notes.table("execution", value) else {
        return limits;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let setting = SETTINGS.iter().find(|(known, ..)| *known == name);
        let Some((_, range, set)) = setting else {
            notes.unknown(name, &key.span(), &SETTINGS.map(|(known, ..)| known));
            continue;
        };
        if let Some(number) = notes.whole_within(name, value, range) {
            set(&mut limits, number);
        }
    }
    limits
}
