//! What the clerk of the ledger knows of one replica since it was last started by hand.

use std::time::{Duration, Instant};

use par_lifecycle::{Deployment, Idle, ReplicaStatus, Settings};
use par_model::control::EndCause;
use par_model::{ProcessState, RestartMode};

use crate::stage::SECOND;
use crate::world::Process;

#[derive(Clone, Debug)]
pub(crate) struct Page {
    deployment: Deployment,
    served: bool,
    /// Its callers know it, though it was started by hand since it served.
    known: bool,
    restarts: u32,
    /// Restarts since the last stable time of serving.
    unstable: u32,
    recent: Vec<Instant>,
    wish: Option<Wish>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Rest,
    Sleep,
    Wake,
    Start,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    ByHand,
    Asleep,
    ByItself(Verdict, EndCause),
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Failed,
    Stopped,
    Crashed,
    RestartAt(Instant),
}

impl Page {
    pub(crate) fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            served: false,
            known: false,
            restarts: 0,
            unstable: 0,
            recent: vec![],
            wish: None,
            end: None,
        }
    }

    /// Started by hand.
    pub(crate) fn fresh(&self) -> Self {
        Self::new(self.deployment)
    }

    /// Restarted by hand.
    pub(crate) fn fresh_again(&self) -> Self {
        Self {
            known: self.end == Some(End::Asleep) || self.restart_at().is_some(),
            ..self.fresh()
        }
    }

    pub(crate) fn restart(&mut self) {
        self.wish(Wish::Start);
    }

    /// It is on its way, and somebody may wait for it.
    pub(crate) fn is_awaited(&self, process: Option<&Process>) -> bool {
        let comes = match process {
            Some(process) if process.is_told_to_end() => {
                matches!(self.wish, Some(Wish::Start | Wish::Wake))
            }
            Some(process) => process.ready_since.is_none(),
            None => false,
        };
        comes && (self.served || self.known)
    }

    pub(crate) fn at_rest(&self) -> Self {
        Self {
            end: Some(End::ByHand),
            ..self.clone()
        }
    }

    pub(crate) fn asleep(&self) -> Self {
        Self {
            served: true,
            end: Some(End::Asleep),
            ..self.clone()
        }
    }

    pub(crate) fn proven(&self) -> Self {
        Self {
            served: true,
            ..self.clone()
        }
    }

    pub(crate) fn served(&mut self) {
        self.served = true;
    }

    fn wish(&mut self, wish: Wish) {
        self.wish = Some(wish);
    }

    pub(crate) fn is_asleep(&self) -> bool {
        self.end == Some(End::Asleep) || self.wish == Some(Wish::Sleep)
    }

    pub(crate) fn restart_at(&self) -> Option<Instant> {
        match self.end {
            Some(End::ByItself(Verdict::RestartAt(at), _)) => Some(at),
            _ => None,
        }
    }

    pub(crate) fn wake(&mut self) {
        if self.end == Some(End::Asleep) {
            self.end = None;
        }
        if self.wish == Some(Wish::Sleep) {
            self.wish = Some(Wish::Wake);
        }
    }

    pub(crate) fn stop(&mut self, lives: bool) {
        if lives {
            self.wish(Wish::Rest);
        } else if self.restart_at().is_some() || self.is_asleep() {
            self.end = Some(End::ByHand);
        }
    }

    pub(crate) fn put_to_sleep(&mut self, process: &Process, now: Instant, stable_after: Duration) {
        let patience = self.deployment.stop_when_frozen_for;
        let frozen = process.frozen_since.map(|since| now - since);
        assert!(frozen >= patience && patience.is_some(), "{self:?}");
        assert!(!process.sessions, "{process:?}");
        self.forget_failures_if_stable(process, now, stable_after);
        self.wish(Wish::Sleep);
    }

    fn forget_failures_if_stable(
        &mut self,
        process: &Process,
        now: Instant,
        stable_after: Duration,
    ) {
        let served = process.ready_since.map(|since| now - since);
        if served.is_some_and(|served| served >= stable_after) {
            self.unstable = 0;
        }
    }

    pub(crate) fn restarted(&mut self, now: Instant) {
        assert!(self.restart_at().is_none_or(|at| at <= now), "{self:?}");
        self.restarts += 1;
        self.unstable += 1;
        self.recent.push(now);
        self.end = None;
        let policy = self.deployment.restart;
        assert!(self.unstable <= policy.max_restarts, "{self:?}");
        let recent = self.recent.iter().filter(|at| now - **at < policy.period);
        assert!(recent.count() <= policy.most_in_period as usize, "{self:?}");
    }

    pub(crate) fn ended(
        &mut self,
        process: &Process,
        cause: &EndCause,
        now: Instant,
        spawned: bool,
        settings: &Settings,
    ) {
        match self.wish.take() {
            Some(Wish::Rest) => self.end = Some(End::ByHand),
            Some(Wish::Sleep) => self.end = Some(End::Asleep),
            Some(Wish::Wake) => {}
            Some(Wish::Start) => {
                let known = self.served || self.known;
                *self = Self {
                    known,
                    ..self.fresh()
                };
            }
            None => {
                let cause = real_cause(process, cause, settings, &self.deployment);
                self.ended_by_itself(process, cause, now, spawned, settings);
            }
        }
    }

    fn ended_by_itself(
        &mut self,
        process: &Process,
        cause: EndCause,
        now: Instant,
        spawned: bool,
        settings: &Settings,
    ) {
        if !process.is_told_to_end() {
            self.forget_failures_if_stable(process, now, settings.stable_after);
        }
        let taken = matches!(cause, EndCause::PortTaken { .. });
        if taken && spawned {
            return;
        }
        let verdict = match taken {
            true => Verdict::Failed,
            false => self.verdict(&cause, now),
        };
        assert_eq!(verdict == Verdict::RestartAt(now), spawned, "{self:?}");
        self.end = Some(End::ByItself(verdict, cause));
        if spawned {
            self.restarted(now);
        }
    }

    fn verdict(&self, cause: &EndCause, now: Instant) -> Verdict {
        let policy = &self.deployment.restart;
        let recent = self.recent.iter().filter(|at| now - **at < policy.period);
        let often = self.unstable >= policy.max_restarts
            || recent.count() >= policy.most_in_period as usize;
        let finished = *cause == EndCause::Exit { code: 0 };
        match policy.mode {
            _ if !self.served => Verdict::Failed,
            RestartMode::Never | RestartMode::OnFailure if finished => Verdict::Stopped,
            RestartMode::Never => Verdict::Crashed,
            _ if often => Verdict::Crashed,
            _ => Verdict::RestartAt(now + policy.wait(self.unstable)),
        }
    }

    pub(crate) fn compare(&self, seen: &ReplicaStatus, process: Option<&Process>) {
        assert!(
            process.is_none() || self.end.is_none(),
            "{self:?}, {process:?}"
        );
        let (state, error) = match (process, &self.end) {
            (Some(process), _) if process.is_told_to_end() => (ProcessState::Stopping, None),
            (Some(process), _) if process.serves() => (ProcessState::Running, None),
            (Some(_), _) => (ProcessState::Starting, None),
            (None, Some(End::ByItself(verdict, cause))) => match verdict {
                Verdict::Failed => (ProcessState::Failed, Some(cause)),
                Verdict::Stopped => (ProcessState::Stopped, None),
                Verdict::Crashed | Verdict::RestartAt(_) => (ProcessState::Crashed, Some(cause)),
            },
            (None, _) => (ProcessState::Stopped, None),
        };
        assert_eq!(seen.state, state, "{self:?}, {seen:?}, {process:?}");
        assert_eq!(seen.restart_count, self.restarts, "{self:?}");
        assert_eq!(
            seen.restart_at,
            self.restart_at().filter(|_| process.is_none())
        );
        if let Some(error) = error {
            assert_eq!(seen.error.as_ref(), Some(error));
        }
        let serving = process.filter(|it| it.serves());
        assert_eq!(seen.ready_since, serving.and_then(|it| it.ready_since));
        assert_eq!(seen.idle, self.idle(process), "{self:?}, {process:?}");
    }

    fn idle(&self, process: Option<&Process>) -> Option<Idle> {
        match process {
            Some(process) if process.serves() => process.frozen_since.map(|_| Idle::Frozen),
            None if self.end == Some(End::Asleep) => Some(Idle::Stopped),
            _ => None,
        }
    }
}

/// Whoever was told to end though nobody had asked for it did not come up in time, or was silent.
fn real_cause(
    process: &Process,
    cause: &EndCause,
    settings: &Settings,
    deployment: &Deployment,
) -> EndCause {
    if process.silent {
        EndCause::Silent { after: SECOND }
    } else if process.is_told_to_end() {
        EndCause::StartTimedOut {
            after: match process.loading {
                true => deployment.start_timeout.unwrap_or(settings.start_timeout),
                false => settings.prepare_timeout,
            },
        }
    } else {
        cause.clone()
    }
}
