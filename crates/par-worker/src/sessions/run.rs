//! One run, from its call to its last byte.
//!
//! ```text
//! running ──deadline, caller left, session ended──► interrupted ──two seconds later► killed
//!    │                                                   │                            │
//!    └──────────────── result ◄──────────────────────────┘            gone ◄──────────┘
//! ```

use std::collections::VecDeque;
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use par_model::control::EndCause;
use par_protocol::frame::{Frame, Kind, split_chunk};
use par_protocol::session::Ran;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, Sleep, interval_at, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::interpreter::Interpreter;
use super::outcome::Event;
use super::output::{Cut, Stream};

/// For code that was interrupted to come to its end.
const GRACE: Duration = Duration::from_secs(2);
/// Between two looks at the memory of a run; the kernel's own limit holds for each process meanwhile.
const LOOK: Duration = Duration::from_millis(100);
const PIECE: usize = 32 << 10;
/// Events that may wait for a slow caller before the code has to.
const WAITING: usize = 8;
/// For an interpreter that does not read: what is unread then is no call of ours.
const LONGEST_SILENCE: Duration = Duration::from_secs(5);
/// For one that closed its channel to end.
const LAST_EXIT: Duration = Duration::from_millis(500);
const KILLED: i32 = 9;
/// After an end that was not asked for.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

pub(super) struct Bounds {
    pub(super) time: Duration,
    /// Bytes, of the interpreter and all that it has started.
    pub(super) memory: u64,
    /// Bytes, of each stream.
    pub(super) output: usize,
}

/// Why a run was not left to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    TimedOut(Duration),
    CallerLeft,
    SessionEnded,
    /// Bytes that it may have.
    Memory(u64),
    /// Bytes that its files may have.
    Disk(u64),
}

pub(super) enum End {
    Ran(Box<Ran>),
    /// There is no interpreter any more: how it ended, such as `exited with code 3`.
    Gone(String),
}

pub(super) struct Finished {
    pub(super) end: End,
    pub(super) stop: Option<Stop>,
    pub(super) took: Duration,
    pub(super) stdout_truncated: bool,
    pub(super) stderr_truncated: bool,
    /// Events that the caller has not taken yet.
    pub(super) left: VecDeque<Event>,
}

/// Runs `call`, the body of its frame. Dropping the receiver of `events` stops the run, and so does `ended`.
pub(super) async fn perform(
    interpreter: &mut Interpreter,
    call: Vec<u8>,
    bounds: Bounds,
    events: &mpsc::Sender<Event>,
    ended: &CancellationToken,
) -> Finished {
    let began = Instant::now();
    let mut run = Run {
        stop: None,
        deadline: Box::pin(sleep_until(began + bounds.time)),
        stdout: Written::new(Stream::Stdout, bounds.output),
        stderr: Written::new(Stream::Stderr, bounds.output),
        left: VecDeque::new(),
        bounds,
    };
    let end = run.until_the_end(interpreter, call, events, ended).await;
    run.take_unread(interpreter);
    run.take_rest();
    Finished {
        end,
        stop: run.stop,
        took: began.elapsed(),
        stdout_truncated: run.stdout.cut.is_truncated(),
        stderr_truncated: run.stderr.cut.is_truncated(),
        left: run.left,
    }
}

struct Run {
    bounds: Bounds,
    stop: Option<Stop>,
    /// Of the code; after an interruption, of its grace.
    deadline: Pin<Box<Sleep>>,
    stdout: Written,
    stderr: Written,
    left: VecDeque<Event>,
}

impl Run {
    async fn until_the_end(
        &mut self,
        interpreter: &mut Interpreter,
        call: Vec<u8>,
        events: &mpsc::Sender<Event>,
        ended: &CancellationToken,
    ) -> End {
        if timeout(LONGEST_SILENCE, interpreter.room()).await.is_err() {
            return broken(interpreter, "did not read what it was sent").await;
        }
        let mut exchange = interpreter.begin();
        if exchange.put(Kind::Call, &[&call]).is_err() {
            exchange.finish();
            return End::Ran(Box::new(too_large()));
        }
        drop(call);
        let mut looks = interval_at(Instant::now() + LOOK, LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut closed = pin!(events.closed());
        loop {
            let reads = self.left.len() < WAITING;
            tokio::select! {
                frame = exchange.next() => match frame {
                    Ok(frame) if frame.kind == Kind::Chunk => {
                        exchange.used(frame.body.len());
                        self.progress(frame, interpreter);
                    }
                    Ok(frame) if frame.kind == Kind::Result => {
                        exchange.finish();
                        return result(&frame.body, interpreter).await;
                    }
                    Ok(_) => return broken(interpreter, "spoke out of turn").await,
                    Err(_gone) => return self.gone(interpreter).await,
                },
                piece = self.stdout.read(&mut interpreter.stdout), if reads && self.stdout.open => {
                    self.left.extend(piece);
                }
                piece = self.stderr.read(&mut interpreter.stderr), if reads && self.stderr.open => {
                    self.left.extend(piece);
                }
                place = events.reserve(), if !self.left.is_empty() => match (place, self.left.pop_front()) {
                    (Ok(place), Some(event)) => place.send(event),
                    _ => self.left.clear(), // nobody listens
                },
                () = &mut self.deadline => self.escalate(Stop::TimedOut(self.bounds.time), interpreter),
                () = &mut closed, if self.stop.is_none() => self.escalate(Stop::CallerLeft, interpreter),
                () = ended.cancelled(), if self.stop.is_none() => self.escalate(Stop::SessionEnded, interpreter),
                _ = looks.tick() => self.look(interpreter),
            }
        }
    }

    /// A channel is seen to close before its process is seen to end; one that goes on without it is ended.
    async fn gone(&mut self, interpreter: &mut Interpreter) -> End {
        // The kernel takes its time to take back what a killed process had.
        let patience = if interpreter.ran_out_of_memory() {
            LAST_EXIT * 20
        } else {
            LAST_EXIT
        };
        let Ok(cause) = timeout(patience, interpreter.exited()).await else {
            return broken(interpreter, "broke off its channel and went on").await;
        };
        if matches!(cause, EndCause::Signal { signal: KILLED, .. })
            && interpreter.ran_out_of_memory()
        {
            self.stop.get_or_insert(Stop::Memory(self.bounds.memory));
        }
        End::Gone(cause.to_string())
    }

    fn progress(&mut self, frame: Frame, interpreter: &Interpreter) {
        // What the code wrote before comes before.
        self.take_unread(interpreter);
        // A caller that does not take its events misses progress, and nothing else.
        if self.left.len() < WAITING
            && let Ok((_flags, words)) = split_chunk(frame.body)
        {
            self.left.push_back(Event::Progress(words));
        }
    }

    /// First asks, then does not ask any more. The first reason stays.
    fn escalate(&mut self, why: Stop, interpreter: &Interpreter) {
        if self.stop.is_none() {
            self.stop = Some(why);
            interpreter.interrupt();
            self.deadline.as_mut().reset(Instant::now() + GRACE);
        } else {
            self.kill(interpreter);
        }
    }

    fn kill(&mut self, interpreter: &Interpreter) {
        interpreter.kill();
        self.deadline.as_mut().reset(Instant::now() + LONG);
    }

    fn look(&mut self, interpreter: &mut Interpreter) {
        if let Some(most) = interpreter.disk.look() {
            self.stop.get_or_insert(Stop::Disk(most));
            self.kill(interpreter);
        }
        if interpreter.has_more_than(self.bounds.memory) {
            self.stop.get_or_insert(Stop::Memory(self.bounds.memory));
            self.kill(interpreter);
        }
    }

    fn take_unread(&mut self, interpreter: &Interpreter) {
        let [stdout, stderr] = interpreter.unread();
        self.left.extend(self.stdout.let_through(&stdout));
        self.left.extend(self.stderr.let_through(&stderr));
    }

    fn take_rest(&mut self) {
        for written in [&mut self.stdout, &mut self.stderr] {
            let rest = written.cut.finish();
            if !rest.is_empty() {
                self.left.push_back(Event::Output(written.stream, rest));
            }
        }
    }
}

/// One of the two pipes.
struct Written {
    stream: Stream,
    cut: Cut,
    buffer: BytesMut,
    open: bool,
}

impl Written {
    fn new(stream: Stream, most: usize) -> Self {
        Self {
            stream,
            cut: Cut::after(most),
            buffer: BytesMut::new(),
            open: true,
        }
    }

    /// What was written next, if any of it is let through. Nothing is lost when this is dropped early.
    async fn read(&mut self, pipe: &mut (impl AsyncRead + Unpin)) -> Option<Event> {
        self.buffer.clear();
        self.buffer.reserve(PIECE);
        match pipe.read_buf(&mut self.buffer).await {
            Ok(1..) => {}
            Ok(0) | Err(_) => self.open = false,
        }
        let piece = std::mem::take(&mut self.buffer);
        let event = self.let_through(&piece);
        self.buffer = piece;
        event
    }

    fn let_through(&mut self, piece: &[u8]) -> Option<Event> {
        let piece: Bytes = self.cut.take(piece);
        (!piece.is_empty()).then_some(Event::Output(self.stream, piece))
    }
}

async fn result(body: &[u8], interpreter: &mut Interpreter) -> End {
    match rmp_serde::from_slice::<Ran>(body) {
        Ok(ran) => End::Ran(Box::new(ran)),
        Err(_) => broken(interpreter, "answered what is not understood").await,
    }
}

/// One that does not keep to the protocol is nobody's interpreter any more.
async fn broken(interpreter: &mut Interpreter, how: &str) -> End {
    interpreter.kill();
    interpreter.exited().await;
    End::Gone(how.to_owned())
}

fn too_large() -> Ran {
    Ran {
        error: "code, context and files are larger than 64 MiB together".to_owned(),
        kind: "input".to_owned(),
        ..Ran::default()
    }
}
