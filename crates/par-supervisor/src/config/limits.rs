//! The table `[limits]` of `par.toml`: limits of agents that ask for no other.

use par_model::limits::Priority;

use super::table::{Notes, Value};
use crate::limits::LimitDefaults;

const KNOWN: [&str; 7] = [
    "memory_limit_mb",
    "cpu_limit",
    "pids_limit",
    "open_files_limit",
    "workspace_limit_mb",
    "priority",
    "require_limits",
];

/// What is left out keeps its default; 0 is no limit.
pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> LimitDefaults {
    let mut read = LimitDefaults::default();
    let Some(table) = notes.table("limits", value) else {
        return read;
    };
    let limits = &mut read.limits;
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        let mut whole = |limit: &mut Option<u64>, unit: u64| {
            if let Some(number) = notes.whole::<u64>(name, value) {
                *limit = Some(number.saturating_mul(unit)).filter(|number| *number > 0);
            }
        };
        match name {
            "memory_limit_mb" => whole(&mut limits.memory, 1 << 20),
            "pids_limit" => whole(&mut limits.pids, 1),
            "open_files_limit" => whole(&mut limits.open_files, 1),
            "workspace_limit_mb" => whole(&mut limits.workspace, 1 << 20),
            "cpu_limit" => {
                if let Some(number) = notes.number(name, value) {
                    limits.cpus = Some(number).filter(|number| *number > 0.0);
                }
            }
            "priority" => limits.priority = priority(value, notes).or(limits.priority),
            "require_limits" => {
                if let Some(required) = notes.truth(name, value) {
                    read.required = required;
                }
            }
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    read
}

pub(super) fn priority(value: &Value<'_>, notes: &mut Notes<'_>) -> Option<Priority> {
    let text = notes.text("priority", value)?;
    let priority = serde_json::from_value(serde_json::Value::String(text));
    priority
        .map_err(|_| notes.note(&value.span(), "`priority` is low, normal or high"))
        .ok()
}
