//! What the settings and variables of an agent may be, whoever gives them: a request or `par.toml`.

use std::collections::BTreeMap;

use par_model::api::SpawnOptions;
use par_model::control::MAX_LINE;

/// Of one agent: each has ports and processes of its own.
pub(crate) const MOST_REPLICAS: u32 = 64;

/// Bytes of all variables together: less than Linux takes of a single one. A worker is told them in one line, where
/// a byte may take six.
const LARGEST_ENV: usize = 120 << 10;
const _: () = assert!(LARGEST_ENV * 6 < MAX_LINE);

/// Seconds.
const A_WEEK: f64 = 7.0 * 24.0 * 3600.0;

/// A field whose type is right and whose value makes no sense.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OutOfBounds {
    pub(crate) field: &'static str,
    /// Names the field, too.
    pub(crate) message: String,
}

/// All that is wrong with the settings.
pub(crate) fn of_options(options: &SpawnOptions) -> Vec<OutOfBounds> {
    let mut wrong = vec![];
    fractions(options, &mut wrong);
    counts(options, &mut wrong);
    liveness(options, &mut wrong);
    wrong
}

fn fractions(options: &SpawnOptions, wrong: &mut Vec<OutOfBounds>) {
    let (delay, longest) = (
        options.restart_delay_seconds,
        options.max_restart_delay_seconds,
    );
    let bounds = [
        ("restart_delay_seconds", delay, 0.0, A_WEEK),
        ("max_restart_delay_seconds", longest, 0.0, A_WEEK),
        (
            "backoff_multiplier",
            options.backoff_multiplier,
            1.0,
            1000.0,
        ),
        ("cpu_limit", options.cpu_limit, 0.01, 4096.0),
        (
            "restart_period_seconds",
            options.restart_period_seconds,
            0.001,
            A_WEEK,
        ),
        (
            "idle_timeout_seconds",
            options.idle_timeout_seconds,
            0.001,
            A_WEEK,
        ),
        (
            "idle_stop_seconds",
            options.idle_stop_seconds,
            0.001,
            A_WEEK,
        ),
    ];
    for (field, value, least, most) in bounds {
        within(field, value, least, most, wrong);
    }
}

fn counts(options: &SpawnOptions, wrong: &mut Vec<OutOfBounds>) {
    let replicas = options.replicas.map(u64::from);
    let bounds = [
        ("replicas", replicas, 1, u64::from(MOST_REPLICAS)),
        ("memory_limit_mb", options.memory_limit_mb, 16, 1 << 24),
        ("pids_limit", options.pids_limit, 4, 1 << 22),
        ("open_files_limit", options.open_files_limit, 16, 1 << 30),
        ("workspace_limit_mb", options.workspace_limit_mb, 1, 1 << 30),
    ];
    for (field, value, least, most) in bounds {
        within(field, value, least, most, wrong);
    }
}

fn within<T: Copy + PartialOrd + std::fmt::Display>(
    field: &'static str,
    value: Option<T>,
    least: T,
    most: T,
    wrong: &mut Vec<OutOfBounds>,
) {
    if let Some(value) = value
        && !(least..=most).contains(&value)
    {
        let message = format!("{field}: {value} is not between {least} and {most}");
        wrong.push(OutOfBounds { field, message });
    }
}

/// Each field by itself, for every one of them may be wrong.
fn liveness(options: &SpawnOptions, wrong: &mut Vec<OutOfBounds>) {
    let usual = SpawnOptions::default;
    let alone = [
        (
            "liveness_interval_seconds",
            SpawnOptions {
                liveness_interval_seconds: options.liveness_interval_seconds,
                ..usual()
            },
        ),
        (
            "liveness_deadline_seconds",
            SpawnOptions {
                liveness_deadline_seconds: options.liveness_deadline_seconds,
                ..usual()
            },
        ),
        (
            "liveness_path",
            SpawnOptions {
                liveness_path: options.liveness_path.clone(),
                ..usual()
            },
        ),
    ];
    for (field, options) in alone {
        if let Err(message) = options.liveness() {
            wrong.push(OutOfBounds { field, message });
        }
    }
}

/// What is wrong with variables that no process could be given. `field` is where they were given. Says names alone: values may be secrets.
pub(crate) fn of_env(field: &str, variables: &BTreeMap<String, String>) -> Vec<String> {
    let mut wrong = vec![];
    let size: usize = variables
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if size > LARGEST_ENV {
        wrong.push(format!(
            "{field}: {size} bytes together, more than {LARGEST_ENV}"
        ));
    }
    for (name, value) in variables {
        if !par_package::is_variable_name(name) {
            let shown: String = name.escape_debug().take(80).collect();
            wrong.push(format!("{field}: `{shown}` is not a variable's name"));
        } else if value.contains('\0') {
            wrong.push(format!("{field}.{name}: contains a NUL character"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_out_of_bounds_is_named() {
        let wrong = of_options(&SpawnOptions {
            replicas: Some(0),
            cpu_limit: Some(f64::NAN),
            idle_timeout_seconds: Some(-1.0),
            memory_limit_mb: Some(1),
            liveness_interval_seconds: Some(1e9),
            liveness_path: Some("live".to_owned()),
            ..SpawnOptions::default()
        });
        let fields: Vec<&str> = wrong.iter().map(|wrong| wrong.field).collect();
        assert_eq!(
            fields,
            [
                "cpu_limit",
                "idle_timeout_seconds",
                "replicas",
                "memory_limit_mb",
                "liveness_interval_seconds",
                "liveness_path"
            ]
        );
        assert!(wrong.iter().all(|it| it.message.starts_with(it.field)));
        assert_eq!(of_options(&SpawnOptions::default()), []);
    }

    #[test]
    fn variables_are_told_by_name_alone() {
        let variables = [("A", "x\0hunter2"), ("B C", "hunter2"), ("D", "right")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let wrong = of_env("secrets", &BTreeMap::from(variables)).join("\n");
        assert!(
            wrong.contains("secrets.A:") && wrong.contains("`B C`"),
            "{wrong}"
        );
        assert!(!wrong.contains("hunter2"), "{wrong}");
    }
}
