//! `par worker`: a supervisor at the other end of standard input says what to be, hears how it goes, and may ask for
//! the end. When it is gone, the next one may come to our control socket; when none comes for long, we end too.
//!
//! ```text
//! first link (standard input) ─▶ linked ─▶ parted ── nobody comes ──▶ end
//!                                  ▲          │
//!                                  └──────────┘ somebody who knows our secret
//! ```

use std::cell::Cell;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::rc::Rc;
use std::sync::Arc;

use par_egress::Policy;
use par_model::control::{
    Adoption, Command, MAX_LINE, OwnPorts, Report, Resumed, Secret, WorkerSpec,
};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant, timeout};
use tracing::debug;

use crate::egress::policies;
use crate::ending::Ending;
use crate::idle::Idle;
use crate::life;
use crate::reports::{self, Reporter, Reports};

/// How long the last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// For whoever comes to our control socket to say who it is.
const FIRST_WORDS: Duration = Duration::from_secs(2);
/// Who are heard there at the same time.
const MOST_VISITORS: usize = 64;

/// Serves one agent until it ends or is asked to.
pub fn run() -> io::Result<()> {
    par_sandbox::leave_no_core_file()?;
    par_sandbox::adopt_orphans()?;
    par_sandbox::name_process(c"par-worker")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build_local(LocalOptions::default())?;
    runtime.block_on(supervised())
}

async fn supervised() -> io::Result<()> {
    // Until the end of the runtime.
    tokio::task::spawn_local(par_sandbox::reap_orphans()?);
    let control = StdUnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    control.set_nonblocking(true)?;
    let mut link = Link::new(UnixStream::from_std(control)?);
    let Some(spec) = next_line::<WorkerSpec>(&mut link.lines).await? else {
        return Ok(());
    };
    let (reporter, reports) = reports::channel();
    let (ending_in, ending) = watch::channel(Ending::No);
    let idle = Idle::new(spec.idle_timeout, reporter.clone());
    let (egress_in, egress) = policies(&spec.egress);
    let own_ports = Rc::new(Cell::new(spec.own_ports));
    let conversation = Conversation {
        doors: Doors::open(&spec, Rc::clone(&own_ports))?,
        reporter: reporter.clone(),
        reports,
        ending: ending_in,
        idle: Rc::clone(&idle),
        egress: egress_in,
        told: Told::new(spec.restarts),
        untold: vec![],
    };
    let conversing = tokio::task::spawn_local(conversation.run(link));
    let cause = life::live(spec, reporter.clone(), ending, idle, egress, own_ports).await;
    reporter.state(Report::Ending { cause });
    drop(reporter);
    if timeout(LAST_WORDS, conversing).await.is_err() {
        debug!("the supervisor did not read our last words");
    }
    Ok(())
}

/// A connection to a supervisor.
struct Link {
    lines: BufReader<OwnedReadHalf>,
    write: OwnedWriteHalf,
}

impl Link {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self {
            lines: BufReader::new(read),
            write,
        }
    }
}

/// Where the next supervisor comes in.
struct Doors {
    listener: Option<UnixListener>,
    secret: Secret,
    patience: Duration,
    own_ports: Rc<Cell<OwnPorts>>,
}

impl Doors {
    fn open(spec: &WorkerSpec, own_ports: Rc<Cell<OwnPorts>>) -> io::Result<Self> {
        Ok(Self {
            listener: spec.control.as_ref().map(UnixListener::bind).transpose()?,
            secret: spec.secret.clone(),
            patience: spec.outlive,
            own_ports,
        })
    }

    /// Somebody who knows our secret, if one comes in time.
    async fn next(&self) -> Option<Link> {
        let listener = self.listener.as_ref()?;
        let come = timeout(self.patience, self.first_known(listener)).await;
        let (link, own_ports) = come.ok()?;
        self.own_ports.set(own_ports);
        Some(link)
    }

    /// Visitors are heard side by side: one who says nothing keeps nobody out.
    async fn first_known(&self, listener: &UnixListener) -> (Link, OwnPorts) {
        let mut visitors = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept(), if visitors.len() < MOST_VISITORS => match accepted {
                    Ok((stream, _)) => {
                        visitors.spawn_local(known(stream, self.secret.clone()));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                },
                Some(visited) = visitors.join_next() => match visited {
                    Ok(Some(known)) => return known,
                    _ => debug!("somebody came to the control socket who does not know us"),
                },
            }
        }
    }
}

async fn known(stream: UnixStream, secret: Secret) -> Option<(Link, OwnPorts)> {
    let mut link = Link::new(stream);
    let said = timeout(FIRST_WORDS, next_line::<Adoption>(&mut link.lines)).await;
    match said {
        Ok(Ok(Some(adoption))) if adoption.secret == secret => Some((link, adoption.own_ports)),
        _ => None,
    }
}

/// How a conversation over one link ended.
enum Parted {
    /// The supervisor is gone.
    Broken,
    /// All is said: the worker ends.
    Done,
}

/// What any supervisor was told, and a later one has to know.
struct Told {
    resumed: Resumed,
    ready_at: Option<Instant>,
    limits: Option<Report>,
    isolation: Option<Report>,
    egress: Option<Report>,
}

impl Told {
    fn new(restarts: u32) -> Self {
        Self {
            resumed: Resumed {
                restarts,
                egress: true,
                ..Resumed::default()
            },
            ready_at: None,
            limits: None,
            isolation: None,
            egress: None,
        }
    }

    fn now(&self) -> Resumed {
        let served = self.ready_at.map_or(Duration::ZERO, |at| at.elapsed());
        Resumed {
            served_ms: u64::try_from(served.as_millis()).unwrap_or(u64::MAX),
            ..self.resumed.clone()
        }
    }
}

struct Conversation {
    doors: Doors,
    reporter: Reporter,
    reports: Reports,
    ending: watch::Sender<Ending>,
    idle: Rc<Idle>,
    egress: watch::Sender<Arc<Policy>>,
    told: Told,
    /// Lines that the last supervisor may not have heard.
    untold: Vec<u8>,
}

impl Conversation {
    async fn run(mut self, first: Link) {
        let mut link = Some(first);
        let mut kept = false;
        while let Some(Link { lines, write }) = link.take() {
            let parted = self.converse(lines, write, &mut kept).await;
            if matches!(parted, Parted::Done) {
                return;
            }
            if kept {
                link = self.doors.next().await;
            }
            if let Some(link) = &mut link
                && self.resume(link).await.is_err()
            {
                debug!("whoever adopted us is gone already");
            }
        }
        self.ending.send_replace(Ending::Now);
        // Nobody listens, but nothing may pile up until the end.
        while let Some(report) = self.reports.next().await {
            if matches!(report, Report::Ending { .. }) {
                return;
            }
        }
    }

    /// Says what an earlier supervisor was told.
    async fn resume(&self, link: &mut Link) -> io::Result<()> {
        let mut line = vec![];
        let mut resumed = self.told.now();
        resumed.session_ids = self.idle.session_ids();
        resumed.ending |= *self.ending.borrow() != Ending::No;
        put(&mut line, &Report::Resumed(resumed));
        let told = [&self.told.limits, &self.told.isolation, &self.told.egress];
        for last in told.into_iter().flatten() {
            put(&mut line, last);
        }
        link.write.write_all(&line).await
    }

    async fn converse(
        &mut self,
        lines: BufReader<OwnedReadHalf>,
        write: OwnedWriteHalf,
        kept: &mut bool,
    ) -> Parted {
        let hear = Hear {
            reporter: &self.reporter,
            ending: &self.ending,
            idle: &self.idle,
            egress: &self.egress,
        };
        tokio::select! {
            () = hear.listen(lines, kept) => Parted::Broken,
            said = tell(write, &mut self.reports, &mut self.told, &mut self.untold) => match said {
                Ok(()) => Parted::Done,
                Err(_) => Parted::Broken,
            },
        }
    }
}

/// Whom commands are for.
struct Hear<'a> {
    reporter: &'a Reporter,
    ending: &'a watch::Sender<Ending>,
    idle: &'a Idle,
    egress: &'a watch::Sender<Arc<Policy>>,
}

impl Hear<'_> {
    /// Passes commands on until the end of the stream.
    async fn listen(&self, mut lines: BufReader<OwnedReadHalf>, kept: &mut bool) {
        while let Ok(Some(command)) = next_line::<Command>(&mut lines).await {
            match command {
                Command::Drain { within } => {
                    self.ending.send_replace(Ending::Drain { within });
                }
                Command::Keep => *kept = true,
                Command::Freeze => self.idle.freeze(),
                Command::Ping => self.reporter.state(Report::Pong),
                Command::Egress { egress } => {
                    self.egress.send_replace(Arc::new(Policy::new(*egress)));
                }
            }
        }
    }
}

async fn next_line<T: serde::de::DeserializeOwned>(
    lines: &mut BufReader<OwnedReadHalf>,
) -> io::Result<Option<T>> {
    let mut line = vec![];
    let length = lines
        .take(MAX_LINE as u64)
        .read_until(b'\n', &mut line)
        .await?;
    if length == 0 {
        return Ok(None);
    }
    Ok(Some(serde_json::from_slice(&line)?))
}

/// Writes reports as lines until the last has been told, many at a time when there are many. Lines that could not be
/// written stay in `untold`.
async fn tell(
    mut write: OwnedWriteHalf,
    reports: &mut Reports,
    told: &mut Told,
    untold: &mut Vec<u8>,
) -> io::Result<()> {
    loop {
        write.write_all(untold).await?;
        untold.clear();
        // Of what comes at one time, the end comes first.
        let next = match reports.try_next() {
            None if told.resumed.ending => return Ok(()),
            None => reports.next().await,
            some => some,
        };
        let Some(report) = next else {
            return Ok(());
        };
        note(told, &report);
        put(untold, &report);
        while untold.len() < MAX_LINE
            && let Some(report) = reports.try_next()
        {
            note(told, &report);
            put(untold, &report);
        }
        let dropped = reports.take_dropped();
        if dropped > 0 {
            put(untold, &Report::LogsDropped { lines: dropped });
        }
    }
}

/// What a later supervisor has to know of a report.
fn note(told: &mut Told, report: &Report) {
    let resumed = &mut told.resumed;
    match report {
        Report::Ready { agent_pid } => {
            resumed.agent_pid = Some(*agent_pid);
            told.ready_at = Some(Instant::now());
        }
        Report::Quiet => resumed.quiet = true,
        Report::Busy => resumed.quiet = false,
        Report::Sessions { any } => resumed.sessions = *any,
        Report::Ending { .. } => resumed.ending = true,
        Report::Limits { .. } => told.limits = Some(report.clone()),
        Report::Isolation { .. } => told.isolation = Some(report.clone()),
        Report::Egress { .. } => told.egress = Some(report.clone()),
        _ => {}
    }
}

fn put(lines: &mut Vec<u8>, report: &Report) {
    serde_json::to_writer(&mut *lines, report).expect("reports are plain JSON");
    lines.push(b'\n');
}
