//! Feeds the fleet what happens, carries out what it decides, keeps what is wanted, and publishes what came of it.
//! Decides nothing.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use par_lifecycle::{Action, Beside, Command, Event, Fleet, Refusal, Release};
use par_model::event::{EventKind, NewEvent};
use par_model::{AgentId, ReplicaId};
use par_store::Change;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use crate::allowances::{Allow, Allowances};
use crate::catalog::{Catalog, Made};
use crate::effects::{Effects, Place};
use crate::events::{EventLog, happening, now_ms};
use crate::keeper::Keeper;
use crate::message::{Answer, CommandError, Message, Saved, Unsaved};
use crate::publisher::Publisher;
use crate::wishes::Wishes;
use crate::{notes, wishes};

/// Before what could not be kept is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// For what was said to be heard and written, in a process that hands over.
const LAST_ORDERS: Duration = Duration::from_millis(10);
/// Before an agent that could not be woken may be woken again.
const SNOOZE: Duration = Duration::from_secs(1);

pub(crate) struct Driver {
    pub(crate) fleet: Fleet,
    pub(crate) catalog: Catalog,
    pub(crate) effects: Effects,
    pub(crate) publisher: Publisher,
    pub(crate) wishes: Wishes,
    pub(crate) keeper: Keeper,
    pub(crate) events: Arc<EventLog>,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    /// Agents that are called while they sleep; each once a sleep.
    pub(crate) wakes: mpsc::UnboundedReceiver<AgentId>,
    /// For what our own tasks have to tell us.
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) changed: BTreeSet<AgentId>,
    /// Why what is wanted could not be kept, as long as that is so.
    pub(crate) unsaved: Rc<RefCell<Option<String>>>,
    pub(crate) retry_at: Option<Instant>,
}

/// What another driver goes on with, should nobody else.
pub(crate) struct Remains {
    pub(crate) publisher: Publisher,
    pub(crate) mailbox: mpsc::Receiver<Message>,
    pub(crate) wakes: mpsc::UnboundedReceiver<AgentId>,
}

/// What wakes the driver.
enum Stir {
    Message(Message),
    Wake(AgentId),
    Retry,
}

impl Driver {
    /// Runs until nobody can tell it anything any more, or another process goes on.
    pub(crate) async fn run(mut self) -> Option<Remains> {
        self.publish();
        while let Some(stir) = self.next().await {
            if let Stir::Message(Message::HandOver { ready }) = stir {
                self.settle().await;
                return Some(self.let_go(ready));
            }
            self.apply(stir);
            self.publish();
        }
        None
    }

    /// Workers that were just born are written down, and know it: else they would end with us.
    async fn settle(&mut self) {
        self.keep(None);
        // That it failed is known already, or will be where it matters.
        let _tried = self.keeper.commit(vec![]).await;
        // For the words of the commits to come, and for orders to be written.
        tokio::time::sleep(LAST_ORDERS).await;
        while let Ok(message) = self.mailbox.try_recv() {
            self.apply(Stir::Message(message));
        }
        tokio::time::sleep(LAST_ORDERS).await;
    }

    /// Everything stays as it is: nobody is told, nobody is ended.
    fn let_go(self, ready: oneshot::Sender<()>) -> Remains {
        self.effects.let_go();
        // Whoever hands over waits for it, or has failed already.
        let _nobody_waits = ready.send(());
        Remains {
            publisher: self.publisher,
            mailbox: self.mailbox,
            wakes: self.wakes,
        }
    }

    /// The only place that waits.
    async fn next(&mut self) -> Option<Stir> {
        let tick = until(self.fleet.next_deadline());
        let retry = until(self.retry_at);
        tokio::select! {
            message = self.mailbox.recv() => message.map(Stir::Message),
            Some(agent) = self.wakes.recv() => Some(Stir::Wake(agent)),
            () = tick => Some(Stir::Message(Message::Event(Event::Tick))),
            () = retry => Some(Stir::Retry),
        }
    }

    fn apply(&mut self, stir: Stir) {
        match stir {
            Stir::Message(message) => self.hear(message),
            Stir::Wake(agent) => self.wake(agent),
            Stir::Retry => {
                self.retry_at = None;
                for (changes, saved) in self.wishes.take_failed() {
                    self.hand_to_keeper(changes, saved, None);
                }
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Command { command, answer } => match self.ask(command) {
                Ok(()) => self.keep(Some(Box::new(|kept| reply(answer, kept)))),
                Err(refusal) => reply(answer, Err(refusal.into())),
            },
            Message::Deploy {
                made,
                beside,
                answer,
            } => self.admit(made, beside, answer),
            Message::Kept {
                made,
                release,
                beside,
                answer,
            } => self.deploy(made, release, beside, answer),
            Message::Allow {
                agent,
                allow,
                answer,
            } => self.allow(&agent, allow, answer),
            Message::Remade { made, release } => self.catalog.renew(release, made),
            Message::Event(event) => self.handle(event),
            Message::Progress { replica, message } => {
                self.told(replica).progress = Some(message);
            }
            Message::Limits { replica, told } => self.told(replica).limits = told,
            Message::Isolation { replica, isolation } => {
                self.told(replica).isolation = Some(isolation);
            }
            Message::AgentPid { replica, pid } => self.told(replica).agent_pid = Some(pid),
            Message::Born {
                replica,
                pid,
                birth,
                secret,
            } => self.keep_birth(replica, pid, birth, secret),
            Message::Sync { answer } => self.keep(Some(Box::new(|kept| reply(answer, kept)))),
            Message::Unwoken(agent) => self.publisher.renew_bell(&agent),
            Message::Saved(saved) => self.saved(saved),
            Message::HandOver { .. } => {} // Heard where nothing is half done.
        }
    }

    fn wake(&mut self, agent: AgentId) {
        let Err(refusal) = self.command(Command::Wake(agent.clone())) else {
            return;
        };
        // Its bell has rung, and nobody comes: another one is put up when that may have changed.
        tracing::warn!(%agent, %refusal, "an agent could not be woken");
        let messages = self.messages.clone();
        tokio::task::spawn_local(async move {
            tokio::time::sleep(SNOOZE).await;
            let _driver_is_gone = messages.send(Message::Unwoken(agent)).await;
        });
    }

    fn told(&mut self, replica: ReplicaId) -> &mut crate::snapshot::Told {
        self.changed.extend(self.fleet.owner(replica).cloned());
        self.publisher.told(replica)
    }

    /// What is to be removed is not wanted from now on, however long its end takes.
    fn ask(&mut self, command: Command) -> Result<(), Refusal> {
        let removed = match &command {
            Command::Remove(agent) => Some(agent.clone()),
            _ => None,
        };
        self.command(command)?;
        if let Some(agent) = removed {
            self.wishes.remove(&agent);
            self.change_allowances(|all| all.forget(&agent));
        }
        Ok(())
    }

    /// Holds at once; whoever asked is answered when it is kept.
    fn allow(&mut self, agent: &AgentId, allow: Allow, answer: Answer<()>) {
        let changes = self.change_allowances(|all| all.apply(agent, allow, now_ms()));
        let changes = match changes {
            Ok(changes) => changes,
            Err(not_allowed) => return reply(answer, Err(not_allowed.into())),
        };
        let status = self.fleet.agent(agent);
        let living = status.iter().flat_map(|status| status.incarnations());
        living.for_each(|it| self.effects.tell_egress(agent, it.replica));
        changes.into_iter().for_each(|it| self.wishes.add(it));
        self.keep(Some(Box::new(|kept| reply(answer, kept))));
    }

    fn change_allowances<T>(&self, change: impl FnOnce(&mut Allowances) -> T) -> T {
        let allowances = self.effects.allowances();
        let mut all = Allowances::clone(&allowances.borrow());
        let done = change(&mut all);
        allowances.send_replace(Arc::new(all));
        done
    }

    fn command(&mut self, command: Command) -> Result<(), Refusal> {
        let actions = self.fleet.command(Instant::now(), command)?;
        self.perform(actions);
        Ok(())
    }

    fn handle(&mut self, event: Event) {
        let over = match &event {
            Event::Exited(replica, _) => Some(*replica),
            _ => None,
        };
        let actions = self.fleet.handle(Instant::now(), event);
        self.perform(actions);
        if let Some(replica) = over {
            self.publisher.over(replica);
            self.wishes.over(replica);
        }
        self.keep(None);
    }

    /// Written down first: what begins can be found again, whatever comes.
    fn admit(&mut self, made: Arc<Made>, beside: Beside, answer: Answer<Release>) {
        let agent = made.agent.clone();
        let release = self.catalog.next(&agent);
        self.catalog.add(release, Arc::clone(&made));
        let mut changes = vec![wishes::new_release(release, &made)];
        if self.fleet.agent(&agent).is_none() && !self.catalog.has_others(&agent, release) {
            changes.push(wishes::first_wish(release, &made));
        }
        let kept = self.keeper.commit(changes);
        let messages = self.messages.clone();
        tokio::task::spawn_local(async move {
            match kept.await {
                Ok(()) => {
                    let kept = Message::Kept {
                        made,
                        release,
                        beside,
                        answer,
                    };
                    // The driver is gone only when the supervisor has ended.
                    let _driver_is_gone = messages.send(kept).await;
                }
                Err(reason) => reply(answer, Err(CommandError::NotKept(reason))),
            }
        });
    }

    fn deploy(
        &mut self,
        made: Arc<Made>,
        release: Release,
        beside: Beside,
        answer: Answer<Release>,
    ) {
        let agent = made.agent.clone();
        if !self.catalog.has_given(&agent, release) {
            let removed = format!("agent `{agent}` was removed meanwhile");
            return reply(answer, Err(CommandError::NotKept(removed)));
        }
        // It may have been taken for an old one while it was written down.
        self.catalog.add(release, made.clone());
        let before = self.fleet.agent(&agent);
        let replicas = before.as_ref().map_or(1, |it| it.desired.replicas);
        let deployment = made.deployment(release, replicas);
        match self.command(Command::Deploy(agent.clone(), deployment, beside)) {
            Ok(()) => self.keep(Some(Box::new(move |kept| {
                reply(answer, kept.map(|()| release));
            }))),
            Err(refusal) => {
                let alone = before.is_none() && !self.catalog.has_others(&agent, release);
                self.catalog.remove(&agent, release);
                self.wishes.refused(&agent, release, &refusal, alone);
                self.keep(None);
                reply(answer, Err(refusal.into()));
            }
        }
    }

    /// Routes change before anything else does: an incarnation that is withdrawn gets no new call while it drains.
    pub(crate) fn perform(&mut self, actions: Vec<Action>) {
        // Before routes, which may lead there.
        for action in &actions {
            if let Action::Spawn { agent, replica, .. } = action {
                let socket = self.effects.socket_of(*replica);
                self.publisher.begin(agent, *replica, socket);
            }
        }
        let changed = self.fleet.take_changed();
        self.publisher
            .publish_rules(&self.fleet, &self.catalog, &changed);
        self.publisher.publish_routes(&self.fleet, &changed);
        self.wishes.look(&self.fleet, &changed);
        self.changed.extend(changed);
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Spawn {
                replica,
                agent,
                release,
                port,
                grpc_port,
                ..
            } => {
                let status = self.fleet.agent(&agent);
                let mut replicas = status.iter().flat_map(|it| it.all_replicas());
                let own =
                    replicas.find(|it| it.incarnation.is_some_and(|it| it.replica == replica));
                let restarts = own.map_or(0, |it| it.restart_count);
                let made = self
                    .catalog
                    .get(&agent, release)
                    .expect("the fleet starts only what the catalog has");
                let place = Place {
                    replica,
                    port,
                    grpc_port,
                    restarts,
                };
                self.effects.spawn(place, Arc::clone(made));
            }
            Action::Freeze(replica) => self.effects.freeze(replica),
            Action::Drain { replica, within } => self.drain(replica, within),
            Action::Terminate(replica) => self.effects.terminate(replica),
            Action::Kill(replica) => self.effects.kill(replica),
            Action::Forget(agent) => {
                self.effects.forget(&agent);
                self.catalog.forget(&agent);
                self.events.note(NewEvent {
                    agent: Some(agent),
                    ..happening(EventKind::Removed)
                });
            }
            Action::Tell(note) => {
                if let Some((level, line)) = notes::line(&note) {
                    self.effects.log(&note.agent, level, line);
                }
                notes::events(&note).for_each(|event| self.events.note(event));
                self.wishes.hear(&note);
            }
        }
    }

    /// A worker that drains refuses calls: it is told when those that are on their way to it have been answered. They go
    /// nowhere else any more, because routes were published before.
    fn drain(&self, replica: ReplicaId, within: Duration) {
        let Some(drain) = self.effects.drain_later(replica) else {
            return;
        };
        let quiet = self.publisher.quiet(replica);
        tokio::task::spawn_local(async move {
            let begun = Instant::now();
            let _quiet_or_late = tokio::time::timeout(within, quiet).await;
            drain(within.saturating_sub(begun.elapsed()));
        });
    }

    fn keep_birth(
        &mut self,
        replica: ReplicaId,
        pid: u32,
        birth: par_sandbox::Birth,
        secret: par_model::control::Secret,
    ) {
        let status = self.fleet.owner(replica).cloned().and_then(|agent| {
            let status = self.fleet.agent(&agent)?;
            let incarnation = status.incarnations().find(|it| it.replica == replica)?;
            Some((agent, incarnation))
        });
        if let Some((agent, incarnation)) = status {
            self.wishes.born(&agent, incarnation, pid, birth, secret.0);
            self.keep(None);
        }
    }

    pub(crate) fn keep_now(&mut self) {
        self.keep(None);
    }

    /// Hands over what has to be kept. `then` hears whether that, and everything before it, was kept.
    fn keep(&mut self, then: Option<Then>) {
        match self.wishes.take() {
            Some((changes, saved)) => self.hand_to_keeper(changes, saved, then),
            None if then.is_some() => self.hand_to_keeper(vec![], Saved { born: vec![] }, then),
            None => {}
        }
    }

    fn hand_to_keeper(&self, changes: Vec<Change>, saved: Saved, then: Option<Then>) {
        let again = changes.clone();
        let kept = self.keeper.commit(changes);
        let (messages, unsaved) = (self.messages.clone(), Rc::clone(&self.unsaved));
        tokio::task::spawn_local(async move {
            let kept = kept.await;
            if let Err(reason) = &kept {
                unsaved.replace(Some(reason.clone()));
            }
            if let Some(then) = then {
                let trouble = unsaved.borrow().clone();
                then(trouble.map_or(Ok(()), |reason| Err(CommandError::OnlyNow(reason))));
            }
            let saved = match kept {
                Ok(()) => Ok(saved),
                Err(reason) => Err(Unsaved {
                    reason,
                    changes: again,
                    born: saved.born,
                }),
            };
            let _driver_is_gone = messages.send(Message::Saved(saved)).await;
        });
    }

    fn saved(&mut self, saved: Result<Saved, Unsaved>) {
        match saved {
            Ok(saved) => {
                for replica in saved.born {
                    self.effects.keep(replica);
                }
                if !self.wishes.has_failed() {
                    self.unsaved.replace(None);
                }
            }
            Err(unsaved) => {
                let reason = unsaved.reason;
                tracing::error!(%reason, "what is wanted could not be kept; it is tried again");
                self.wishes.put_back(unsaved.changes, &unsaved.born);
                self.retry_at = Some(Instant::now() + RETRY);
            }
        }
    }

    fn publish(&mut self) {
        let changed = std::mem::take(&mut self.changed);
        for agent in &changed {
            let status = self.fleet.agent(agent);
            let in_use = |release| {
                let mut all = status.iter().flat_map(|status| status.all_replicas());
                all.any(|replica| replica.release == release)
            };
            self.catalog.keep(agent, in_use);
        }
        self.publisher.publish_snapshot(
            &self.fleet,
            &self.catalog,
            &changed,
            self.unsaved.borrow().as_ref(),
        );
    }
}

type Then = Box<dyn FnOnce(Result<(), CommandError>)>;

fn reply<T>(answer: Answer<T>, outcome: Result<T, CommandError>) {
    // Whoever asked may have stopped waiting; the command holds all the same.
    let _asker_left = answer.send(outcome);
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
