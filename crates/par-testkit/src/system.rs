//! A whole supervisor, started from the real binary and ended without a trace.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::leftovers::{remove_control_groups, wait_until_nothing_is_left};
use crate::processes::descendants;
use crate::{Http, PortRange, wait_for};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);

pub struct SystemBuilder {
    binary: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    state: Option<PathBuf>,
    port: u16,
    worker_grace: f64,
}

/// A running `par up` on a free port, with a state folder and agent ports of its own.
///
/// # Panics
/// Its drop panics when the supervisor does not end, or leaves processes or listeners behind.
pub struct System {
    url: String,
    running: Option<Running>,
    ports: PortRange,
    state: PathBuf,
    _folder: TempDir,
}

/// How a supervisor ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// All that it wrote to standard error.
    pub log: String,
}

/// The process, and who reads what it says, so that it never waits for a reader.
struct Running {
    child: Child,
    stdout: JoinHandle<()>,
    stderr: JoinHandle<String>,
}

impl SystemBuilder {
    /// More arguments for `par up`.
    #[must_use]
    pub fn arguments<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        let words = arguments.into_iter().map(|word| word.as_ref().to_owned());
        self.arguments.extend(words);
        self
    }

    #[must_use]
    pub fn variable(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.variables
            .push((name.as_ref().to_owned(), value.as_ref().to_owned()));
        self
    }

    /// For how many seconds workers go on when the supervisor is killed; none, unless this says otherwise.
    #[must_use]
    pub fn worker_grace(mut self, seconds: f64) -> Self {
        self.worker_grace = seconds;
        self
    }

    /// A state folder that outlives the system, for tests of what is kept.
    #[must_use]
    pub fn state(mut self, folder: &Path) -> Self {
        self.state = Some(folder.to_owned());
        self
    }

    /// A port that the next system can have too; without one, any that is free.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// # Panics
    /// When the supervisor does not say its address in time.
    #[track_caller]
    pub fn start(self) -> System {
        let folder = tempfile::Builder::new()
            .prefix("par-test-")
            .tempdir()
            .expect("a temporary folder");
        let state = self
            .state
            .clone()
            .unwrap_or_else(|| folder.path().join("state"));
        let ports = PortRange::claim();
        let mut child = self
            .command(&state, &ports)
            .spawn()
            .expect("the binary starts");
        let stdout = child
            .stdout
            .take()
            .expect("it was spawned with a piped stdout");
        let stderr = child
            .stderr
            .take()
            .expect("it was spawned with a piped stderr");
        let stderr = thread::spawn(move || text_of(stderr));
        let (first_line, stdout) = first_line(stdout);
        let Ok(line) = first_line.recv_timeout(START_LIMIT) else {
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
            let log = stderr.join().expect("its reader ends");
            panic!("the supervisor said no address; it wrote:\n{log}");
        };
        let said: Value = serde_json::from_str(&line).expect("the first line is JSON");
        let url = said["url"].as_str().expect("it names its URL").to_owned();
        System {
            url,
            running: Some(Running {
                child,
                stdout,
                stderr,
            }),
            ports,
            state,
            _folder: folder,
        }
    }

    fn command(&self, state: &Path, ports: &PortRange) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PAR_") {
                command.env_remove(name);
            }
        }
        command
            .args([
                "up",
                "--json",
                "--port",
                &self.port.to_string(),
                "--agent-ports",
                &ports.argument(),
            ])
            .arg("--state")
            .arg(state)
            .arg("--worker-grace")
            .arg(self.worker_grace.to_string())
            .args(&self.arguments)
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }
}

impl System {
    /// `binary` is the `par` to start, such as `env!("CARGO_BIN_EXE_par")`.
    #[track_caller]
    pub fn start(binary: impl AsRef<Path>) -> Self {
        Self::builder(binary).start()
    }

    pub fn builder(binary: impl AsRef<Path>) -> SystemBuilder {
        SystemBuilder {
            binary: binary.as_ref().to_owned(),
            arguments: vec![],
            variables: vec![],
            state: None,
            worker_grace: 0.0,
            port: 0,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn http(&self) -> Http {
        Http::new(&self.url)
    }

    pub fn pid(&self) -> u32 {
        self.running
            .as_ref()
            .expect("it runs until it is stopped")
            .child
            .id()
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    pub fn ports(&self) -> &PortRange {
        &self.ports
    }

    /// Ids of the processes below the supervisor.
    pub fn descendants(&self) -> Vec<u32> {
        descendants(self.pid())
            .iter()
            .map(|process| process.pid)
            .collect()
    }

    /// Ends it as an administrator would, and checks that nothing is left.
    ///
    /// # Panics
    /// When it does not end, or leaves something behind.
    #[track_caller]
    pub fn stop(mut self) -> Ended {
        self.end(Signal::TERM)
    }

    /// Ends it as a crash would, and checks that its workers notice and end.
    ///
    /// # Panics
    /// When something is left behind.
    #[track_caller]
    pub fn kill(mut self) -> Ended {
        self.end(Signal::KILL)
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) -> Ended {
        let mut running = self.running.take().expect("it runs until it is stopped");
        let below = descendants(running.child.id());
        kill(running.child.id(), signal);
        let status = wait_for("the end of the supervisor", STOP_LIMIT, || {
            running.child.try_wait().expect("a child can be waited for")
        });
        wait_until_nothing_is_left(&below, &self.state, &self.ports);
        running
            .stdout
            .join()
            .expect("the reader of standard output ends");
        let log = running
            .stderr
            .join()
            .expect("the reader of standard error ends");
        Ended { status, log }
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if !thread::panicking() {
            if self.running.is_some() {
                self.end(Signal::TERM);
            }
            return;
        }
        // The test has failed already: end everything, and let it say why.
        if let Some(mut running) = self.running.take() {
            let below = descendants(running.child.id());
            kill(running.child.id(), Signal::KILL);
            drop(running.child.wait());
            for process in below.iter().filter(|process| process.is_alive()) {
                kill(process.pid, Signal::KILL);
            }
            let give_up = std::time::Instant::now() + Duration::from_secs(2);
            while below.iter().any(crate::processes::Process::is_alive)
                && std::time::Instant::now() < give_up
            {
                thread::sleep(Duration::from_millis(10));
            }
            remove_control_groups(&self.state);
        }
    }
}

fn kill(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process has an id");
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => panic!("failed to signal {pid:?}: {error}"),
    }
}

/// The first line when it comes, and the thread that reads on after it.
fn first_line(stdout: ChildStdout) -> (mpsc::Receiver<String>, JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            // Only the first has a listener.
            drop(sender.send(line));
        }
    });
    (receiver, reader)
}

fn text_of(mut from: impl std::io::Read) -> String {
    let mut bytes = vec![];
    // What was read before a failure is what there is.
    drop(from.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}
