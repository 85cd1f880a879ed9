//! The table `[execution]` of `par.toml`: bounds of the execution backend of each agent that has one.

use std::time::Duration;

use par_model::SessionLimits;

use super::table::{Notes, Setting, Value};

const MONTH: u32 = 30 * 24 * 3600;
const DAY: u32 = 24 * 3600;
/// A message of gRPC and a frame take 64 MiB at most.
const MOST_KB: u32 = 60 << 10;

const SETTINGS: [Setting<u32, SessionLimits>; 7] = [
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

pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> SessionLimits {
    notes.settings("execution", value, &SETTINGS)
}
