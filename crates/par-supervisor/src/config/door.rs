//! The table `[door]` of `par.toml`: what callers may send, how much, how fast, and under which names.

use std::time::Duration;

use par_door::{Host, Names, Quota, Rate};
use par_gateway::Config;
use par_model::control::KnownAs;
use toml::de::DeValue;

use super::table::{Notes, Setting, Value};

const HOUR: u32 = 3600;
const DAY: u32 = 24 * HOUR;
/// Of calls or connections; nothing here counts further.
const MOST: u32 = 1_000_000;

/// What is not set is as the gateway has it.
#[derive(Clone, Debug, PartialEq)]
pub struct DoorSettings {
    /// Of all callers together.
    connections: u32,
    connections_per_address: u32,
    per_caller: Limits,
    per_agent: Limits,
    header_timeout: Duration,
    stall_timeout: Duration,
    websocket_idle: Duration,
    slowest_upload: u32,
    /// Names of ours, and origins of pages that may use us.
    hosts: Vec<String>,
    origins: Vec<String>,
}

/// Zero is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Limits {
    calls: u32,
    rate: u32,
    burst: u32,
}

impl Limits {
    fn quota(self) -> Quota {
        let burst = if self.burst == 0 {
            self.rate
        } else {
            self.burst
        };
        Quota {
            calls: self.calls,
            rate: Rate::new(self.rate, burst),
        }
    }
}

impl Default for DoorSettings {
    fn default() -> Self {
        let usual = Config::default();
        let connections = usual.max_connections.saturating_mul(usual.threads);
        Self {
            connections: u32::try_from(connections).unwrap_or(MOST),
            connections_per_address: usual.max_connections_per_address,
            per_caller: Limits {
                calls: usual.per_caller.calls,
                ..Limits::default()
            },
            per_agent: Limits::default(),
            header_timeout: usual.header_timeout,
            stall_timeout: usual.stall_timeout,
            websocket_idle: usual.websocket_idle,
            slowest_upload: usual.slowest_upload,
            hosts: vec![],
            origins: vec![],
        }
    }
}

impl DoorSettings {
    /// For a gateway on `own`.
    pub(crate) fn config(&self, own: std::net::IpAddr, usual: Config) -> Config {
        let threads = usual.threads.max(1);
        Config {
            max_connections: (self.connections as usize).div_ceil(threads),
            max_connections_per_address: self.connections_per_address,
            per_caller: self.per_caller.quota(),
            per_agent: self.per_agent.quota(),
            header_timeout: self.header_timeout,
            stall_timeout: self.stall_timeout,
            websocket_idle: self.websocket_idle,
            slowest_upload: self.slowest_upload,
            names: Names::of(own, self.hosts.clone(), self.origins.clone()),
            ..usual
        }
    }

    /// For the agents' own ports.
    pub(crate) fn known_as(&self) -> KnownAs {
        KnownAs {
            hosts: self.hosts.clone(),
            origins: self.origins.clone(),
        }
    }
}

const NUMBERS: [Setting<u32, DoorSettings>; 12] = [
    ("connections", 1..=MOST, |door, most| {
        door.connections = most
    }),
    ("connections_per_address", 0..=MOST, |door, most| {
        door.connections_per_address = most;
    }),
    ("calls_per_caller", 0..=MOST, |door, most| {
        door.per_caller.calls = most;
    }),
    ("rate_per_caller", 0..=MOST, |door, rate| {
        door.per_caller.rate = rate;
    }),
    ("burst_per_caller", 0..=MOST, |door, burst| {
        door.per_caller.burst = burst;
    }),
    ("calls_per_agent", 0..=MOST, |door, most| {
        door.per_agent.calls = most;
    }),
    ("rate_per_agent", 0..=MOST, |door, rate| {
        door.per_agent.rate = rate;
    }),
    ("burst_per_agent", 0..=MOST, |door, burst| {
        door.per_agent.burst = burst;
    }),
    ("header_timeout_seconds", 1..=HOUR, |door, seconds| {
        door.header_timeout = Duration::from_secs(seconds.into());
    }),
    ("stall_timeout_seconds", 1..=HOUR, |door, seconds| {
        door.stall_timeout = Duration::from_secs(seconds.into());
    }),
    ("websocket_idle_seconds", 1..=7 * DAY, |door, seconds| {
        door.websocket_idle = Duration::from_secs(seconds.into());
    }),
    ("slowest_upload", 0..=MOST, |door, bytes| {
        door.slowest_upload = bytes;
    }),
];

pub(super) fn read(value: &Value<'_>, notes: &mut Notes<'_>) -> DoorSettings {
    let mut door = DoorSettings::default();
    for (key, value) in notes.table("door", value).into_iter().flatten() {
        match key.get_ref().as_ref() {
            "hosts" => door.hosts = words("hosts", value, is_name, notes),
            "origins" => door.origins = words("origins", value, is_origin, notes),
            name => match NUMBERS.iter().find(|(known, ..)| *known == name) {
                Some((_, range, set)) => {
                    if let Some(number) = notes.whole_within(name, value, range) {
                        set(&mut door, number);
                    }
                }
                None => {
                    let mut known = NUMBERS.map(|(known, ..)| known).to_vec();
                    known.extend(["hosts", "origins"]);
                    notes.unknown(name, &key.span(), &known);
                }
            },
        }
    }
    door
}

fn words(
    key: &str,
    value: &Value<'_>,
    fits: fn(&str) -> Result<(), &'static str>,
    notes: &mut Notes<'_>,
) -> Vec<String> {
    let DeValue::Array(entries) = value.get_ref() else {
        return notes
            .expected::<Vec<_>>(key, "a list of words", value.get_ref(), value.span())
            .unwrap_or_default();
    };
    let mut words = vec![];
    for entry in entries {
        let Some(word) = notes.text(key, entry) else {
            continue;
        };
        match fits(&word) {
            Ok(()) => words.push(word),
            Err(why) => notes.note(&entry.span(), format!("`{key}`: `{word}` {why}")),
        }
    }
    words
}

fn is_name(word: &str) -> Result<(), &'static str> {
    let has_port = word.contains(':');
    Host::parse(word)
        .filter(|_| !has_port)
        .map(drop)
        .ok_or("is not a host name; write it like par.example.com, without a port")
}

fn is_origin(word: &str) -> Result<(), &'static str> {
    let of_a_page = || {
        let host = word
            .strip_prefix("https://")
            .or_else(|| word.strip_prefix("http://"))?;
        Host::parse(host)
    };
    (word == "*" || of_a_page().is_some())
        .then_some(())
        .ok_or("is no origin; write it like https://app.example.com, or * for all")
}
