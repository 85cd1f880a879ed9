//! The single checks. Each says what it found; none changes anything that stays.

use std::ffi::OsString;
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use par_model::api::RuntimeHealth;
use par_model::limits::{Grouping, Limit, Limits};
use par_sandbox::{Group, Groups, run_tool};
use par_supervisor::Settings;
use rustix::fs::{Access, access};

use super::{Finding, Verdict};
use crate::client::{Client, ClientError};

const LIMIT: Duration = Duration::from_secs(20);
const OLDEST_PYTHON: (u32, u32) = (3, 9);
const OLDEST_KERNEL: (u32, u32) = (5, 4);
const ABOUT_PYTHON: &str = "import sys; print('%d.%d.%d' % sys.version_info[:3], sys.executable)";

/// What a program prints, in lines; `None` when it cannot be run or fails.
async fn output_of(argv: &[&str]) -> Option<Vec<String>> {
    let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
    let mut lines = vec![];
    let ended = run_tool(&argv, Path::new("/"), LIMIT, |line| {
        lines.push(line.to_owned())
    })
    .await;
    ended.ok().map(|()| lines)
}

fn python_word(python: Option<&Path>) -> String {
    python.map_or_else(|| "python3".to_owned(), |path| path.display().to_string())
}

pub(super) async fn python(python: Option<&Path>) -> Finding {
    let word = python_word(python);
    let lines = output_of(&[&word, "-I", "-c", ABOUT_PYTHON]).await;
    let Some((version, path)) = lines
        .as_deref()
        .and_then(|lines| lines.first()?.split_once(' '))
    else {
        let found = format!("`{word}` does not run");
        let help = "install Python 3.9 or newer, or name one with --python or PAR_PYTHON";
        return Finding::new("python", Verdict::Fail, found).help(help);
    };
    let found = format!("Python {version} at {path}");
    if two_numbers(version) < Some(OLDEST_PYTHON) {
        let help = "agents need Python 3.9 or newer: name one with --python or PAR_PYTHON";
        Finding::new("python", Verdict::Fail, found).help(help)
    } else {
        Finding::new("python", Verdict::Ok, found)
    }
}

/// Who installs what agents depend on.
pub(super) async fn installer(python: Option<&Path>) -> Finding {
    if let Some([version, ..]) = output_of(&["uv", "--version"]).await.as_deref() {
        return Finding::new("installer", Verdict::Ok, version.as_str());
    }
    let word = python_word(python);
    if output_of(&[&word, "-I", "-c", "import venv, ensurepip"])
        .await
        .is_some()
    {
        let found = "venv and pip; installing is faster with uv";
        return Finding::new("installer", Verdict::Ok, found);
    }
    let found = "neither uv nor venv with pip: agents with dependencies cannot be installed";
    Finding::new("installer", Verdict::Warn, found)
        .help("install uv, or the venv module (on Debian: apt install python3-venv)")
}

pub(super) fn state(folder: &Path) -> Finding {
    let shown = folder.display();
    // The folder itself need not be there yet: then it is its nearest ancestor that must let us in.
    let existing = folder.ancestors().find(|folder| folder.is_dir());
    let writable = existing.map(|folder| access(folder, Access::WRITE_OK | Access::EXEC_OK));
    match writable {
        Some(Ok(())) => Finding::new("state", Verdict::Ok, format!("{shown} can be written")),
        _ => Finding::new("state", Verdict::Fail, format!("{shown} cannot be written"))
            .help("name another folder with --state or PAR_STATE"),
    }
}

pub(super) async fn supervisor(client: &Client) -> Finding {
    let url = client.origin().to_string();
    let health: Result<RuntimeHealth, ClientError> = client.get("/runtime/health").await;
    match health {
        Ok(health) => {
            let found = format!(
                "{url} answers: {}, version {}",
                health.status, health.version
            );
            Finding::new("supervisor", Verdict::Ok, found)
        }
        Err(ClientError::Unreachable { .. }) => {
            Finding::new("supervisor", Verdict::Warn, format!("none at {url}"))
                .help("start one with `par up`, or name another with --url or PAR_URL")
        }
        Err(error) => Finding::new("supervisor", Verdict::Warn, format!("{url}: {error}"))
            .help("another program may be listening there; `par up --port P` takes another port"),
    }
}

/// The ports that `par up` would take first.
pub(super) fn ports(settings: &Settings) -> Finding {
    let agent = *settings.agent_ports.start();
    let wanted = [settings.port, agent, agent.saturating_add(10_000)];
    let is_taken = |port: &u16| TcpListener::bind((settings.host, *port)).is_err();
    let listed = |ports: &[u16]| {
        ports
            .iter()
            .map(u16::to_string)
            .collect::<Vec<_>>()
            .join(", ")
    };
    let taken: Vec<u16> = wanted.into_iter().filter(is_taken).collect();
    if taken.is_empty() {
        return Finding::new(
            "ports",
            Verdict::Ok,
            format!("{} are free", listed(&wanted)),
        );
    }
    let found = format!("not free: {}", listed(&taken));
    Finding::new("ports", Verdict::Warn, found)
        .help("`par up --port P --agent-ports A-B` takes others")
}

pub(super) fn kernel() -> Finding {
    let uname = rustix::system::uname();
    let release = uname.release().to_string_lossy().into_owned();
    let found = format!("Linux {release}");
    // pidfd, by which exits are noticed at once, came with 5.3 and 5.4.
    if two_numbers(&release) >= Some(OLDEST_KERNEL) {
        return Finding::new("kernel", Verdict::Ok, found);
    }
    Finding::new("kernel", Verdict::Fail, found).help("Linux 5.4 or newer is needed")
}

/// What limits an agent could be given, tried with a group that nobody is in.
pub(super) async fn limits(settings: &Settings) -> Finding {
    let groups = Groups::open(
        &format!("par-doctor-{}", std::process::id()),
        settings.limits_by,
    );
    let group = match groups.make(0) {
        Grouping::In(place) => Group::at(place),
        Grouping::Without { why } => {
            let found = format!(
                "memory, pids and workspace are held by watchdogs, open files by rlimits; cpu is not held: {why}"
            );
            return Finding::new("limits", Verdict::Warn, found)
                .help("run the supervisor as a service with control groups of its own (systemd: Delegate=yes), or as root");
        }
    };
    let tried = group.make("agent").map(|agent| {
        agent.set(&Limits {
            memory: Some(64 << 20),
            cpus: Some(1.0),
            pids: Some(64),
            ..Limits::default()
        })
    });
    group.end(LIMIT).await;
    groups.close();
    let said = match tried {
        Ok(said) => said,
        Err(why) => return Finding::new("limits", Verdict::Warn, why),
    };
    let word = |limit: &Limit| match (limit.how, &limit.why) {
        (Some(how), _) => format!("{} by {how}", limit.name),
        (None, why) => format!(
            "{} not: {}",
            limit.name,
            why.as_deref().unwrap_or("unknown")
        ),
    };
    let words: Vec<String> = said.iter().map(word).collect();
    let found = format!(
        "held: {}, open files by rlimit, workspace by watchdog",
        words.join(", ")
    );
    let all = said.iter().all(|limit| limit.held);
    let verdict = if all { Verdict::Ok } else { Verdict::Warn };
    Finding::new("limits", verdict, found)
}

/// The first two numbers of a version.
fn two_numbers(version: &str) -> Option<(u32, u32)> {
    let mut numbers = version
        .split(|c: char| !c.is_ascii_digit())
        .map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert!(two_numbers("3.11.7") > Some((3, 9)));
        assert_eq!(two_numbers("6.1-rc2"), Some((6, 1)));
        assert_eq!(two_numbers("unknown"), None);
    }

    #[tokio::test]
    async fn a_python_that_is_not_there_is_a_failure_with_a_remedy() {
        let finding = python(Some(Path::new("/nowhere/python3"))).await;
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.help.is_some());
    }
}
