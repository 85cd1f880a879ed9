//! Walls, seen from inside by attackers and from outside by us.

use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::PathBuf;

use par_testkit::{PackageBuilder, wait_for};
use rustix::process::geteuid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::backend::{self, AGENT};
use crate::scene::{PATIENCE, Scene};

pub(crate) const ATTACKS: &str = include_str!("attacks.py");

/// What attackers look for, alive as long as this.
pub(crate) struct Bait {
    folder: TempDir,
    tcp: TcpListener,
    _socket: UnixListener,
    _abstract: UnixListener,
    victim: u32,
}

impl Bait {
    /// Open to everybody: it is not its permissions that are tried.
    pub(crate) fn lay(victim: u32) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("bait-")
            // Not in /tmp, which sessions have for themselves even without walls.
            .tempdir_in("/var/tmp");
        let folder = folder.expect("a folder");
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).expect("changed");
        std::fs::write(folder.path().join("file"), "bait").expect("written");
        let socket = folder.path().join("socket");
        let listener = UnixListener::bind(&socket).expect("listening");
        std::fs::set_permissions(socket, PermissionsExt::from_mode(0o777)).expect("changed");
        let name = SocketAddr::from_abstract_name(folder.path().as_os_str().as_encoded_bytes());
        let name = name.expect("a name");
        Self {
            tcp: TcpListener::bind("127.0.0.1:0").expect("listening"),
            _socket: listener,
            _abstract: UnixListener::bind_addr(&name).expect("listening"),
            victim,
            folder,
        }
    }

    pub(crate) fn new_file(&self) -> PathBuf {
        self.folder.path().join("new")
    }

    pub(crate) fn shown(&self) -> Value {
        json!({
            "file": self.folder.path().join("file"),
            "new_file": self.new_file(),
            "victim": self.victim,
            "port": self.tcp.local_addr().expect("an address").port(),
            "name": self.folder.path(),
            "socket": self.folder.path().join("socket"),
            "in_tmp": self.folder.path(),
        })
    }
}

fn scene(profile: &str) -> Scene {
    let scene = Scene::with(|builder| builder.arguments(["--isolation", profile]));
    let attacker = PackageBuilder::new("attacker").main(ATTACKS);
    scene.serve(&attacker, &json!({}));
    let victim = PackageBuilder::new("victim").main("def handler(body):\n    return body\n");
    scene.serve(&victim, &json!({}));
    scene.serve(&backend::package(AGENT), &json!({}));
    scene
}

/// As an agent, and as code in a session.
fn reached(scene: &Scene, bait: &Bait) -> [Value; 2] {
    let agent = scene.call("attacker", &bait.shown());
    assert_eq!(agent.status, 200, "{}", agent.text());
    backend::run(scene, "a", ATTACKS);
    let bait = bait.shown();
    let session = backend::value(scene, "a", &format!("attack({bait})"));
    [agent.json(), session]
}

pub(crate) fn profiles() -> Vec<&'static str> {
    match geteuid().is_root() {
        true => vec!["full", "userns"],
        false => vec!["userns"],
    }
}

#[test]
fn an_attack_that_reaches_the_machine_without_walls_reaches_nothing_behind_them() {
    let free = scene("unsafe");
    let bait = Bait::lay(free.pid("victim", "agent_pid"));
    for reached in reached(&free, &bait) {
        let reached = reached.as_array().expect("a list");
        for basic in [
            "read a file",
            "write a file",
            "signal a process",
            "connect to a port",
            "connect to a socket",
            "connect to an abstract socket",
            "see a process",
        ] {
            assert!(
                reached.contains(&basic.into()),
                "{basic} is no proof: {reached:?}"
            );
        }
    }
    std::fs::remove_file(bait.new_file()).expect("it was written");
    for profile in profiles() {
        let scene = scene(profile);
        let bait = Bait::lay(scene.pid("victim", "agent_pid"));
        for reached in reached(&scene, &bait) {
            assert_eq!(reached, json!([]), "{profile}");
        }
        assert!(!bait.new_file().exists(), "{profile}");
        assert_eq!(scene.process("attacker")["isolation"]["enforced"], profile);
        assert_eq!(scene.call("victim", &json!(1)).json(), json!(1));
    }
}

#[test]
fn what_programs_of_every_day_need_goes_on_behind_the_walls() {
    let python = r#"
import asyncio, multiprocessing, os, pathlib, socket, sqlite3, ssl, subprocess, sys, tempfile, threading, time

async def ask():
    child = await asyncio.create_subprocess_exec("/bin/echo", "out", stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    return out.decode().strip()

def square(number):
    return number * number

def handler(body):
    seen = {}
    with multiprocessing.get_context("fork").Pool(2) as pool:
        seen["multiprocessing"] = pool.map(square, [1, 2, 3])
    queue = multiprocessing.Queue()
    queue.put(1)
    seen["queue"] = queue.get()
    seen["asyncio"] = asyncio.run(ask())
    done = []
    threads = [threading.Thread(target=done.append, args=(n,)) for n in range(8)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    seen["threads"] = sorted(done)
    with tempfile.TemporaryDirectory() as folder:
        base = sqlite3.connect(os.path.join(folder, "base.db"))
        base.execute("pragma journal_mode=wal")
        base.execute("create table t (x)")
        base.execute("insert into t values (1)")
        seen["sqlite"] = base.execute("select x from t").fetchone()[0]
        base.close()
    seen["ssl"] = len(ssl.create_default_context().get_ca_certs()) > 0
    seen["shell"] = subprocess.run("echo a | tr a b", shell=True, capture_output=True, text=True).stdout.strip()
    server = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(server.getsockname())
    client.close(); server.close()
    seen["localhost"] = bool(socket.getaddrinfo("localhost", 80))
    seen["user"] = __import__("pwd").getpwuid(os.getuid()).pw_name
    pathlib.Path(os.environ["HOME"], "kept").write_text("kept")
    seen["home"] = pathlib.Path.home().joinpath("kept").read_text()
    seen["cpus"] = os.cpu_count() > 0
    seen["proc"] = open("/proc/meminfo").read().startswith("MemTotal")
    return seen
"#;
    for profile in profiles() {
        let scene = Scene::with(|builder| builder.arguments(["--isolation", profile]));
        scene.serve(&PackageBuilder::new("usual").main(python), &json!({}));
        let answer = scene.call("usual", &json!({}));
        assert_eq!(answer.status, 200, "{profile}: {}", answer.text());
        let expected = json!({
            "multiprocessing": [1, 4, 9], "queue": 1, "asyncio": "out", "threads": [0, 1, 2, 3, 4, 5, 6, 7],
            "sqlite": 1, "ssl": true, "shell": "b", "localhost": true, "user": "agent", "home": "kept",
            "cpus": true, "proc": true,
        });
        assert_eq!(answer.json(), expected, "{profile}");
    }
}

#[test]
fn an_agent_in_a_network_of_its_own_finds_the_supervisor_and_itself_where_its_environment_says() {
    let python = r#"
import json, os, urllib.request

def ask(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"content-type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    return json.load(opener.open(request, timeout=20))

def handler(body):
    if body == "back":
        return "it is me"
    other = ask(os.environ["PAR_SUPERVISOR_URL"] + "/agents/other/invoke", 7)
    own = ask("http://127.0.0.1:%s/invoke" % os.environ["PAR_PORT"], "back")
    return [other, own]
"#;
    let scene = Scene::start();
    let other = PackageBuilder::new("other").main("def handler(body):\n    return body + 1\n");
    scene.serve(&other, &json!({}));
    scene.serve(&PackageBuilder::new("asker").main(python), &json!({}));
    let answer = scene.call("asker", &json!({}));
    assert_eq!(answer.json(), json!([8, "it is me"]), "{}", answer.text());
}

#[test]
fn an_agent_that_makes_a_link_out_of_its_folder_leads_nobody_there() {
    let scene = Scene::start();
    let bait = tempfile::tempdir().expect("a folder");
    let python = format!(
        "import os, shutil\nhome = os.environ['HOME']\nshutil.rmtree(home + '/tmp')\nos.symlink({:?}, home + '/tmp')\ndef handler(body):\n    return os.path.islink(home + '/tmp')\n",
        bait.path().join("made")
    );
    scene.serve(&PackageBuilder::new("linker").main(&python), &json!({}));
    assert_eq!(scene.call("linker", &json!({})).json(), true);
    let restart = scene
        .http()
        .request("POST", "/supervisor/restart/linker", &[], b"");
    assert_eq!(restart.expect("an answer").status, 200);
    scene.wait_until("linker", "running");
    assert!(
        !bait.path().join("made").exists(),
        "nothing is made behind a link"
    );
}

#[test]
fn a_profile_that_cannot_be_had_starts_nothing_and_says_what_to_do() {
    if geteuid().is_root() {
        return; // root has them all; what is missing then is a story in the decision
    }
    let scene = Scene::with(|builder| builder.arguments(["--isolation", "full"]));
    let package = PackageBuilder::new("held").main("def handler(body):\n    return 1\n");
    scene.spawn(&package, &json!({}));
    let failed = scene.wait_until("held", "failed");
    let error = failed["error"].as_str().expect("a reason");
    assert!(
        error.contains("not isolated, and so not started"),
        "{error}"
    );
    assert!(error.contains("as root"), "{error}");
}

#[test]
fn nothing_of_an_agent_is_left_when_its_confiner_its_first_process_or_itself_is_killed() {
    let scene = Scene::start();
    let python = "import subprocess\nsubprocess.Popen(['sleep', '1000'], start_new_session=True)\ndef handler(body):\n    return 1\n";
    let quickly = json!({"restart_delay_seconds": 0.05, "max_restarts": 10});
    scene.serve(&PackageBuilder::new("family").main(python), &quickly);
    // The confiner, our pid 1, the interpreter: each the parent of the next.
    for depth in 0..3 {
        let worker = scene.pid("family", "pid");
        let all = par_testkit::descendants_of(worker);
        assert!(all.len() >= 4, "{all:?}");
        let mut chain = vec![worker];
        while let Some(child) = first_child(*chain.last().expect("one")) {
            chain.push(child);
        }
        let target = chain[depth + 1];
        kill(target);
        wait_for("all of them are gone", PATIENCE, || {
            all.iter().all(|pid| !is_alive(*pid)).then_some(())
        });
        scene.wait_for_process("family", "back", |process| {
            process["state"] == "running" && process["pid"] != worker
        });
    }
}

/// Whose name says that it waits there.
fn waits_at(step: &str, below: u32) -> Option<u32> {
    let name = format!("at-{step}\n");
    let all = par_testkit::descendants_of(below);
    all.into_iter().find(|pid| {
        std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == name)
    })
}

#[test]
fn whoever_is_killed_while_an_agent_is_walled_in_nothing_is_left_and_nothing_runs() {
    if !cfg!(debug_assertions) {
        return; // a release has no such places
    }
    for step in ["joined", "cloned", "rooted", "bare", "let-go"] {
        for killed in ["confiner", "worker", "supervisor"] {
            let scene = Scene::with(|builder| builder.variable("PAR_FAILPOINT", step));
            let python = "import os, pathlib\npathlib.Path(os.environ['HOME'], 'ran').touch()\ndef handler(body):\n    return 1\n";
            let never = json!({"restart_policy": "never"});
            scene.spawn(&PackageBuilder::new("walled").main(python), &never);
            let waiting = wait_for(&format!("it is {step}"), PATIENCE, || {
                waits_at(step, scene.system.pid())
            });
            let worker = scene.pid("walled", "pid");
            let ran = scene.system.state().join("agents/walled/ran");
            match killed {
                "confiner" => kill(waiting),
                "worker" => kill(worker),
                _ => {
                    scene.system.kill(); // it looks for what is left
                    continue;
                }
            }
            wait_for("it is gone", PATIENCE, || {
                (!is_alive(waiting)).then_some(())
            });
            scene.wait_for_process("walled", "over", |process| {
                process["state"] == "failed" || process["state"] == "crashed"
            });
            assert!(!ran.exists(), "{step}: {killed}");
            scene.system.stop(); // it looks for what is left
        }
    }
}

fn kill(pid: u32) {
    let process = rustix::process::Pid::from_raw(pid.cast_signed()).expect("an id");
    rustix::process::kill_process(process, rustix::process::Signal::KILL).expect("killed");
}

fn first_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok()
}

fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        !stat
            .rsplit_once(") ")
            .is_some_and(|(_, tail)| tail.starts_with('Z'))
    })
}
