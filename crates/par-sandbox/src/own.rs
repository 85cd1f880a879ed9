//! Processes of our own binary.

use std::ffi::{CStr, OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Resource, Rlimit, setrlimit};
use tokio::process::{Child, Command};

use crate::children::start;

/// The program that runs now, even when its file was replaced or removed meanwhile.
pub(crate) const OURSELVES: &str = "/proc/self/exe";

/// Starts `par worker`, whose standard input is the control socket. It inherits nothing of our environment but
/// what installers of dependencies need: they run in it, the agent does not get it.
pub fn spawn_worker(control: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(OURSELVES);
    command
        .arg0("par")
        .arg("worker")
        .env_clear()
        .envs(tool_variables())
        .stdin(control)
        .stdout(Stdio::null())
        // A group of its own: Ctrl-C at the terminal is the supervisor's business.
        .process_group(0);
    start(&mut command)
}

/// Starts our own binary with `arguments`, its standard output piped, killed when dropped.
pub fn spawn_own(arguments: &[&OsStr]) -> io::Result<Child> {
    let mut command = Command::new(OURSELVES);
    command
        .arg0("par")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    start(&mut command)
}

/// Starts `binary` with our own arguments, environment and output, and `variable` set, to go on where we end. Its standard
/// input is `socket`.
pub fn spawn_successor(binary: &Path, socket: OwnedFd, variable: &str) -> io::Result<Child> {
    let mut command = Command::new(binary);
    command
        .arg0("par")
        .args(std::env::args_os().skip(1))
        .env(variable, "1")
        .stdin(socket);
    start(&mut command)
}

/// No core file of this process, or of what it starts, is ever written: secrets lie in its memory.
pub fn leave_no_core_file() -> io::Result<()> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    Ok(setrlimit(Resource::Core, none)?)
}

/// Gives the calling process a name for `ps` and `top`; the kernel keeps 15 bytes of it.
pub fn name_process(name: &CStr) -> io::Result<()> {
    Ok(rustix::thread::set_name(name)?)
}

/// Names the step of the confiner at which an agent of a test never goes on. Not in a release.
pub const FAILPOINT: &str = "PAR_FAILPOINT";

/// Of our own environment, what tools get.
pub fn tool_variables() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| for_tools(name))
}

/// Variables by which people point pip, uv and the network stack to their index.
fn for_tools(name: &OsStr) -> bool {
    const EXACT: [&str; 6] = [
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "RUST_LOG",
        "RUST_BACKTRACE",
    ];
    const PREFIXES: [&str; 5] = ["PIP_", "UV_", "SSL_CERT_", "XDG_", "LC_"];
    let Some(name) = name.to_str() else {
        return false;
    };
    (cfg!(debug_assertions) && name == FAILPOINT)
        || EXACT.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name.to_ascii_lowercase().as_str(),
            "http_proxy" | "https_proxy" | "all_proxy" | "no_proxy"
        )
        || matches!(name, "REQUESTS_CA_BUNDLE" | "CURL_CA_BUNDLE" | "NETRC")
}

/// A process that does nothing until it is dropped, or we end.
pub(crate) fn start_victim() -> io::Result<Child> {
    let mut command = Command::new(OURSELVES);
    command
        .arg("__victim")
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    start(&mut command)
}
