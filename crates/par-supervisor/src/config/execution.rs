//! The table `[execution]` of `par.toml`: bounds of the execution backend of each agent that has one.

use std::time::Duration;

use par_model::SessionLimits;

use super::table::{Notes, Value};

const KNOWN: [&str; 7] = [
    "sessions",
    "idle_seconds",
    "running",
    "timeout_seconds",
    "output_limit_kb",
    "result_limit_kb",
    "warm",
];

/// What is left out keeps its default.
pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> SessionLimits {
    let mut limits = SessionLimits::default();
    let Some(table) = notes.table("execution", value) else {
        return limits;
    };
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let at_least = if name == "warm" { 0 } else { 1 };
        let Some(most) = most(name) else {
            notes.unknown(name, &key.span(), &KNOWN);
            continue;
        };
        let Some(number) = notes.whole::<u32>(name, value) else {
            continue;
        };
        if !(at_least..=most).contains(&number) {
            let message = format!("`{name}` is {number}: it has to be from {at_least} to {most}");
            notes.note(&value.span(), message);
            continue;
        }
        set(&mut limits, name, number);
    }
    limits
}

fn most(name: &str) -> Option<u32> {
    Some(match name {
        "sessions" => 100_000,
        "idle_seconds" => 30 * 24 * 3600,
        "running" => 10_000,
        "timeout_seconds" => 24 * 3600,
        "output_limit_kb" | "result_limit_kb" => 60 << 10, // a message is 64 MiB at most
        "warm" => 64,
        _ => return None,
    })
}

fn set(limits: &mut SessionLimits, name: &str, number: u32) {
    let seconds = Duration::from_secs(number.into());
    match name {
        "sessions" => limits.most = number as usize,
        "idle_seconds" => limits.idle = seconds,
        "running" => limits.running = number as usize,
        "timeout_seconds" => limits.time = seconds,
        "output_limit_kb" => limits.output = (number as usize) << 10,
        "result_limit_kb" => limits.result = u64::from(number) << 10,
        "warm" => limits.warm = number as usize,
        _ => {}
    }
}
