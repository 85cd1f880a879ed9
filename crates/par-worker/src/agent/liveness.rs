//! Whether the agent still answers. One that does not has ended for its callers, whatever its process does.
//!
//! ```text
//! wait an interval ──▶ ping ──▶ pong ──▶ its own path, if one is named ──▶ wait …
//!                       └── no pong within the deadline: it hangs ◀── no 2xx for as long
//! ```

use std::cell::Cell;
use std::time::Duration;

use par_model::control::{EndCause, Liveness};
use par_protocol::frame::{Frame, Kind};
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use super::channel::Channel;

/// A deadline passes in so many steps, and each counts as long as it was meant to be: when the worker itself stands still,
/// with its machine or because somebody stopped it, the agent is not blamed for more than one of them.
const STEPS: u32 = 8;
/// For a pong that came while we were held up.
const GRACE: Duration = Duration::from_millis(100);

#[derive(Default)]
pub(crate) struct Pulse {
    last_ping: Cell<u64>,
    last_pong: Cell<u64>,
    heard: Notify,
    paused: Cell<bool>,
    resumed: Notify,
}

/// Asked of the agent's own path: what was wrong with the answer, if anything was.
pub(crate) type Wrong = Option<String>;

impl Pulse {
    pub(crate) fn hear(&self, pong: &Frame) {
        let serial = pong
            .body
            .first_chunk()
            .map(|bytes| u64::from_be_bytes(*bytes));
        // Whatever else it says answers nothing that was asked.
        if let Some(serial) = serial.filter(|serial| *serial <= self.last_ping.get()) {
            self.last_pong.set(self.last_pong.get().max(serial));
            self.heard.notify_waiters();
        }
    }

    /// From now on the agent cannot answer, and need not.
    pub(crate) fn pause(&self) {
        self.paused.set(true);
    }

    pub(crate) fn resume(&self) {
        self.paused.set(false);
        self.resumed.notify_waiters();
    }

    /// Ends when the agent hangs; `ask` asks its own path.
    pub(crate) async fn until_it_hangs(
        &self,
        channel: &Channel,
        settings: &Liveness,
        ask: impl AsyncFn() -> Wrong,
    ) -> EndCause {
        if !settings.is_on() {
            return std::future::pending().await;
        }
        let (interval, deadline) = (settings.interval, settings.deadline);
        let mut wrong_for = Duration::ZERO;
        loop {
            sleep(interval).await;
            if !self.is_answered(channel, deadline).await {
                return EndCause::Hung {
                    after: deadline,
                    said: None,
                };
            }
            let said = timeout(deadline, ask()).await.map_err(|_elapsed| ());
            wrong_for = match said {
                Ok(None) => Duration::ZERO,
                Ok(Some(_)) => wrong_for + interval,
                Err(()) => deadline,
            };
            if wrong_for >= deadline && !self.paused.get() {
                let silent = || {
                    settings
                        .path
                        .as_ref()
                        .map(|path| format!("`{path}` gave no answer"))
                };
                return EndCause::Hung {
                    after: deadline,
                    said: said.unwrap_or_else(|()| silent()),
                };
            }
        }
    }

    async fn is_answered(&self, channel: &Channel, deadline: Duration) -> bool {
        let serial = self.last_ping.get() + 1;
        self.last_ping.set(serial);
        self.while_paused().await;
        channel
            .put(0, Kind::Ping, &[&serial.to_be_bytes()])
            .expect("a few bytes are never too large");
        let mut step = 0;
        while step < STEPS {
            if self.pong(serial, deadline / STEPS).await {
                return true;
            }
            step += 1;
            if self.paused.get() {
                self.while_paused().await;
                step = 0;
            }
        }
        self.pong(serial, GRACE).await
    }

    async fn pong(&self, serial: u64, within: Duration) -> bool {
        let heard = async {
            while self.last_pong.get() < serial {
                self.heard.notified().await;
            }
        };
        timeout(within, heard).await.is_ok()
    }

    async fn while_paused(&self) {
        while self.paused.get() {
            self.resumed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use par_protocol::frame::FrameCodec;
    use tokio::net::UnixStream;
    use tokio::sync::mpsc;
    use tokio::task::LocalSet;
    use tokio::time::Instant;

    use super::super::channel;
    use super::*;

    fn settings() -> Liveness {
        Liveness {
            interval: Duration::from_secs(10),
            deadline: Duration::from_secs(30),
            path: Some("/live".to_owned()),
        }
    }

    /// The channel to an agent that says nothing, and its other end.
    fn silent() -> (Rc<Channel>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        let (unasked, _) = mpsc::channel(1);
        let (channel, _pump) = channel::open(ours, FrameCodec::default(), unasked);
        (channel, theirs)
    }

    async fn on_one_thread<T>(story: impl Future<Output = T>) -> T {
        LocalSet::new().run_until(story).await
    }

    fn pong(serial: u64) -> Frame {
        Frame {
            id: 0,
            kind: Kind::Pong,
            body: serial.to_be_bytes().to_vec().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_never_answers_hangs_after_the_deadline() {
        on_one_thread(async {
            let (channel, _agent) = silent();
            let (pulse, began, settings) = (Pulse::default(), Instant::now(), settings());
            pulse.hear(&pong(99));
            let cause = pulse.until_it_hangs(&channel, &settings, async || None);
            let cause = cause.await.to_string();
            assert_eq!(cause, "did not answer a liveness probe within 30s");
            let took = began.elapsed().as_secs();
            assert!((40..=41).contains(&took), "{took}");
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_answers_late_or_is_frozen_meanwhile_does_not_hang() {
        on_one_thread(async {
            let (channel, _agent) = silent();
            let (pulse, settings) = (Pulse::default(), settings());
            let answering = async {
                for serial in 1..5 {
                    sleep(Duration::from_secs(39)).await;
                    pulse.hear(&pong(serial));
                }
                // Within the fifth probe, for a day.
                sleep(Duration::from_secs(15)).await;
                pulse.pause();
                sleep(Duration::from_secs(86_400)).await;
                pulse.resume();
                sleep(Duration::from_secs(29)).await;
            };
            let hangs = pulse.until_it_hangs(&channel, &settings, async || None);
            tokio::select! {
                cause = hangs => panic!("{cause}"),
                () = answering => {}
            }
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_path_that_is_wrong_for_as_long_as_the_deadline_counts_as_hung() {
        on_one_thread(async {
            let (channel, _agent) = silent();
            let pulse = Pulse::default();
            let asked = Cell::new(0);
            let ask = async || {
                asked.set(asked.get() + 1);
                // The third answer is right.
                (asked.get() != 3).then(|| "`/live` answered 503".to_owned())
            };
            let answering = async {
                loop {
                    sleep(Duration::from_secs(1)).await;
                    pulse.hear(&pong(pulse.last_ping.get()));
                }
            };
            let settings = settings();
            let cause = tokio::select! {
                cause = pulse.until_it_hangs(&channel, &settings, ask) => cause,
                () = answering => unreachable!("it never ends"),
            };
            assert_eq!(cause.to_string(), "`/live` answered 503 for 30s");
            assert_eq!(asked.get(), 6);
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_is_switched_off_never_blames_anybody() {
        on_one_thread(async {
            let (channel, _agent) = silent();
            let off = Liveness {
                interval: Duration::ZERO,
                ..settings()
            };
            let pulse = Pulse::default();
            let hangs = pulse.until_it_hangs(&channel, &off, async || None);
            assert!(timeout(Duration::from_secs(1 << 20), hangs).await.is_err());
        })
        .await;
    }
}
