//! A second, dumber model: a clerk who sees what goes in and which processes live, and knows the rules of CONTRACT by
//! heart, but nothing of deadlines, ports or the states of the machine. A book is kept for each agent, and in it a page
//! for each of its replicas.

use std::collections::BTreeMap;
use std::time::Instant;

use par_lifecycle::{Action, Command, Event, Restored, Settings, Wanted};
use par_model::AgentId;
use par_model::control::EndCause;

use crate::book::Book;
use crate::page::Page;
use crate::world::{Input, Moment, Process, World};

pub(crate) struct Ledger {
    settings: Settings,
    books: BTreeMap<AgentId, Book>,
}

impl Ledger {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            books: BTreeMap::new(),
        }
    }

    /// What the fleet says of itself is what is written here.
    pub(crate) fn compare(&self, world: &World) {
        let status = world.fleet.status();
        assert!(status.keys().eq(self.books.keys()), "{status:?}");
        for (agent, status) in &status {
            self.books[agent].compare(agent, status, world);
        }
    }

    /// To be called after every moment.
    pub(crate) fn note(&mut self, moment: &Moment, world: &World) {
        let Ok(actions) = &moment.outcome else {
            return;
        };
        match &moment.input {
            Input::Command(command) => self.note_command(command, world, actions),
            Input::Event(event) => self.note_event(event, moment, world, actions),
            Input::Restored(agents) => {
                let book = |(agent, restored): (&AgentId, &Restored)| {
                    (agent.clone(), Book::restored(restored, agent, world))
                };
                self.books = agents.iter().map(book).collect();
            }
        }
        for (agent, book) in &mut self.books {
            book.settle(agent, world);
        }
        for action in actions {
            if let Action::Forget(agent) = action {
                let book = self.books.remove(agent);
                assert!(book.is_some_and(|it| it.removed), "{agent} is forgotten");
            }
        }
    }

    fn note_command(&mut self, command: &Command, world: &World, actions: &[Action]) {
        if let Command::Deploy(agent, deployment, beside) = command {
            // What it has begun did not live when it was asked.
            match self.books.get_mut(agent) {
                Some(book) => book.deploy(agent, *deployment, *beside, world),
                None => drop(self.books.insert(agent.clone(), Book::new(*deployment))),
            }
            return;
        }
        if let Command::StopAll | Command::KillAll = command {
            for (agent, book) in &mut self.books {
                let canary = book.desired.canary;
                book.drop_coming();
                book.desired.canary = canary;
                book.stop(agent, world);
            }
            return;
        }
        let (agent, book) = self.book_of(command);
        match command {
            Command::Promote(_) => book.promote(),
            Command::Abandon(_) => book.drop_coming(),
            Command::Scale(_, replicas) => {
                // Those that begin by this do not count.
                book.scale(*replicas, &agent, world);
            }
            Command::Start(_) | Command::Restart(_) => {
                let processes = book.processes(&agent, world).into_iter();
                let lived = processes.map(|it| it.is_some_and(|it| !has_spawn_of(actions, it)));
                let lived: Vec<bool> = lived.collect();
                book.start(&lived, matches!(command, Command::Restart(_)));
            }
            Command::Wake(_) if book.desired.wanted == Wanted::Up => {
                book.current.iter_mut().for_each(Page::wake);
            }
            Command::Stop(_) => {
                book.drop_coming();
                book.desired.canary = None;
                book.desired.wanted = Wanted::Stopped;
                book.stop(&agent, world);
            }
            Command::Remove(_) => {
                book.coming = None;
                book.removed = true;
            }
            _ => {}
        }
    }

    fn book_of(&mut self, command: &Command) -> (AgentId, &mut Book) {
        let (Command::Promote(agent)
        | Command::Abandon(agent)
        | Command::Scale(agent, _)
        | Command::Start(agent)
        | Command::Restart(agent)
        | Command::Wake(agent)
        | Command::Stop(agent)
        | Command::Remove(agent)) = command
        else {
            unreachable!("{command:?} is not about an agent that is known");
        };
        let book = self.books.get_mut(agent);
        (
            agent.clone(),
            book.expect("the fleet took a command for it"),
        )
    }

    fn note_event(&mut self, event: &Event, moment: &Moment, world: &World, actions: &[Action]) {
        match event {
            Event::Ready(replica) => {
                if let Some(process) = world.living.get(replica).filter(|it| it.serves()) {
                    self.page(process).into_iter().for_each(Page::served);
                }
            }
            Event::Exited(_, cause) => {
                if let Some(process) = &moment.ended {
                    self.note_end(process, cause, world.now, actions);
                }
            }
            Event::Tick => self.note_tick(world, actions),
            _ => {}
        }
    }

    fn note_end(&mut self, process: &Process, cause: &EndCause, now: Instant, actions: &[Action]) {
        let settings = self.settings.clone();
        let spawned = has_spawn_of(actions, process);
        if let Some(page) = self.page(process) {
            page.ended(process, cause, now, spawned, &settings);
        }
    }

    /// What has waited is started, and what nobody calls is put to sleep, but not while another release comes in.
    fn note_tick(&mut self, world: &World, actions: &[Action]) {
        let stable_after = self.settings.stable_after;
        let calm = self.books.iter().filter(|(_, it)| it.coming.is_none());
        let calm: Vec<AgentId> = calm.map(|(agent, _)| agent.clone()).collect();
        for action in actions {
            match action {
                Action::Spawn { replica, .. } => {
                    let page = self.page(&world.living[replica]);
                    page.expect("only what is kept is started")
                        .restarted(world.now);
                }
                Action::Drain { replica, .. } => {
                    let process = &world.living[replica];
                    if let Some(page) = self.page(process) {
                        assert!(
                            calm.contains(&process.agent),
                            "{process:?} beside another release"
                        );
                        page.put_to_sleep(process, world.now, stable_after);
                    }
                }
                _ => {}
            }
        }
    }

    fn page(&mut self, process: &Process) -> Option<&mut Page> {
        if process.surplus {
            return None;
        }
        let book = self.books.get_mut(&process.agent)?;
        if book.removed {
            return None;
        }
        book.page(process.release, process.slot)
    }
}

/// Whether its place is taken anew.
fn has_spawn_of(actions: &[Action], process: &Process) -> bool {
    let place = (&process.agent, process.release, process.slot);
    actions.iter().any(|action| match action {
        Action::Spawn {
            agent,
            release,
            slot,
            ..
        } => (agent, *release, *slot) == place,
        _ => false,
    })
}
