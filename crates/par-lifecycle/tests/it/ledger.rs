//! A second, dumber model: a clerk who sees what goes in and which processes live, and knows the rules of
//! CONTRACT by heart, but nothing of deadlines, routes, ports or the states of the machine.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use par_lifecycle::{Action, Command, Deployment, Event, Settings};
use par_model::control::EndCause;
use par_model::{AgentId, ProcessState, RestartMode};

use crate::world::{Input, Moment, Process, World};

#[derive(Debug)]
pub(crate) struct Ledger {
    settings: Settings,
    pub(crate) pages: BTreeMap<AgentId, Page>,
}

/// Everything since the last start by hand.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) deployment: Deployment,
    served: bool,
    pub(crate) restarts: u32,
    /// Restarts since the last stable time of serving.
    pub(crate) unstable: u32,
    wish: Option<Wish>,
    end: Option<End>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wish {
    Rest,
    Start,
    Forget,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    ByHand,
    ByItself(EndCause, Instant),
}

#[derive(Debug, PartialEq)]
pub(crate) struct Expectation {
    pub(crate) state: ProcessState,
    pub(crate) restarts: u32,
    pub(crate) restart_at: Option<Instant>,
    /// `None`: the clerk does not care.
    pub(crate) error: Option<EndCause>,
}

impl Page {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            served: false,
            restarts: 0,
            unstable: 0,
            wish: None,
            end: None,
        }
    }

    fn wish(&mut self, wish: Wish) {
        if self.wish != Some(Wish::Forget) {
            self.wish = Some(wish);
        }
    }

    fn restarted(&mut self) {
        self.restarts += 1;
        self.unstable += 1;
        self.end = None;
    }

    pub(crate) fn expects(&self, process: Option<&Process>) -> Expectation {
        let (state, restart_at, error) = match (process, &self.end) {
            (Some(process), _) if process.told_to_end => (ProcessState::Stopping, None, None),
            (Some(process), _) if process.ready_since.is_some() => {
                (ProcessState::Running, None, None)
            }
            (Some(_), _) => (ProcessState::Starting, None, None),
            (None, Some(End::ByItself(cause, at))) => {
                let (state, restart_in) = self.at_rest(cause);
                let error = (state != ProcessState::Stopped).then(|| cause.clone());
                (state, restart_in.map(|wait| *at + wait), error)
            }
            (None, _) => (ProcessState::Stopped, None, None),
        };
        Expectation {
            state,
            restarts: self.restarts,
            restart_at,
            error,
        }
    }

    fn at_rest(&self, cause: &EndCause) -> (ProcessState, Option<Duration>) {
        let policy = &self.deployment.restart;
        let restarts = policy.mode != RestartMode::Never && self.unstable < policy.max_restarts;
        match cause {
            _ if !self.served => (ProcessState::Failed, None),
            EndCause::PortTaken { .. } => (ProcessState::Failed, None),
            EndCause::Exit { code: 0 } if policy.mode != RestartMode::Always => {
                (ProcessState::Stopped, None)
            }
            _ => {
                let wait = policy.wait(self.unstable);
                (ProcessState::Crashed, restarts.then_some(wait))
            }
        }
    }
}

impl Ledger {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            pages: BTreeMap::new(),
        }
    }

    /// To be called after every moment.
    pub(crate) fn note(&mut self, moment: &Moment, world: &World) {
        let Ok(actions) = &moment.outcome else {
            return;
        };
        match &moment.input {
            Input::Command(command) => self.note_command(command, world, actions),
            Input::Event(Event::Ready(replica)) => {
                let answering = world.living.get(replica);
                if let Some(process) = answering.filter(|it| it.ready_since.is_some()) {
                    self.page(&process.agent).served = true;
                }
            }
            Input::Event(Event::Exited(_, cause)) => {
                if let Some(process) = &moment.ended {
                    self.note_end(process, cause, world.now, has_spawn(actions));
                }
            }
            Input::Event(Event::Tick) => {
                for action in actions {
                    if let Action::Spawn { agent, .. } = action {
                        self.page(agent).restarted();
                    }
                }
            }
            Input::Event(_) => {}
        }
    }

    fn note_command(&mut self, command: &Command, world: &World, actions: &[Action]) {
        match command {
            Command::Deploy(agent, deployment) => {
                self.pages.insert(agent.clone(), Page::new(*deployment));
            }
            Command::Start(agent) => *self.page(agent) = Page::new(self.page(agent).deployment),
            Command::Restart(agent, replacement) => {
                let page = self.page(agent);
                page.deployment = replacement.unwrap_or(page.deployment);
                if has_spawn(actions) {
                    *page = Page::new(page.deployment);
                } else {
                    page.wish(Wish::Start);
                }
            }
            Command::Stop(agent) => {
                let page = self.page(agent);
                match world.process_of(agent) {
                    Some(_) => page.wish(Wish::Rest),
                    None if page.expects(None).restart_at.is_some() => page.end = Some(End::ByHand),
                    None => {}
                }
            }
            Command::Remove(agent) => match world.process_of(agent) {
                Some(_) => self.page(agent).wish(Wish::Forget),
                None => drop(self.pages.remove(agent)),
            },
            Command::StopAll | Command::KillAll => {}
        }
    }

    fn note_end(&mut self, process: &Process, cause: &EndCause, now: Instant, spawned: bool) {
        let stable_after = self.settings.stable_after;
        let start_timed_out = EndCause::StartTimedOut {
            after: match process.loading {
                true => self.settings.start_timeout,
                false => self.settings.prepare_timeout,
            },
        };
        let page = self.page(&process.agent);
        match page.wish.take() {
            Some(Wish::Rest) => page.end = Some(End::ByHand),
            Some(Wish::Start) => *page = Page::new(page.deployment),
            Some(Wish::Forget) => drop(self.pages.remove(&process.agent)),
            None => {
                let served = process.ready_since.map(|since| now - since);
                if served.is_some_and(|served| served >= stable_after) {
                    page.unstable = 0;
                }
                let cause = match process.told_to_end {
                    true => &start_timed_out,
                    false => cause,
                };
                let another_port = matches!(cause, EndCause::PortTaken { .. });
                match spawned {
                    true if another_port => {}
                    true => page.restarted(),
                    false => page.end = Some(End::ByItself(cause.clone(), now)),
                }
            }
        }
    }

    fn page(&mut self, agent: &AgentId) -> &mut Page {
        self.pages
            .get_mut(agent)
            .expect("the fleet took a command for it")
    }
}

fn has_spawn(actions: &[Action]) -> bool {
    let mut actions = actions.iter();
    actions.any(|action| matches!(action, Action::Spawn { .. }))
}
