//! The process of one session.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Duration;

use par_model::Tier;
use par_model::control::EndCause;
use par_protocol::frame::{Frame, FrameCodec, FrameError, Kind};
use par_protocol::session::Load;
use par_sandbox::{AgentProcess, Confinement, Plan, Program, Target};
use rustix::process::Signal;
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::bounds::SessionGroup;
use super::disk::Disk;
use super::ground::Ground;
use super::remove;
use crate::agent::Exchange;
use crate::agent::channel::{self, Channel, Pump};
use crate::agent::process::{cause_of, not_confined, worker_failed};
use crate::limits::walls_of;
use crate::surroundings::private_tmp;

const LONGEST_START: Duration = Duration::from_secs(30);
/// For processes that an interpreter has started.
const LONGEST_END: Duration = Duration::from_secs(5);
/// How much less than the worker a session is preferred.
const NICENESS: i32 = 5;
/// What a result holds besides values, in bytes: a traceback, and what is small.
const AROUND_THE_VALUES: u64 = 2 << 20;
/// A count that takes long is not made again for so many times as long, up to a bound.
const FAIR_SHARE: u32 = 20;
const LONGEST_REST: Duration = Duration::from_secs(5);
/// Who makes the count take longer is taken to have too much.
const LONGEST_COUNT: Duration = Duration::from_secs(1);
const SESSION: &str = "PAR_SESSION";

/// Names the folder and the processes of one interpreter within its worker.
#[derive(Default)]
pub(crate) struct Serials(Cell<u64>);

impl Serials {
    fn next(&self) -> u64 {
        self.0.set(self.0.get() + 1);
        self.0.get()
    }
}

pub(super) struct Interpreter {
    child: Child,
    pid: u32,
    target: Target,
    /// The interpreter itself, where that is another process.
    program: Target,
    channel: Rc<Channel>,
    pump: JoinHandle<Result<(), FrameError>>,
    pub(super) stdout: ChildStdout,
    pub(super) stderr: ChildStderr,
    folder: PathBuf,
    pub(super) disk: Disk,
    /// In the environment of all that it starts.
    mark: String,
    bounds: SessionGroup,
    /// When its memory may be counted fairly again.
    fair_after: Cell<Option<Instant>>,
}

impl Interpreter {
    /// Starts one in `folder`, or in a folder of its own, and waits until it can run code.
    pub(super) async fn start(ground: &Ground, folder: Option<PathBuf>) -> Result<Self, EndCause> {
        let serial = ground.serials.next();
        let own = ground.folder.join(serial.to_string());
        let is_own = folder.is_none();
        let starting = Self::start_in(ground, folder.unwrap_or_else(|| own.clone()), serial);
        let late = |_| EndCause::StartTimedOut {
            after: LONGEST_START,
        };
        let started = timeout(LONGEST_START, starting).await.map_err(late);
        let started = started.and_then(|started| started);
        if started.is_err() && is_own {
            remove(own).await;
        }
        started
    }

    async fn start_in(ground: &Ground, folder: PathBuf, serial: u64) -> Result<Self, EndCause> {
        let failed = |error: io::Error| worker_failed(&error);
        make_folder(&folder, ground.isolation.user).map_err(failed)?;
        let bounds = SessionGroup::make(ground, serial);
        let plan = plan(ground, &folder, serial, bounds.doors()).map_err(failed)?;
        let process = par_sandbox::spawn_agent().map_err(failed)?;
        let (interpreter, mut unasked) =
            Self::of(process, &plan, folder, serial, ground, bounds).await?;
        interpreter.load(ground).map_err(failed)?;
        // From then on it is not asked for anything but runs: with nobody to take it, anything else ends the channel.
        match unasked.recv().await {
            Some(frame) if frame.kind == Kind::Ready => Ok(interpreter),
            _ => Err(interpreter.last_words().await),
        }
    }

    async fn of(
        mut process: AgentProcess,
        plan: &Plan,
        folder: PathBuf,
        serial: u64,
        ground: &Ground,
        mut bounds: SessionGroup,
    ) -> Result<(Self, mpsc::Receiver<Frame>), EndCause> {
        let failed = |error: io::Error| worker_failed(&error);
        let (confined, _no_listeners) = process.confine(plan).await.map_err(not_confined)?;
        walls_of(&ground.isolation, &confined)?;
        let program = process.program(plan).map_err(failed)?;
        let program = Target::at(program).map_err(failed)?;
        let AgentProcess {
            child,
            pid,
            channel,
            stdout: Some(stdout),
            stderr: Some(stderr),
            gate,
            ..
        } = process
        else {
            return Err(failed(io::Error::other("its output is not piped")));
        };
        if let Some(why) = &confined.without_group {
            bounds.give_up(why);
        }
        ground.note(confined);
        gate.open().await.map_err(failed)?;
        let most = ground.limits.result + AROUND_THE_VALUES;
        let codec = FrameCodec {
            most: usize::try_from(most).unwrap_or(usize::MAX),
        };
        let (unasked_in, unasked) = mpsc::channel(1);
        let (channel, pump) = channel::open(channel, codec, unasked_in);
        let interpreter = Self {
            target: Target::of(&child).map_err(failed)?,
            program,
            child,
            pid,
            channel,
            pump: tokio::task::spawn_local(Pump::run(pump)),
            stdout,
            stderr,
            disk: Disk::of(folder.clone(), ground.disk),
            folder,
            mark: format!("{SESSION}={serial}"),
            bounds,
            fair_after: Cell::new(None),
        };
        Ok((interpreter, unasked))
    }

    fn load(&self, ground: &Ground) -> io::Result<()> {
        let load = Load {
            root: None,
            site: ground.site.clone(),
            folder: self.folder.clone(),
            bytecode: self.folder.join(".bytecode"),
            result_bytes: ground.limits.result,
        };
        let body = serde_json::to_vec(&load)?;
        let put = self.channel.put(0, Kind::Load, &[&body]);
        put.map_err(io::Error::other)
    }

    /// Why one that was started is not ready, with what it wrote about that.
    async fn last_words(mut self) -> EndCause {
        let mut words = vec![];
        let reading = tokio::io::AsyncReadExt::read_to_end(&mut self.stderr, &mut words);
        let _until_it_has_ended = timeout(Duration::from_secs(1), reading).await;
        let words = String::from_utf8_lossy(&words).trim().to_owned();
        match self.end().await {
            cause if words.is_empty() => cause,
            cause => EndCause::Worker {
                reason: format!("{cause}: {words}"),
            },
        }
    }

    pub(super) fn is_alive(&mut self) -> bool {
        !self.channel.is_gone() && matches!(self.child.try_wait(), Ok(None))
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Lets it have what a session of this tier may have, from now on.
    pub(super) fn limit(&self, tier: Tier) {
        par_sandbox::limit_process(self.pid, tier_memory(tier), tier.processors());
        self.bounds.limit(tier);
    }

    pub(super) fn begin(&self) -> Exchange {
        self.channel.begin(0)
    }

    pub(super) async fn room(&self) {
        self.channel.room().await;
    }

    pub(super) fn interrupt(&self) {
        self.program.signal(Signal::INT);
    }

    /// Ends it and all that it started, now.
    pub(super) fn kill(&self) {
        self.bounds.kill();
        par_sandbox::kill_descendants(self.pid);
        self.target.signal(Signal::KILL);
    }

    /// Whether the kernel has killed it, or something that it started, for want of memory.
    pub(super) fn ran_out_of_memory(&self) -> bool {
        self.bounds.ran_out_of_memory()
    }

    /// Whether it and all below it have more memory than so many bytes. Never where the kernel holds that.
    pub(super) fn has_more_than(&self, bytes: u64) -> bool {
        if self.bounds.hold_memory() {
            return false;
        }
        // What processes share is counted for each of them first, because that is quick, and then fairly.
        if par_sandbox::resident_bytes(self.pid) <= bytes {
            return false;
        }
        let now = Instant::now();
        if self.fair_after.get().is_some_and(|after| now < after) {
            return false; // it was within its limit a moment ago, and to know that took long
        }
        let too_much = par_sandbox::proportional_bytes(self.pid) > bytes;
        let took = now.elapsed();
        let rest = (took * FAIR_SHARE).min(LONGEST_REST);
        self.fair_after.set(Some(now + rest));
        too_much || took > LONGEST_COUNT
    }

    /// Waits until it is gone.
    pub(super) async fn exited(&mut self) -> EndCause {
        cause_of(self.child.wait().await)
    }

    /// What a run wrote before its last frame may be in the pipes still.
    pub(super) fn unread(&self) -> [Vec<u8>; 2] {
        [
            unread_of(self.stdout.as_fd()),
            unread_of(self.stderr.as_fd()),
        ]
    }

    /// Ends it with all that it started, and says how it ended. The folder stays.
    pub(super) async fn end(mut self) -> EndCause {
        par_sandbox::end_descendants(self.pid, LONGEST_END).await;
        self.target.signal(Signal::KILL);
        let cause = self.exited().await;
        par_sandbox::end_orphans_of(self.pid, &self.mark, LONGEST_END).await;
        self.bounds.end(LONGEST_END).await;
        if self.disk.is_full() {
            remove(self.folder.clone()).await;
        }
        self.channel.close();
        self.pump.abort();
        cause
    }
}

/// Whatever code has made of it.
pub(super) fn make_folder(folder: &Path, user: Option<u32>) -> io::Result<()> {
    match std::fs::symlink_metadata(folder) {
        Ok(found) if !found.is_dir() => std::fs::remove_file(folder)?,
        _ => {}
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)?;
    match user {
        Some(user) => std::os::unix::fs::lchown(folder, Some(user), Some(user)),
        None => Ok(()),
    }
}

/// Cut to what the machine has.
pub(super) fn tier_memory(tier: Tier) -> u64 {
    let machine = par_sandbox::memory_total().unwrap_or(u64::MAX);
    tier.memory().min(machine)
}

fn plan(ground: &Ground, folder: &Path, serial: u64, groups: Vec<PathBuf>) -> io::Result<Plan> {
    let program = ground.program.to_str();
    let program = program.ok_or_else(|| io::Error::other("the state folder is not Unicode"))?;
    let mut view = ground.view.clone();
    view.writable.push(folder.to_owned());
    let has_root = ground.isolation.profile.has_namespaces();
    Ok(Plan {
        program: Program::Execute {
            path: ground.python.clone(),
            arguments: ["-I", "-S", "-X", "utf8", program]
                .map(ToOwned::to_owned)
                .to_vec(),
        },
        env: environment(ground, folder, serial),
        folder: folder.to_owned(),
        confinement: Confinement {
            profile: ground.isolation.profile,
            user: ground.isolation.user,
            data_bytes: Some(tier_memory(Tier::Large)),
            private_tmp: (!has_root).then(|| private_tmp(&view)),
            view,
            keeps_orphans: true,
            niceness: NICENESS,
            open_files: ground.open_files,
            file_bytes: ground.disk,
            processes: ground.pids.filter(|_| groups.is_empty() && has_root),
            groups,
            ..Confinement::default()
        },
    })
}

/// Nothing of the agent's own environment: the code of a session is not the agent's, and its secrets are not for it.
fn environment(ground: &Ground, folder: &Path, serial: u64) -> BTreeMap<String, String> {
    let folder = folder.to_string_lossy().into_owned();
    [
        ("HOME", folder.clone()),
        ("TMPDIR", folder),
        ("LANG", "C.UTF-8".to_owned()),
        ("PATH", ground.path.clone()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        (SESSION, serial.to_string()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// As much as a pipe holds, without waiting for more.
fn unread_of(pipe: std::os::fd::BorrowedFd<'_>) -> Vec<u8> {
    const PIPE: usize = 64 << 10;
    let mut all = vec![];
    // Usually there is nothing: what there is comes in pieces.
    let mut piece = [0; 4 << 10];
    while all.len() < PIPE {
        match rustix::io::read(pipe, &mut piece) {
            Ok(length @ 1..) => all.extend_from_slice(&piece[..length]),
            // Nothing is there now, or nobody is left to write.
            Ok(0) | Err(_) => break,
        }
    }
    all
}
