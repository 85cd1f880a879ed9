//! A running supervisor and the agents of one test, asked over HTTP as callers ask.

use std::path::Path;
use std::time::Duration;

use par_testkit::{Answer, Http, PackageBuilder, System, SystemBuilder, comes_within, wait_for};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Nothing here promises a time: this only ends a test that would wait for ever.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

pub(crate) struct Scene {
    pub(crate) system: System,
    folder: TempDir,
}

impl Scene {
    pub(crate) fn start() -> Self {
        Self::with(|builder| builder)
    }

    /// A supervisor with more arguments or variables.
    pub(crate) fn with(change: impl FnOnce(SystemBuilder) -> SystemBuilder) -> Self {
        Self {
            system: change(System::builder(env!("CARGO_BIN_EXE_par"))).start(),
            folder: tempfile::tempdir().expect("a temporary folder"),
        }
    }

    /// The process of an agent, or of one of its sessions, that has the number `inside` in its own namespace.
    #[track_caller]
    pub(crate) fn seen_from_outside(&self, agent: &str, inside: u64) -> u32 {
        let worker = self.pid(agent, "pid");
        let all = par_testkit::descendants_of(worker).into_iter();
        let mut found = all.filter(|pid| number_inside(*pid) == Some(inside));
        let first = found.next().expect("such a process is there");
        assert_eq!(found.next(), None, "two namespaces have a process {inside}");
        first
    }

    pub(crate) fn http(&self) -> Http {
        self.system.http()
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Asks for an agent of the package's name; `options` are further fields of the request.
    pub(crate) fn spawn(&self, package: &PackageBuilder, options: &Value) -> Answer {
        let path = package.apkg(self.folder());
        let name = path.file_stem().expect("a package has a name");
        let mut request = json!({ "agent_id": name.to_string_lossy(), "package_path": path });
        let fields = request.as_object_mut().expect("an object");
        fields.extend(options.as_object().cloned().unwrap_or_default());
        let answer = self.http().post("/supervisor/spawn", &request);
        answer.expect("the supervisor answers")
    }

    /// Brings an agent up and waits until it serves.
    #[track_caller]
    pub(crate) fn serve(&self, package: &PackageBuilder, options: &Value) {
        let answer = self.spawn(package, options);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let process = answer.json()["process_id"].clone();
        let agent = process.as_str().and_then(|name| name.strip_prefix("par-"));
        self.wait_until(agent.expect("a process is named"), "running");
    }

    /// Brings up an agent whose entrypoint is `handler` in `python`.
    #[track_caller]
    pub(crate) fn agent(&self, name: &str, python: &str) {
        self.serve(&PackageBuilder::new(name).main(python), &json!({}));
    }

    /// Brings up an agent that is the ASGI application `app` in `python`.
    #[track_caller]
    pub(crate) fn asgi(&self, name: &str, python: &str) {
        let package = PackageBuilder::new(name)
            .main(python)
            .entrypoint(None)
            .manifest("http_server: src.main:app");
        self.serve(&package, &json!({}));
    }

    pub(crate) fn call(&self, agent: &str, body: &Value) -> Answer {
        let path = format!("/agents/{agent}/invoke");
        let answer = self.http().post(&path, body);
        answer.expect("the supervisor answers")
    }

    /// Calls an export with a deadline of its own.
    pub(crate) fn call_within(&self, seconds: f64, agent: &str, export: &str) -> Answer {
        let seconds = seconds.to_string();
        let headers = [("x-request-timeout", seconds.as_str())];
        let path = format!("/agents/{agent}/exports/{export}");
        let answer = self.http().request("POST", &path, &headers, b"{}");
        answer.expect("the supervisor answers")
    }

    pub(crate) fn status(&self) -> Value {
        let answer = self.http().get("/supervisor/status");
        answer.expect("the supervisor answers").json()
    }

    pub(crate) fn process(&self, agent: &str) -> Value {
        self.status()["processes"][format!("par-{agent}")].take()
    }

    /// Waits until an agent's process is as `wanted`, and returns it.
    #[track_caller]
    pub(crate) fn wait_for_process(
        &self,
        agent: &str,
        what: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut last = Value::Null;
        let look = || {
            last = self.process(agent);
            wanted(&last).then(|| last.clone())
        };
        match comes_within(PATIENCE, look) {
            Some(process) => process,
            None => panic!("not within {PATIENCE:?}: {agent} is {what}, but {last}"),
        }
    }

    #[track_caller]
    pub(crate) fn wait_until(&self, agent: &str, state: &str) -> Value {
        self.wait_for_process(agent, state, |process| process["state"] == state)
    }

    /// The process id in a field of an agent's status, such as `agent_pid`.
    #[track_caller]
    pub(crate) fn pid(&self, agent: &str, field: &str) -> u32 {
        let pid = self.process(agent)[field].as_u64().expect("it has one");
        u32::try_from(pid).expect("a process id")
    }

    /// What an agent wrote, newest first.
    pub(crate) fn logs(&self, agent: &str) -> Vec<Value> {
        let path = format!("/supervisor/logs?process_id=par-{agent}&limit=10000");
        let answer = self.http().get(&path).expect("the supervisor answers");
        let logs = answer.json()["logs"].as_array().cloned();
        logs.unwrap_or_default()
    }

    /// Waits until an agent's log has a line that holds `words`.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, agent: &str, words: &str) -> Value {
        let holds = |line: &Value| {
            let message = line["message"].as_str().unwrap_or_default();
            message.contains(words)
        };
        wait_for(
            &format!("{words:?} in the log of {agent}"),
            PATIENCE,
            || self.logs(agent).into_iter().find(holds),
        )
    }
}

/// A manifest's `exports` for functions of `src/main.py`.
pub(crate) fn exports(names: &[&str]) -> String {
    let export = |name: &&str| format!("  - name: {name}\n    handler: src.main:{name}\n");
    format!("exports:\n{}", names.iter().map(export).collect::<String>())
}

/// In the innermost of its namespaces.
fn number_inside(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))?;
    line.split_whitespace().last()?.parse().ok()
}
