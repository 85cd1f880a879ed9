//! A `par up` of the benchmark's own.

use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::time::timeout;

use crate::bench::answer::{bare, post, post_json};
use crate::bench::connection::ask;
use crate::bench::process::{Running, Stranger, end, end_of, output_of};

const TIME_TO_START: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(20);
const BOUNDARY: &str = "par-bench-4f1d0c7e";

/// A supervisor forgets a crash after a short while, so that every restart is a first one.
/// Agents of one that was killed end soon, should there be no next one.
const SETTINGS: &str = "stable_after_seconds = 0.2\nagent_ports = \"31000-31999\"\n\
    worker_grace_seconds = 20\n";

pub(crate) struct Supervisor {
    /// Those that took over from `running`; the last one serves. They end first.
    successors: Vec<Stranger>,
    running: Running,
    pub(crate) address: SocketAddr,
    /// From its start until it said its address.
    pub(crate) started_in: Duration,
    /// Kept, so that it never writes to nobody.
    _stdout: BufReader<ChildStdout>,
}

/// What is used of `GET /supervisor/status`.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(crate) struct AgentStatus {
    pub(crate) port: u16,
    pub(crate) grpc_port: u16,
    pub(crate) pid: u32,
    pub(crate) agent_pid: u32,
    pub(crate) uptime: f64,
}

impl Supervisor {
    /// Serves from the folder `home`, which may be that of an earlier one.
    pub(crate) async fn start(par: &Path, home: &Path) -> anyhow::Result<Self> {
        let settings = home.join("par.toml");
        fs::write(&settings, SETTINGS)?;
        let mut command = Command::new(par);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PAR_") {
                command.env_remove(name);
            }
        }
        command.args(["up", "--json", "--port", "0", "--config"]);
        command
            .arg(&settings)
            .arg("--state")
            .arg(home.join("state"));
        let began = Instant::now();
        let mut running = Running::start("supervisor", &mut command, home)?;
        let stdout = running.take_stdout().context("it has no standard output")?;
        let mut line = String::new();
        let mut stdout = BufReader::new(stdout);
        let read = timeout(TIME_TO_START, stdout.read_line(&mut line)).await;
        let started_in = began.elapsed();
        let address = read.ok().and_then(|_length| address_in(&line));
        let silent = || format!("no address was said; {}", running.last_words());
        Ok(Self {
            address: address.with_context(silent)?,
            successors: vec![],
            running,
            started_in,
            _stdout: stdout,
        })
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        match self.successors.last() {
            Some(successor) => Ok(successor.0),
            None => self.running.pid(),
        }
    }

    /// `kill -9`; its agents go on for a while.
    pub(crate) fn kill(self) -> anyhow::Result<()> {
        Ok(end(self.pid()?, Signal::KILL)?)
    }

    /// Has the same program take over, and waits until the one before has ended.
    pub(crate) async fn upgrade(&mut self, par: &Path) -> anyhow::Result<()> {
        let before = self.pid()?;
        let asked = json!({ "binary": par });
        let upgraded = self.post("/supervisor/upgrade", &asked).await?;
        let pid = upgraded["pid"].as_u64().context("nobody took over")?;
        self.successors.push(Stranger(u32::try_from(pid)?));
        end_of(before, TIME_TO_START).await?;
        let ended = self.successors.len() - 1;
        self.successors.drain(..ended).for_each(Stranger::has_ended);
        Ok(())
    }

    /// Uploads a package and waits until its agent answers.
    pub(crate) async fn deploy(&self, agent: &str, package: &[u8]) -> anyhow::Result<()> {
        self.deploy_with(agent, package, json!({})).await
    }

    pub(crate) async fn deploy_with(
        &self,
        agent: &str,
        package: &[u8],
        mut options: Value,
    ) -> anyhow::Result<()> {
        options["agent_id"] = agent.into();
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"options\"\r\n\r\n{options}\r\n\
             --{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.apkg\"\r\n\r\n"
        );
        let tail = format!("\r\n--{BOUNDARY}--\r\n");
        let form = [head.as_bytes(), package, tail.as_bytes()].concat();
        let kind = format!("multipart/form-data; boundary={BOUNDARY}");
        self.ask(&post("/supervisor/deploy", &kind, &form)).await?;
        Ok(())
    }

    /// `None` while it has no process.
    pub(crate) async fn status(&self, agent: &str) -> anyhow::Result<Option<AgentStatus>> {
        let process = self.process(agent).await?;
        ensure!(process["state"] != "failed", "`{agent}` failed: {process}");
        // Without a pid, a port or an uptime it does not run.
        Ok(AgentStatus::deserialize(process).ok())
    }

    /// All that the status says of one agent.
    pub(crate) async fn process(&self, agent: &str) -> anyhow::Result<Value> {
        let process = self.processes().await?[format!("par-{agent}")].take();
        ensure!(!process.is_null(), "`{agent}` is not known any more");
        Ok(process)
    }

    /// The same of all agents.
    pub(crate) async fn processes(&self) -> anyhow::Result<Value> {
        let mut status = self.ask(&bare("GET", "/supervisor/status")).await?;
        Ok(status["processes"].take())
    }

    /// Waits until what the status says of an agent is as `wanted`.
    pub(crate) async fn wait_for(
        &self,
        agent: &str,
        wanted: impl Fn(&Value) -> bool,
    ) -> anyhow::Result<()> {
        let give_up = Instant::now() + TIME_TO_START;
        let mut process = self.process(agent).await?;
        while !wanted(&process) {
            let patient = Instant::now() < give_up;
            ensure!(patient, "waited in vain; `{agent}` is {process}");
            tokio::time::sleep(PAUSE).await;
            process = self.process(agent).await?;
        }
        Ok(())
    }

    /// Waits until `agent` has served for `uptime`.
    pub(crate) async fn settled(
        &self,
        agent: &str,
        uptime: Duration,
    ) -> anyhow::Result<AgentStatus> {
        let give_up = Instant::now() + TIME_TO_START;
        while Instant::now() < give_up {
            match self.status(agent).await? {
                Some(status) if status.uptime >= uptime.as_secs_f64() => return Ok(status),
                _ => tokio::time::sleep(PAUSE).await,
            }
        }
        bail!("`{agent}` did not settle; {}", self.running.last_words())
    }

    pub(crate) async fn remove(&self, agent: &str) -> anyhow::Result<()> {
        let path = format!("/supervisor/agents/{agent}");
        self.ask(&bare("DELETE", &path)).await?;
        Ok(())
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.ask(&post_json(path, body)).await
    }

    async fn ask(&self, request: &[u8]) -> anyhow::Result<Value> {
        let answer = ask(self.address, request).await?;
        let body = String::from_utf8_lossy(&answer.body);
        ensure!(answer.status == 200, "answered {}: {body}", answer.status);
        Ok(serde_json::from_str(&body)?)
    }
}

/// Where `agent` is called.
pub(crate) fn invoke_path(agent: &str) -> String {
    format!("/agents/{agent}/invoke")
}

/// The address in `{"url": "http://127.0.0.1:8000", …}`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let said: Value = serde_json::from_str(line).ok()?;
    said["url"].as_str()?.strip_prefix("http://")?.parse().ok()
}

/// Has `par build` make a package of a manifest and one module, `src.main`.
pub(crate) async fn package(
    par: &Path,
    folder: &Path,
    manifest: &str,
    source: &str,
) -> anyhow::Result<Vec<u8>> {
    let home = tempfile::tempdir_in(folder)?;
    let agent: PathBuf = home.path().join("bench");
    fs::create_dir_all(agent.join("src"))?;
    fs::write(agent.join("agent.yaml"), manifest)?;
    fs::write(agent.join("src/main.py"), source)?;
    package_of(par, folder, &agent).await
}

/// The same of a folder that is there.
pub(crate) async fn package_of(par: &Path, folder: &Path, agent: &Path) -> anyhow::Result<Vec<u8>> {
    let home = tempfile::tempdir_in(folder)?;
    let packed = home.path().join("bench.apkg");
    let arguments = [OsStr::new("build"), agent.as_os_str(), OsStr::new("-o")];
    let arguments = [&arguments[..], &[packed.as_os_str()]].concat();
    output_of(par, &arguments).await?;
    Ok(fs::read(packed)?)
}
