//! Whether anybody calls the agent, and the freezing of one that nobody calls.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use par_model::SessionId;
use par_model::control::Report;
use par_model::log::Level;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::agent::liveness::Pulse;
use crate::limits::Guard;
use crate::reports::Reporter;

/// Holds the agent's processes still, and lets them go on.
pub(crate) trait Freezer {
    fn freeze(&self) -> io::Result<()>;
    fn thaw(&self) -> io::Result<()>;
}

/// All processes of the agent, which is not probed meanwhile.
pub(crate) struct Ice {
    pub(crate) guard: Rc<Guard>,
    pub(crate) pulse: Rc<Pulse>,
}

impl Freezer for Ice {
    fn freeze(&self) -> io::Result<()> {
        self.pulse.pause();
        self.guard
            .agent
            .freeze()
            .inspect_err(|_| self.pulse.resume())
    }

    fn thaw(&self) -> io::Result<()> {
        self.pulse.resume();
        self.guard.agent.thaw()
    }
}

pub(crate) struct Idle {
    timeout: Option<Duration>,
    reporter: Reporter,
    /// Calls, streams and runs of sessions, those that wait included.
    active: Cell<usize>,
    /// Execution sessions: they are state that people come back for.
    /// By id: one that ends may have its name again meanwhile.
    sessions: RefCell<BTreeMap<SessionId, usize>>,
    /// It was said that nobody calls.
    quiet: Cell<bool>,
    frozen: Cell<bool>,
    freezer: RefCell<Option<Box<dyn Freezer>>>,
    changed: Notify,
}

/// Somebody calls the agent, until this is dropped.
pub(crate) struct Active(Rc<Idle>);

/// There is a session, until this is dropped.
pub(crate) struct Held {
    idle: Rc<Idle>,
    id: SessionId,
}

impl Idle {
    pub(crate) fn new(timeout: Option<Duration>, reporter: Reporter) -> Rc<Self> {
        Rc::new(Self {
            timeout,
            reporter,
            active: Cell::new(0),
            sessions: RefCell::default(),
            quiet: Cell::new(false),
            frozen: Cell::new(false),
            freezer: RefCell::default(),
            changed: Notify::new(),
        })
    }

    /// How the agent is frozen from now on; it is not frozen now. Before there is a way, and once there is none any more,
    /// nothing is said: who hears of an agent that is quiet before it serves could do nothing about it.
    pub(crate) fn freeze_by(&self, freezer: Option<Box<dyn Freezer>>) {
        self.thaw();
        self.freezer.replace(freezer);
        self.changed.notify_one();
    }

    /// To be held for as long as a call lasts, from before anything is asked of the agent.
    pub(crate) fn begin(self: &Rc<Self>) -> Active {
        self.active.set(self.active.get() + 1);
        self.thaw();
        if self.quiet.take() {
            self.reporter.state(Report::Busy);
        }
        Active(Rc::clone(self))
    }

    pub(crate) fn begin_session(self: &Rc<Self>, id: SessionId) -> Held {
        let mut sessions = self.sessions.borrow_mut();
        if sessions.is_empty() {
            self.reporter.state(Report::Sessions { any: true });
        }
        *sessions.entry(id.clone()).or_default() += 1;
        let idle = Rc::clone(self);
        Held { idle, id }
    }

    pub(crate) fn session_ids(&self) -> Vec<SessionId> {
        self.sessions.borrow().keys().cloned().collect()
    }

    /// Unless somebody calls meanwhile.
    pub(crate) fn freeze(&self) {
        if !self.quiet.get() || self.frozen.get() || !self.is_silent() {
            return;
        }
        let freezer = self.freezer.borrow();
        let Some(freezer) = freezer.as_deref() else {
            return;
        };
        match freezer.freeze() {
            Ok(()) => self.frozen.set(true),
            Err(error) => self.say(format!("it could not be frozen: {error}")),
        }
    }

    /// For who needs the agent to move, call or not.
    pub(crate) fn thaw(&self) {
        if !self.frozen.get() {
            return;
        }
        let thawed = self
            .freezer
            .borrow()
            .as_deref()
            .map_or(Ok(()), Freezer::thaw);
        match thawed {
            Ok(()) => self.frozen.set(false),
            // The next call tries again.
            Err(error) => self.say(format!("it could not be thawed: {error}")),
        }
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.frozen.get()
    }

    fn say(&self, message: String) {
        self.reporter.say(Level::Error, message);
    }

    /// Says when nobody has called for the idle timeout. Never ends.
    pub(crate) async fn watch(self: Rc<Self>) {
        let Some(timeout) = self.timeout else {
            return std::future::pending().await;
        };
        loop {
            if !self.is_silent() || self.quiet.get() {
                self.changed.notified().await;
                continue;
            }
            tokio::select! {
                () = self.changed.notified() => {}
                // A call that has begun meanwhile told nobody.
                () = sleep(timeout) => if self.is_silent() {
                    self.quiet.set(true);
                    self.reporter.state(Report::Quiet);
                }
            }
        }
    }

    fn is_silent(&self) -> bool {
        self.active.get() == 0
            && self.sessions.borrow().is_empty()
            && self.freezer.borrow().is_some()
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get() - 1);
        if self.0.active.get() == 0 {
            self.0.changed.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut sessions = self.idle.sessions.borrow_mut();
        if let Some(count) = sessions.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                sessions.remove(&self.id);
            }
        }
        if sessions.is_empty() {
            self.idle.reporter.state(Report::Sessions { any: false });
            self.idle.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::{self, Reports};

    struct Switch(Rc<Cell<bool>>);

    impl Freezer for Switch {
        fn freeze(&self) -> io::Result<()> {
            self.0.set(true);
            Ok(())
        }

        fn thaw(&self) -> io::Result<()> {
            self.0.set(false);
            Ok(())
        }
    }

    fn idle() -> (Rc<Idle>, Reports, Rc<Cell<bool>>) {
        let (reporter, reports) = reports::channel();
        let idle = Idle::new(Some(Duration::from_secs(9)), reporter);
        let ice = Rc::new(Cell::new(false));
        idle.freeze_by(Some(Box::new(Switch(Rc::clone(&ice)))));
        (idle, reports, ice)
    }

    async fn pass(idle: &Rc<Idle>, time: Duration) {
        let _never_ends = tokio::time::timeout(time, Rc::clone(idle).watch()).await;
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_nobody_calls_is_frozen_and_the_next_call_finds_it_thawed() {
        let (idle, mut reports, ice) = idle();
        let call = idle.begin();
        pass(&idle, Duration::from_secs(60)).await;
        assert!(reports.try_next().is_none(), "a call is under way");
        drop(call);
        pass(&idle, Duration::from_secs(10)).await;
        assert!(matches!(reports.try_next(), Some(Report::Quiet)));
        idle.freeze();
        assert!(ice.get());

        let _call = idle.begin();
        assert!(!ice.get());
        assert!(matches!(reports.try_next(), Some(Report::Busy)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_in_which_an_agent_is_loaded_does_not_count() {
        let (idle, mut reports, ice) = idle();
        idle.freeze_by(None);
        let watching = tokio::task::LocalSet::new();
        watching.spawn_local(Rc::clone(&idle).watch());
        let loaded = sleep(Duration::from_secs(60));
        watching.run_until(loaded).await;
        assert!(reports.try_next().is_none(), "it does not serve yet");
        idle.freeze_by(Some(Box::new(Switch(Rc::clone(&ice)))));
        watching.run_until(sleep(Duration::from_secs(8))).await;
        assert!(reports.try_next().is_none(), "it has just begun to serve");
        watching.run_until(sleep(Duration::from_secs(2))).await;
        assert!(matches!(reports.try_next(), Some(Report::Quiet)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_lasts_longer_than_the_silence_before_it_is_not_frozen() {
        let (idle, mut reports, ice) = idle();
        let watching = tokio::task::LocalSet::new();
        watching.spawn_local(Rc::clone(&idle).watch());
        watching.run_until(sleep(Duration::from_secs(5))).await;
        let call = idle.begin();
        watching.run_until(sleep(Duration::from_secs(60))).await;
        assert!(reports.try_next().is_none(), "a call is under way");
        idle.freeze();
        assert!(!ice.get());
        drop(call);
        watching.run_until(sleep(Duration::from_secs(10))).await;
        assert!(matches!(reports.try_next(), Some(Report::Quiet)));
    }

    #[tokio::test(start_paused = true)]
    async fn an_order_to_freeze_that_comes_after_a_call_freezes_nothing() {
        let (idle, _reports, ice) = idle();
        pass(&idle, Duration::from_secs(10)).await;
        let call = idle.begin();
        idle.freeze();
        assert!(!ice.get());
        drop(call);
        idle.freeze();
        assert!(!ice.get(), "it has not been quiet since");
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_with_a_session_is_never_quiet() {
        let (idle, mut reports, _ice) = idle();
        let id = |name: &str| name.parse().expect("a valid id");
        let session = idle.begin_session(id("one"));
        let second = idle.begin_session(id("two"));
        pass(&idle, Duration::from_secs(60)).await;
        assert!(matches!(
            reports.try_next(),
            Some(Report::Sessions { any: true })
        ));
        assert!(reports.try_next().is_none());
        drop((session, second));
        assert!(matches!(
            reports.try_next(),
            Some(Report::Sessions { any: false })
        ));
        pass(&idle, Duration::from_secs(10)).await;
        assert!(matches!(reports.try_next(), Some(Report::Quiet)));
    }
}
