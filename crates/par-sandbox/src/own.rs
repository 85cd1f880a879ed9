//! Processes of our own binary.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::process::Stdio;

use tokio::process::{Child, Command};

/// Starts `par worker`, whose standard input is the control socket. It inherits nothing of our environment but
/// what installers of dependencies need: they run in it, the agent does not get it.
pub fn spawn_worker(control: OwnedFd) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("worker")
        .env_clear()
        .envs(std::env::vars_os().filter(|(name, _)| for_tools(name)))
        .stdin(control)
        .stdout(Stdio::null())
        // A group of its own: Ctrl-C at the terminal is the supervisor's business.
        .process_group(0);
    command.spawn()
}

/// Starts our own binary with `arguments`, its standard output piped, killed when dropped.
pub fn spawn_own(arguments: &[&OsStr]) -> io::Result<Child> {
    Command::new(std::env::current_exe()?)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
}

/// Variables by which people point pip, uv and the network stack to their index.
pub(crate) fn for_tools(name: &OsStr) -> bool {
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
    EXACT.contains(&name)
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || matches!(
            name.to_ascii_lowercase().as_str(),
            "http_proxy" | "https_proxy" | "all_proxy" | "no_proxy"
        )
        || matches!(name, "REQUESTS_CA_BUNDLE" | "CURL_CA_BUNDLE" | "NETRC")
}
