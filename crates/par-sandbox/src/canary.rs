//! Whether walls stand: a process of ours that tries to get out, tried without them first. A canary that gets nowhere
//! proves something only where one without walls gets everywhere.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{SocketAddr as UnixAddress, UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

use par_model::{Profile, isolation};
use rustix::process::{Pid, test_kill_process};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::time::timeout;

use crate::advice::advice;
use crate::agent::spawn_agent;
use crate::confine::{Confinement, Plan, Program, View};
use crate::group::Group;

/// For one canary, from its start to its end.
const LONGEST_TRY: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_millis(500);
/// Of what a canary says, in bytes.
const LONGEST_ANSWER: u64 = 4 << 10;

/// What a canary tries to reach. All of it is made for the purpose, and harmless.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bait {
    /// To be read.
    file: PathBuf,
    /// To be written.
    new_file: PathBuf,
    tcp: SocketAddr,
    /// The name of an abstract socket.
    socket: String,
    /// Another process, which is asked whether it may be signalled.
    victim: i32,
}

/// What everybody reaches who is not kept from it: without this a trial says nothing.
const BASIC: [Reach; 3] = [Reach::ReadFile, Reach::ConnectTcp, Reach::SignalProcess];

/// What a canary can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    ReadFile,
    WriteFile,
    ConnectTcp,
    ConnectSocket,
    SignalProcess,
    MakeNamespace,
}

impl Reach {
    const ALL: [Self; 6] = [
        Self::ReadFile,
        Self::WriteFile,
        Self::ConnectTcp,
        Self::ConnectSocket,
        Self::SignalProcess,
        Self::MakeNamespace,
    ];

    /// For who reads it: "it can …".
    pub fn words(self) -> &'static str {
        match self {
            Self::ReadFile => "read a file of this machine",
            Self::WriteFile => "write a file on this machine",
            Self::ConnectTcp => "connect to a server on this machine",
            Self::ConnectSocket => "connect to an abstract socket of this machine",
            Self::SignalProcess => "signal another process",
            Self::MakeNamespace => "make namespaces of its own",
        }
    }
}

/// Tries what `bait` names, and says on standard output what could be reached.
pub(crate) fn fly(bait: &Bait) -> io::Result<()> {
    let reached: Vec<Reach> = Reach::ALL
        .into_iter()
        .filter(|reach| bait.is_reached(*reach))
        .collect();
    io::stdout().write_all(&serde_json::to_vec(&reached)?)
}

impl Bait {
    fn is_reached(&self, reach: Reach) -> bool {
        match reach {
            Reach::ReadFile => fs::read(&self.file).is_ok(),
            Reach::WriteFile => fs::write(&self.new_file, "").is_ok(),
            Reach::ConnectTcp => TcpStream::connect_timeout(&self.tcp, CONNECT).is_ok(),
            Reach::ConnectSocket => UnixAddress::from_abstract_name(&self.socket)
                .and_then(|address| UnixStream::connect_addr(&address))
                .is_ok(),
            Reach::SignalProcess => {
                Pid::from_raw(self.victim).is_some_and(|victim| test_kill_process(victim).is_ok())
            }
            Reach::MakeNamespace => make_namespace().is_ok(),
        }
    }
}

#[expect(
    unsafe_code,
    reason = "leaving a namespace can be unsafe for other threads"
)]
fn make_namespace() -> rustix::io::Result<()> {
    // SAFETY: no table of file descriptors is left, and the canary has one thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWUSER) }
}

/// The hidden subcommand `__victim`: lives until its standard input ends.
pub fn victim() -> io::Result<()> {
    io::copy(&mut io::stdin(), &mut io::sink()).map(drop)
}

/// How a canary behind the walls of a profile fared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tried {
    /// All walls of the profile took hold, and nothing was reached that was reached without them.
    Holds {
        /// What could not be reached without walls either: of that nothing is known.
        unproven: Vec<Reach>,
    },
    Fails {
        why: String,
        /// What to do about it, where that is known.
        advice: Option<String>,
    },
}

/// Sends a canary behind the walls of `profile`, as `user` of the machine, in `group`.
pub async fn try_profile(profile: Profile, user: Option<u32>, group: Option<&Group>) -> Tried {
    match try_both(profile, user, group).await {
        Ok(tried) => tried,
        Err(error) => Tried::Fails {
            why: error.to_string(),
            advice: advice(profile),
        },
    }
}

async fn try_both(profile: Profile, user: Option<u32>, group: Option<&Group>) -> io::Result<Tried> {
    let ground = Trap::set()?;
    let free = ground.send(Confinement::default()).await?;
    let walls = Confinement {
        profile,
        user,
        view: View {
            tmp_bytes: 1 << 20,
            shm_bytes: 1 << 20,
            ..View::default()
        },
        groups: group.map(Group::doors).unwrap_or_default(),
        ..Confinement::default()
    };
    let reached = ground.send(walls).await?;
    if let Some(reach) = reached.first() {
        let why = format!("a program behind its walls could {}", reach.words());
        return Ok(Tried::Fails { why, advice: None });
    }
    if let Some(reach) = BASIC.iter().find(|reach| !free.contains(reach)) {
        let why = format!(
            "nothing is proven: one without walls could not {} either",
            reach.words()
        );
        return Ok(Tried::Fails { why, advice: None });
    }
    let unproven = Reach::ALL
        .into_iter()
        .filter(|reach| !free.contains(reach))
        .collect();
    Ok(Tried::Holds { unproven })
}

/// The bait, and what has to be alive for it.
struct Trap {
    folder: tempfile::TempDir,
    bait: Bait,
    _tcp: TcpListener,
    _socket: UnixListener,
    _victim: tokio::process::Child,
}

impl Trap {
    fn set() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("par-canary-").tempdir()?;
        // Open to everybody: it is not its permissions that are tried.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777))?;
        let file = folder.path().join("canary");
        fs::write(&file, "a canary\n")?;
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let socket = folder.path().to_string_lossy().into_owned();
        let listener = UnixListener::bind_addr(&UnixAddress::from_abstract_name(&socket)?)?;
        let victim = crate::own::start_victim()?;
        let gone = || io::Error::other("the victim has ended");
        let bait = Bait {
            new_file: folder.path().join("new"),
            tcp: tcp.local_addr()?,
            socket,
            victim: victim
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .ok_or_else(gone)?,
            file,
        };
        Ok(Self {
            folder,
            bait,
            _tcp: tcp,
            _socket: listener,
            _victim: victim,
        })
    }

    async fn send(&self, confinement: Confinement) -> io::Result<Vec<Reach>> {
        match fs::remove_file(self.folder.path().join("new")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, "a canary did not come back");
        timeout(LONGEST_TRY, self.fly(confinement))
            .await
            .map_err(late)?
    }

    async fn fly(&self, confinement: Confinement) -> io::Result<Vec<Reach>> {
        let profile = confinement.profile;
        let plan = Plan {
            program: Program::Canary(self.bait.clone()),
            env: BTreeMap::new(),
            folder: "/".into(),
            confinement,
        };
        let mut process = spawn_agent()?;
        let (confined, _no_listeners) = process.confine(&plan).await?;
        let missing = isolation::missing(profile, &confined.layers);
        if let Some(layer) = missing.first() {
            let why = confined.without_group.unwrap_or_default();
            return Err(io::Error::other(format!("{layer} did not take hold {why}")));
        }
        process.gate.open().await?;
        let mut answer = vec![];
        if let Some(stdout) = process.stdout.take() {
            stdout.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
        }
        let status = process.child.wait().await?;
        serde_json::from_slice(&answer).map_err(|_| {
            io::Error::other(format!(
                "a canary said nothing: {}",
                crate::end_cause(status)
            ))
        })
    }
}
