//! `par exec` as a person meets it: on a terminal, line by line.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use par_testkit::wait_for;
use serde_json::Value;

use crate::exec::{python, sessions};
use crate::running::Running;
use crate::scene::PATIENCE;

/// Gives its command a terminal of its own, in which Ctrl-C is a signal.
const PTY: &str = "import os, pty, sys\n\
    sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";

struct Typist {
    child: Child,
    keys: ChildStdin,
    seen: Arc<Mutex<String>>,
    /// What has been waited for already.
    read: usize,
}

impl Typist {
    fn at(running: &Running, words: &[&str]) -> Self {
        let mut child = Command::new("python3")
            .args(["-c", PTY, env!("CARGO_BIN_EXE_par")])
            .args(["--url", running.system.url(), "exec", "python"])
            .args(words)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let keys = child
            .stdin
            .take()
            .expect("it was spawned with a piped stdin");
        let mut screen = child
            .stdout
            .take()
            .expect("it was spawned with a piped stdout");
        let seen = Arc::new(Mutex::new(String::new()));
        let shown = Arc::clone(&seen);
        // Ends with the terminal.
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = screen.read(&mut piece) {
                let text = String::from_utf8_lossy(&piece[..length]);
                shown.lock().expect("no reader panics").push_str(&text);
            }
        });
        Self {
            child,
            keys,
            seen,
            read: 0,
        }
    }

    fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("it listens");
    }

    /// Waits until `text` stands on the screen, after all that has been waited for before.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let end = wait_for(&format!("{text:?} on the screen"), PATIENCE, || {
            let seen = self.seen.lock().expect("no reader panics");
            let at = seen[self.read..].find(text)?;
            Some(self.read + at + text.len())
        });
        self.read = end;
    }

    /// Types a line at the prompt that stands there.
    #[track_caller]
    fn line(&mut self, prompt: &str, line: &str) {
        self.wait_for(prompt);
        self.keys(&format!("{line}\r"));
        self.wait_for(line);
    }

    fn ended_with(mut self, code: i32) {
        let status = self.child.wait().expect("it ends");
        let seen = self.seen.lock().expect("no reader panics");
        assert_eq!(status.code(), Some(code), "{seen}");
    }
}

#[test]
fn lines_are_run_as_they_are_typed_and_the_session_ends_with_them() {
    let (running, _) = python();
    let mut typist = Typist::at(&running, &[]);
    typist.wait_for("python, session exec-");
    typist.line(">>> ", "x = 20");
    typist.line(">>> ", "x + 1");
    typist.wait_for("\n21\r\n");
    typist.line(">>> ", "def f(n):");
    typist.line("... ", "    return [n] * n");
    typist.line("... ", "");
    typist.line(">>> ", "f(2)");
    typist.wait_for("\n[2, 2]\r\n");
    typist.line(">>> ", "print('\\x1b[5m', end='')");
    typist.wait_for("\n\\u{1b}[5m\r\n");
    typist.line(">>> ", "1 / 0");
    typist.wait_for("ZeroDivisionError: division by zero");
    typist.line(">>> ", "x");
    typist.wait_for("\n20\r\n");
    typist.wait_for(">>> ");
    typist.keys(CTRL_D);
    typist.ended_with(0);
    assert_eq!(sessions(&running), Vec::<Value>::new());
}

#[test]
fn lines_that_come_all_at_once_are_run_one_after_the_other() {
    let (running, _) = python();
    let mut typist = Typist::at(&running, &[]);
    typist.wait_for(">>> ");
    typist.keys("def f():\r    return 40\r\rf() + 1\r1 + 1\r");
    typist.wait_for("\n41\r\n");
    typist.wait_for("\n2\r\n");
    typist.line(">>> ", "quit");
    typist.ended_with(0);
}

#[test]
fn a_terminal_that_goes_away_takes_the_session_along() {
    let (running, _) = python();
    for code in ["", "__import__('time').sleep(60)\r"] {
        let mut typist = Typist::at(&running, &[]);
        typist.wait_for(">>> ");
        typist.keys("print('there')\r");
        typist.wait_for("\nthere\r\n");
        typist.wait_for(">>> ");
        typist.keys(code);
        let state = if code.is_empty() { "idle" } else { "running" };
        wait_for(state, PATIENCE, || {
            (sessions(&running).first()?["state"] == state).then_some(())
        });
        typist.child.kill().expect("it can be killed");
        typist.child.wait().expect("it can be waited for");
        wait_for("no session", PATIENCE, || {
            sessions(&running).is_empty().then_some(())
        });
    }
}

#[test]
fn ctrl_c_stops_what_runs_and_drops_what_is_typed() {
    let (running, _) = python();
    let mut typist = Typist::at(&running, &["--session", "s"]);
    typist.wait_for("session s: stays");
    typist.line(">>> ", "x = 7");
    typist.wait_for(">>> ");
    typist.keys("half of a li");
    typist.wait_for("half of a li");
    typist.keys(CTRL_C);
    typist.line(">>> ", "if x:");
    typist.wait_for("... ");
    typist.keys(CTRL_C);
    typist.wait_for(">>> ");
    typist.keys("print('runs', flush=True); __import__('time').sleep(60)\r");
    typist.wait_for("\nruns\r\n");
    typist.keys(CTRL_C);
    typist.wait_for("interrupted");
    typist.line(">>> ", "x + 1");
    typist.wait_for("\n8\r\n");
    typist.line(">>> ", "exit()");
    typist.ended_with(0);
    assert_eq!(sessions(&running).len(), 1);
}

#[test]
fn a_person_who_has_no_agent_is_told_before_a_prompt() {
    let (running, _) = python();
    running.par(&["rm", "python"]).ended_with(0);
    let mut typist = Typist::at(&running, &[]);
    typist.wait_for("no agent is called `python`");
    typist.ended_with(4);
}
