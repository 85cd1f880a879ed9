//! `par worker`: a supervisor at the other end of standard input says what to be, hears how it goes, and may ask for
//! the end. When it is gone, so are we.

use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;

use par_model::control::{Command, MAX_LINE, Report, WorkerSpec};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::runtime::LocalOptions;
use tokio::sync::watch;
use tokio::time::{Duration, timeout};
use tracing::debug;

use crate::ending::Ending;
use crate::life;
use crate::reports::{self, Reports};

/// How long the last words may take to be read.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves one agent until it ends or is asked to.
pub fn run() -> io::Result<()> {
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
    let (read, write) = UnixStream::from_std(control)?.into_split();
    let mut lines = BufReader::new(read);
    let Some(spec) = next_line::<WorkerSpec>(&mut lines).await? else {
        return Ok(());
    };
    let (reporter, reports) = reports::channel();
    let (ending_in, ending) = watch::channel(Ending::No);
    let told = tokio::task::spawn_local(tell(write, reports));
    let listening = tokio::task::spawn_local(listen(lines, ending_in));
    let cause = life::live(spec, reporter.clone(), ending).await;
    reporter.state(Report::Ending { cause });
    drop(reporter);
    listening.abort();
    if timeout(LAST_WORDS, told).await.is_err() {
        debug!("the supervisor did not read our last words");
    }
    Ok(())
}

/// Passes commands on; the end of the stream is one too.
async fn listen(mut lines: BufReader<OwnedReadHalf>, ending: watch::Sender<Ending>) {
    loop {
        match next_line::<Command>(&mut lines).await {
            Ok(Some(Command::Drain { within })) => ending.send_replace(Ending::Drain { within }),
            Ok(None) | Err(_) => {
                ending.send_replace(Ending::Now);
                return;
            }
        };
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

/// Writes reports as lines until there are no more, many at a time when there are many.
async fn tell(mut write: OwnedWriteHalf, mut reports: Reports) {
    let mut lines = vec![];
    while let Some(report) = reports.next().await {
        put(&mut lines, &report);
        while lines.len() < MAX_LINE
            && let Some(report) = reports.try_next()
        {
            put(&mut lines, &report);
        }
        let dropped = reports.take_dropped();
        if dropped > 0 {
            put(&mut lines, &Report::LogsDropped { lines: dropped });
        }
        if write.write_all(&lines).await.is_err() {
            return; // The supervisor is gone; `listen` sees it too.
        }
        lines.clear();
    }
}

fn put(lines: &mut Vec<u8>, report: &Report) {
    serde_json::to_writer(&mut *lines, report).expect("reports are plain JSON");
    lines.push(b'\n');
}
