//! Settings: flags over `PAR_*` over `par.toml` over defaults, read once, every mistake reported together.

mod access;
mod door;
mod execution;
mod file;
mod isolation;
mod limits;
mod logs;
mod packages;
mod table;
mod tls;
mod webhooks;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use par_model::SessionLimits;
use par_model::control::{CallLimits, InstallRules};
use par_model::limits::LimitsBy;
use par_store::KeySource;

pub(crate) use access::reachable;

use crate::access::AccessSettings;
use crate::events::webhooks::Webhook;
use crate::logs::LogSettings;
pub use door::DoorSettings;
use file::File;
pub use file::FileAgent;

use crate::limits::LimitDefaults;
use crate::tls::TlsFiles;
use crate::walls::IsolationSettings;

/// What was given as a flag, or by a `PAR_*` variable.
#[derive(Clone, Debug, Default)]
pub struct Given {
    pub host: Option<String>,
    /// 0: any free one.
    pub port: Option<u16>,
    pub state: Option<PathBuf>,
    /// Such as `8001-8999`.
    pub agent_ports: Option<String>,
    pub python: Option<PathBuf>,
    /// The key of the secrets; else the service manager's credential `par-secret-key`, else one in the state folder.
    pub secret_key_file: Option<PathBuf>,
    /// The folder of the service manager's credentials.
    pub credentials: Option<PathBuf>,
    /// Seconds.
    pub start_timeout: Option<f64>,
    /// Seconds; 0: workers end with their supervisor.
    pub worker_grace: Option<f64>,
    /// `auto`, `cgroup2`, `cgroup1` or `rlimits`.
    pub limits_by: Option<String>,
    pub tls_cert: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub tls_client_ca: Option<PathBuf>,
    /// `auto` or a profile.
    pub isolation: Option<String>,
    /// Without one, `par.toml` in the current folder if it is there.
    pub config: Option<PathBuf>,
}

/// What holds for this life of the supervisor.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    pub host: IpAddr,
    pub port: u16,
    pub state: PathBuf,
    /// Where the key of the secrets is.
    pub secret_key: KeySource,
    pub agent_ports: RangeInclusive<u16>,
    pub python: Option<PathBuf>,
    pub start_timeout: Duration,
    /// For calls in flight when an agent is stopped.
    pub drain_timeout: Duration,
    pub stable_after: Duration,
    /// Deadline of a call that names none.
    pub call_timeout: Duration,
    /// How long workers go on without a supervisor.
    pub worker_grace: Duration,
    /// For calls, streams and sessions of a release that was replaced.
    pub retire_timeout: Duration,
    /// For calls in flight when another process takes over.
    pub upgrade_drain_timeout: Duration,
    /// Largest JSON body and gRPC message, in bytes.
    pub body_limit: u64,
    pub limits_by: LimitsBy,
    pub isolation: IsolationSettings,
    pub install: InstallRules,
    pub limits: LimitDefaults,
    pub execution: SessionLimits,
    pub logs: LogSettings,
    pub door: DoorSettings,
    pub tls: Option<TlsFiles>,
    pub access: AccessSettings,
    pub agents: Vec<FileAgent>,
    /// Who is told what happens.
    pub webhooks: Vec<Webhook>,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    /// Such as `par.toml:3:8` or `--agent-ports`.
    pub place: String,
    pub message: String,
}

impl Mistake {
    /// Line and column of a file; flags come before them all.
    fn position(&self) -> (u32, u32) {
        let mut numbers = self.place.rsplitn(3, ':').map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(column)), Some(Ok(line))) => (line, column),
            _ => (0, 0),
        }
    }
}

/// All that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<Mistake>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .0
            .iter()
            .map(|mistake| format!("{}: {}", mistake.place, mistake.message))
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for Mistakes {}

/// Agents' gRPC ports are their HTTP ports plus this.
pub(crate) const GRPC_OFFSET: u16 = 10_000;

impl Settings {
    /// Puts the layers together.
    pub fn resolve(given: Given) -> Result<Self, Mistakes> {
        let mut mistakes = vec![];
        let file = File::read(given.config.as_deref(), &mut mistakes);
        let tls = tls::resolve(&given, file.tls, &mut mistakes);
        let host = given
            .host
            .map(|host| ("--host".to_owned(), host))
            .or(file.host);
        let ports = given
            .agent_ports
            .map(|ports| ("--agent-ports".to_owned(), ports))
            .or(file.agent_ports);
        let start_timeout = given
            .start_timeout
            .map(|seconds| ("--start-timeout".to_owned(), seconds))
            .or(file.start_timeout);
        let worker_grace = given
            .worker_grace
            .map(|seconds| ("--worker-grace".to_owned(), seconds))
            .or(file.worker_grace);
        let limits_by = given
            .limits_by
            .map(|word| ("--limits-by".to_owned(), word))
            .or(file.limits_by);
        let mut isolation = file.isolation;
        isolation.profile = given
            .isolation
            .map(|word| ("--isolation".to_owned(), word))
            .or(isolation.profile);
        let python = given
            .python
            .map(|python| ("--python".to_owned(), python))
            .or(file.python);
        let settings = Self {
            host: checked(host, parse_host, &mut mistakes)
                .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            port: given.port.or(file.port).unwrap_or(8000),
            secret_key: key_source(given.secret_key_file, given.credentials),
            state: given.state.or(file.state).unwrap_or_else(usual_state),
            agent_ports: checked(ports, |ports| parse_ports(&ports), &mut mistakes)
                .unwrap_or(8001..=8999),
            python: checked(python, existing, &mut mistakes),
            start_timeout: checked(start_timeout, parse_seconds, &mut mistakes)
                .unwrap_or(Duration::from_secs(60)),
            drain_timeout: checked(file.drain_timeout, parse_seconds, &mut mistakes)
                .unwrap_or(Duration::from_secs(10)),
            stable_after: checked(file.stable_after, parse_seconds, &mut mistakes)
                .unwrap_or(Duration::from_secs(10)),
            call_timeout: checked(file.call_timeout, parse_seconds, &mut mistakes)
                .unwrap_or(Duration::from_secs(60)),
            worker_grace: checked(worker_grace, parse_grace, &mut mistakes)
                .unwrap_or(Duration::from_secs(60)),
            retire_timeout: checked(file.retire_timeout, parse_seconds, &mut mistakes)
                .unwrap_or(Duration::from_secs(600)),
            upgrade_drain_timeout: checked(file.upgrade_drain, parse_seconds, &mut mistakes)
                .unwrap_or(Duration::from_secs(3600)),
            body_limit: checked(file.body_limit_mb, parse_body_limit, &mut mistakes)
                .unwrap_or_else(|| CallLimits::default().body),
            isolation: isolation::settle(isolation, &mut mistakes),
            limits_by: checked(limits_by, |word| word.parse(), &mut mistakes).unwrap_or_default(),
            install: file.packages,
            limits: file.limits,
            execution: file.execution,
            logs: file.logs,
            door: file.door,
            tls,
            access: file.access,
            agents: file.agents,
            webhooks: file.webhooks,
        };
        if mistakes.is_empty() {
            Ok(settings)
        } else {
            mistakes.sort_by_key(Mistake::position);
            Err(Mistakes(mistakes))
        }
    }
}

/// As a service manager calls it.
const CREDENTIAL: &str = "par-secret-key";

fn key_source(file: Option<PathBuf>, credentials: Option<PathBuf>) -> KeySource {
    let credential = credentials.map(|folder| folder.join(CREDENTIAL));
    match (file, credential.filter(|it| it.exists())) {
        (Some(file), _) => KeySource::File(file),
        (None, Some(credential)) => KeySource::Credential(credential),
        (None, None) => KeySource::StateFolder,
    }
}

fn checked<T, V>(
    value: Option<(String, T)>,
    parse: impl Fn(T) -> Result<V, String>,
    mistakes: &mut Vec<Mistake>,
) -> Option<V> {
    let (place, value) = value?;
    parse(value)
        .map_err(|message| mistakes.push(Mistake { place, message }))
        .ok()
}

/// A path has to lead somewhere; a bare name is looked for on `PATH`, when an agent needs it.
fn existing(python: PathBuf) -> Result<PathBuf, String> {
    if python.components().count() == 1 || python.exists() {
        return Ok(python);
    }
    Err(format!(
        "`{}` is not there: name the python of this machine, or leave it out for that of PATH",
        python.display()
    ))
}

fn parse_host(host: String) -> Result<IpAddr, String> {
    if host == "localhost" {
        return Ok(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    host.parse()
        .map_err(|_| format!("`{host}` is no IP address"))
}

/// `8001-8999`: both ends, and both plus the gRPC offset, are ports.
fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let unclear = || format!("`{text}` is no range of ports such as 8001-8999");
    let (first, last) = text.split_once('-').ok_or_else(unclear)?;
    let port = |word: &str| {
        word.trim()
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or_else(unclear)
    };
    let (first, last) = (port(first)?, port(last)?);
    if first > last {
        return Err(format!("`{text}` ends before it begins"));
    }
    if last.checked_add(GRPC_OFFSET).is_none() {
        let highest = u16::MAX - GRPC_OFFSET;
        return Err(format!(
            "`{text}` goes above {highest}: gRPC ports are {GRPC_OFFSET} higher"
        ));
    }
    Ok(first..=last)
}

fn parse_seconds(seconds: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(seconds)
        .ok()
        .filter(|duration| !duration.is_zero() && *duration < Duration::from_secs(7 * 24 * 3600))
        .ok_or_else(|| format!("{seconds} is no number of seconds above 0 and below a week"))
}

/// As [`parse_seconds`], but none is an answer, too.
fn parse_grace(seconds: f64) -> Result<Duration, String> {
    if seconds == 0.0 {
        return Ok(Duration::ZERO);
    }
    parse_seconds(seconds)
}

/// A frame to an agent takes no more.
const LARGEST_BODY_MB: u64 = 64;

fn parse_body_limit(megabytes: u64) -> Result<u64, String> {
    (1..=LARGEST_BODY_MB)
        .contains(&megabytes)
        .then_some(megabytes << 20)
        .ok_or_else(|| format!("{megabytes} is no number of MiB from 1 to {LARGEST_BODY_MB}"))
}

/// `$XDG_STATE_HOME/par`, usually `~/.local/state/par`.
pub fn usual_state() -> PathBuf {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let home = || absolute("HOME").map(|home| home.join(".local/state"));
    absolute("XDG_STATE_HOME")
        .or_else(home)
        .unwrap_or_else(std::env::temp_dir)
        .join("par")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_ports_leaves_room_for_grpc() {
        assert_eq!(parse_ports("8001-8999"), Ok(8001..=8999));
        for bad in ["", "8001", "0-5", "9-8", "x-y", "60000-61000", "1-70000"] {
            assert!(parse_ports(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn flags_win_over_the_file_and_all_mistakes_are_told_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("par.toml");
        std::fs::write(
            &config,
            "port = 9\nhost = \"nowhere\"\ncolour = 1\nbody_limit_mb = 65\n[execution]\nwarm = 65\nsesions = 1\n[logs]\nfiles = 1\n[[agents]]\nid = \"UP\"\npackage = 3\nliveness_path = \"live\"\n",
        )
        .expect("written");
        let given = Given {
            config: Some(config.clone()),
            agent_ports: Some("9-8".to_owned()),
            ..Given::default()
        };
        let mistakes = Settings::resolve(given)
            .expect_err("several mistakes")
            .to_string();
        for part in [
            "par.toml:2:",
            "par.toml:3:",
            "par.toml:4:",
            "par.toml:6:",
            "par.toml:7:",
            "par.toml:9:",
            "par.toml:11:",
            "par.toml:12:",
            "par.toml:13:",
            "--agent-ports",
            "colour",
            "UP",
        ] {
            assert!(mistakes.contains(part), "{part} is missing in:\n{mistakes}");
        }
        std::fs::write(
            &config,
            "port = 9\ncall_timeout_seconds = 2\n[execution]\nwarm = 0\nidle_seconds = 60\n[logs]\nfile_mb = 2\ndays = 3\n",
        )
        .expect("written");
        let given = Given {
            config: Some(config),
            port: Some(10),
            ..Given::default()
        };
        let settings = Settings::resolve(given).expect("right");
        assert_eq!(
            (settings.port, settings.call_timeout),
            (10, Duration::from_secs(2))
        );
        assert_eq!(settings.logs.file_bytes, 2 << 20);
        assert_eq!(settings.logs.age, Duration::from_secs(3 * 24 * 3600));
        let execution = settings.execution;
        assert_eq!((execution.warm, execution.most), (0, 1000));
        assert_eq!(execution.idle, Duration::from_secs(60));
    }

    /// Line of each mistake, in the order in which they are told.
    fn lines_of(text: &str) -> (Vec<u32>, String) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let config = folder.path().join("par.toml");
        std::fs::write(&config, text).expect("written");
        let given = Given {
            config: Some(config),
            ..Given::default()
        };
        let mistakes = Settings::resolve(given).expect_err("mistakes");
        let lines = mistakes.0.iter().map(|mistake| mistake.position().0);
        (lines.collect(), mistakes.to_string())
    }

    #[test]
    fn ten_mistakes_of_all_kinds_are_told_in_the_order_of_the_file() {
        let (lines, told) = lines_of(
            "host = \"nowhere\"\nport = 70000\nagent_ports = \"9\"\npython = \"/is/not/there\"\ncolour = 1\nstart_timeout_seconds = -1\n[[agents]]\nid = \"a\"\npackage = \"a\"\nreplicas = 0\ncpu_limit = -1\nenv = { \"A B\" = \"1\" }\n[[agents]]\nid = \"a\"\npackage = \"b\"\nidle_timeout_seconds = 0\n",
        );
        assert_eq!(lines, [1, 2, 3, 4, 5, 6, 10, 11, 12, 13, 16], "{told}");
    }

    #[test]
    fn what_is_no_toml_hides_no_other_mistake() {
        let (lines, told) = lines_of("host = nowhere\ncolour = 1\n[logs\nfiles = 0\n");
        assert!(lines.starts_with(&[1]) && lines.contains(&2), "{told}");
        assert!(lines.contains(&3), "{told}");
    }
}
