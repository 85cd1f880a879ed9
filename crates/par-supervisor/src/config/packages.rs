//! The table `[packages]` of `par.toml`: how dependencies are installed.

use std::time::Duration;

use par_model::control::InstallRules;
use toml::de::DeValue;

use super::table::{Notes, Value};

const KNOWN: [&str; 4] = [
    "source_distributions",
    "hosts",
    "environment_mb",
    "deadline_seconds",
];
const DAY: u64 = 24 * 60 * 60;
/// A pebibyte.
const MOST_MEGABYTES: u64 = 1 << 30;

pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> InstallRules {
    let mut rules = InstallRules::default();
    for (key, value) in notes.table("packages", value).into_iter().flatten() {
        let name = key.get_ref().as_ref();
        match name {
            "source_distributions" => {
                let allowed = notes.truth(name, value);
                rules.source_distributions = allowed.unwrap_or(rules.source_distributions);
            }
            "hosts" => rules.hosts = hosts(name, value, notes),
            "environment_mb" => {
                let megabytes = notes.whole_within(name, value, &(1..=MOST_MEGABYTES));
                rules.bytes = megabytes.map_or(rules.bytes, |number: u64| number << 20);
            }
            "deadline_seconds" => {
                let seconds = notes.whole_within(name, value, &(1..=DAY));
                rules.deadline = seconds.map_or(rules.deadline, Duration::from_secs);
            }
            unknown => notes.unknown(unknown, &key.span(), &KNOWN),
        }
    }
    rules
}

fn hosts(key: &str, value: &Value<'_>, notes: &mut Notes<'_>) -> Vec<String> {
    let DeValue::Array(entries) = value.get_ref() else {
        let list = notes.expected::<Vec<_>>(key, "a list of hosts", value.get_ref(), value.span());
        return list.unwrap_or_default();
    };
    let mut hosts = vec![];
    for entry in entries {
        match notes.text(key, entry) {
            Some(host) if is_host(&host) => hosts.push(host),
            Some(host) => {
                let message = format!(
                    "`{key}`: `{host}` is not a host; write it like files.example.org or files.example.org:8443"
                );
                notes.note(&entry.span(), message);
            }
            None => {}
        }
    }
    hosts
}

fn is_host(word: &str) -> bool {
    let (host, port) = word.split_once(':').unwrap_or((word, "443"));
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    !host.is_empty() && host.chars().all(is_letter) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_with_a_port_or_without() {
        for host in ["files.example.org", "10.0.0.7:3141", "cache:80"] {
            assert!(is_host(host), "{host}");
        }
        for no_host in [
            "",
            "https://a.org",
            "a.org/simple",
            "a b",
            "a:port",
            "u@a.org",
        ] {
            assert!(!is_host(no_host), "{no_host}");
        }
    }
}
