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

#[cfg(test)]
mod tests {
    use super::super::{Given, Settings};
    use par_model::limits::{LimitsBy, Priority};

    fn resolved(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("par.toml");
        std::fs::write(&config, text).expect("written");
        let given = Given {
            config: Some(config),
            ..Given::default()
        };
        Settings::resolve(given).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn the_file_sets_what_agents_get_that_ask_for_nothing() {
        let settings = resolved(
            "limits_by = \"rlimits\"\n[limits]\nmemory_limit_mb = 64\npids_limit = 0\ncpu_limit = 1.5\nrequire_limits = true\npriority = \"low\"\n",
        );
        let settings = settings.expect("right");
        let limits = &settings.limits.limits;
        assert_eq!(settings.limits_by, LimitsBy::Rlimits);
        assert_eq!((limits.memory, limits.pids), (Some(64 << 20), None));
        assert_eq!(
            (limits.cpus, limits.priority),
            (Some(1.5), Some(Priority::Low))
        );
        assert_eq!(limits.open_files, Some(1024), "left out");
        assert!(settings.limits.required);
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let mistakes = resolved(
            "limits_by = \"hope\"\n[limits]\nmemory_limit_mb = -1\nmemory = 1\nrequire_limits = 1\npriority = \"urgent\"\n[[agents]]\npackage = \"x\"\npids_limit = \"many\"\n",
        );
        let mistakes = mistakes.expect_err("six mistakes");
        for line in [1, 3, 4, 5, 6, 9] {
            assert!(
                mistakes.contains(&format!("par.toml:{line}:")),
                "{line} in {mistakes}"
            );
        }
    }
}
