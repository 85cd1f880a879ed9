//! A whole supervisor, started from the real binary and ended without a trace. It may crash, be followed by another on
//! the same state, or hand over to one: what is left is looked for at the end of the last.

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
use crate::processes::{Process, descendants, descendants_of};
use crate::{Http, PortRange, wait_for};

const START_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(30);

#[derive(Clone)]
pub struct SystemBuilder {
    binary: PathBuf,
    arguments: Vec<OsString>,
    variables: Vec<(OsString, OsString)>,
    state: Option<PathBuf>,
    port: u16,
    /// Whether the port is one that the next supervisor can have too.
    port_of_its_own: bool,
    agent_ports: u16,
    worker_grace: f64,
}

/// A running `par up` on a free port, with a state folder and agent ports of its own.
///
/// # Panics
/// Its drop panics when the supervisor does not end, or leaves processes or listeners behind.
pub struct System {
    url: String,
    running: Option<Running>,
    /// Supervisors that have ended, and whose workers may still hold what they wrote to.
    past: Vec<Running>,
    /// Processes of those.
    seen: Vec<Process>,
    builder: SystemBuilder,
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
    /// To whom it has handed over.
    successor: Option<Process>,
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

    /// For supervisors that follow one another: workers go on for so long, and the port is one that clients cannot get
    /// while nobody listens on it.
    #[must_use]
    pub fn lasting(mut self, grace_seconds: f64) -> Self {
        self.port_of_its_own = true;
        self.worker_grace(grace_seconds)
    }

    /// How many agents with all their replicas may live at the same time.
    #[must_use]
    pub fn room_for(mut self, agents: u16) -> Self {
        self.agent_ports = agents;
        self
    }

    /// # Panics
    /// When the supervisor does not say its address in time.
    #[track_caller]
    pub fn start(mut self) -> System {
        let folder = tempfile::Builder::new()
            .prefix("par-test-")
            .tempdir()
            .expect("a temporary folder");
        let state = self
            .state
            .clone()
            .unwrap_or_else(|| folder.path().join("state"));
        let ports = PortRange::claim_for(self.agent_ports);
        if self.port_of_its_own {
            self.port = ports.supervisor;
        }
        let (url, running) = self.run(&state, &ports);
        System {
            url,
            running: Some(running),
            past: vec![],
            seen: vec![],
            builder: self,
            ports,
            state,
            _folder: folder,
        }
    }

    /// One supervisor, and where it answers.
    #[track_caller]
    fn run(&self, state: &Path, ports: &PortRange) -> (String, Running) {
        let mut child = self
            .command(state, ports)
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
            let below = descendants(child.id());
            child.kill().expect("it can be killed");
            child.wait().expect("it can be waited for");
            below.iter().for_each(kill_hard);
            let log = stderr.join().expect("its reader ends");
            panic!("the supervisor said no address; it wrote:\n{log}");
        };
        let said: Value = serde_json::from_str(&line).expect("the first line is JSON");
        let url = said["url"].as_str().expect("it names its URL").to_owned();
        let running = Running {
            child,
            successor: None,
            stdout,
            stderr,
        };
        (url, running)
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
            port_of_its_own: false,
            agent_ports: 12,
        }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn http(&self) -> Http {
        Http::new(&self.url)
    }

    pub fn pid(&self) -> u32 {
        let running = self.running.as_ref();
        running.expect("it runs until it is stopped").pid()
    }

    pub fn state(&self) -> &Path {
        &self.state
    }

    pub fn ports(&self) -> &PortRange {
        &self.ports
    }

    /// Ids of the processes below the supervisor.
    pub fn descendants(&self) -> Vec<u32> {
        descendants_of(self.pid())
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

    /// Ends the supervisor as a crash would, while its workers go on for their grace.
    ///
    /// # Panics
    /// When it has none, or cannot be killed.
    #[track_caller]
    pub fn crash(&mut self) {
        let mut running = self.running.take().expect("it runs until it is stopped");
        self.seen.extend(descendants(running.pid()));
        running.end(Signal::KILL);
        self.past.push(running);
    }

    /// After a crash that nobody follows: its workers end by themselves.
    ///
    /// # Panics
    /// When one goes on, or something is left behind.
    #[track_caller]
    pub fn wait_for_the_end_of_workers(&mut self) {
        assert!(self.running.is_none(), "there is a supervisor");
        wait_until_nothing_is_left(&self.seen, &self.state, &self.ports);
    }

    /// Starts a supervisor in the place of the one that has crashed, or of the one that was told to end.
    ///
    /// # Panics
    /// When it does not say its address in time.
    #[track_caller]
    pub fn again(&mut self) {
        assert!(self.running.is_none(), "there is a supervisor");
        let (url, running) = self.builder.run(&self.state, &self.ports);
        self.url = url;
        self.running = Some(running);
    }

    /// Ends the supervisor with its agents, as an administrator would; [`again`](Self::again) starts the next.
    ///
    /// # Panics
    /// When it does not end, or leaves something behind.
    #[track_caller]
    pub fn rest(&mut self) {
        self.end(Signal::TERM);
    }

    /// The supervisor has handed over to process `pid`, and may go on with what it began.
    ///
    /// # Panics
    /// When there is no such process.
    #[track_caller]
    pub fn handed_over(&mut self, pid: u32) {
        let running = self.running.as_mut().expect("it runs until it is stopped");
        self.seen.extend(descendants(running.pid()));
        if let Some(before) = running.successor.take() {
            self.seen.push(before);
        }
        running.successor = Some(Process::read(pid).expect("who goes on lives"));
    }

    /// Whether the process that was started first has ended, which it does some time after it has handed over.
    pub fn first_has_ended(&mut self) -> bool {
        let running = self.running.as_mut().expect("it runs until it is stopped");
        let ended = running.child.try_wait();
        ended.expect("a child can be waited for").is_some()
    }

    #[track_caller]
    fn end(&mut self, signal: Signal) -> Ended {
        let mut running = self.running.take().expect("it runs until it is stopped");
        let below = self.family(running.pid());
        let status = running.end(signal);
        wait_until_nothing_is_left(&below, &self.state, &self.ports);
        let mut log = String::new();
        for running in self.past.drain(..).chain([running]) {
            log.push_str(&running.said());
        }
        Ended { status, log }
    }

    /// All that is, or was, started by this system, without the supervisor itself.
    fn family(&mut self, root: u32) -> Vec<Process> {
        let mut below = descendants(root);
        below.append(&mut self.seen);
        let alive: Vec<u32> = below
            .iter()
            .filter(|process| process.is_alive())
            .map(|process| process.pid)
            .collect();
        below.extend(alive.into_iter().flat_map(descendants));
        below
    }

    /// After a test that has failed.
    #[expect(
        clippy::print_stdout,
        reason = "it is shown with the failure, and with no other test"
    )]
    fn end_everything(&mut self) {
        let mut running = self.running.take();
        let mut below = match &running {
            Some(running) => self.family(running.pid()),
            None => std::mem::take(&mut self.seen),
        };
        if let Some(running) = &mut running {
            below.extend(running.successor.take());
            kill(running.child.id(), Signal::KILL);
            drop(running.child.wait());
        }
        below.iter().for_each(kill_hard);
        let give_up = std::time::Instant::now() + Duration::from_secs(2);
        while below.iter().any(Process::is_alive) && std::time::Instant::now() < give_up {
            thread::sleep(Duration::from_millis(10));
        }
        remove_control_groups(&self.state);
        for running in self.past.drain(..).chain(running) {
            // One that somebody still writes to would keep us waiting.
            if running.stderr.is_finished() && running.stdout.is_finished() {
                println!("a supervisor wrote:\n{}", running.said());
            }
        }
    }
}

impl Running {
    /// Of who serves.
    fn pid(&self) -> u32 {
        let successor = self.successor.as_ref();
        successor.map_or_else(|| self.child.id(), |successor| successor.pid)
    }

    /// Ends who serves, and waits for whoever served before.
    #[track_caller]
    fn end(&mut self, signal: Signal) -> ExitStatus {
        kill(self.pid(), signal);
        if let Some(successor) = &self.successor {
            wait_for("the end of the supervisor", STOP_LIMIT, || {
                (!successor.is_alive()).then_some(())
            });
        }
        wait_for("the end of the first supervisor", STOP_LIMIT, || {
            self.child.try_wait().expect("a child can be waited for")
        })
    }

    /// All that it wrote, once nobody holds its standard error any more.
    fn said(self) -> String {
        self.stdout
            .join()
            .expect("the reader of standard output ends");
        self.stderr
            .join()
            .expect("the reader of standard error ends")
    }
}

impl Drop for System {
    fn drop(&mut self) {
        if thread::panicking() {
            // The test has failed already: end everything, and let it say why.
            return self.end_everything();
        }
        if self.running.is_some() {
            self.end(Signal::TERM);
        }
    }
}

fn kill_hard(process: &Process) {
    if process.is_alive() {
        kill(process.pid, Signal::KILL);
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
