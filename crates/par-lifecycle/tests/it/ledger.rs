//! A second, dumber model: a clerk who sees what goes in and which processes live, and knows the rules of CONTRACT by
//! heart, but nothing of deadlines, routes, ports or the states of the machine. A book is kept for each agent, and in
//! it a page for each of its replicas.

use std::collections::BTreeMap;
use std::time::Instant;

use par_lifecycle::{
    Action, AgentStatus, Beside, Canary, Command, Deployment, Desired, Event, IncomingStatus,
    Release, Restored, Route, Settings, Wanted,
};
use par_model::AgentId;
use par_model::control::EndCause;

use crate::page::Page;
use crate::world::{Input, Moment, Process, World};

pub(crate) struct Ledger {
    settings: Settings,
    books: BTreeMap<AgentId, Book>,
}

#[derive(Debug)]
struct Book {
    desired: Desired,
    current: Vec<Page>,
    coming: Option<Coming>,
    removed: bool,
}

#[derive(Debug)]
struct Coming {
    release: Release,
    pages: Vec<Page>,
    kind: Kind,
    live: bool,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Roll,
    Canary(u16),
    Promoted(u16),
}

impl Coming {
    fn share(&self) -> Option<u16> {
        match self.kind {
            Kind::Roll => None,
            Kind::Canary(permille) | Kind::Promoted(permille) => Some(permille),
        }
    }

    fn serves(&self, agent: &AgentId, world: &World) -> bool {
        let mut slots = 0..self.pages.len();
        slots.all(|slot| process(world, agent, self.release, slot).is_some_and(Process::serves))
    }

    fn is_defeated(&self, agent: &AgentId, world: &World) -> bool {
        let mut slots = self.pages.iter().enumerate();
        slots.any(|(slot, page)| {
            let lives = process(world, agent, self.release, slot).is_some();
            !lives && page.restart_at().is_none()
        })
    }
}

fn process<'a>(
    world: &'a World,
    agent: &AgentId,
    release: Release,
    slot: usize,
) -> Option<&'a Process> {
    world.process(agent, release, slot as u32)
}

fn pages(many: u32, page: Page) -> Vec<Page> {
    vec![page; many as usize]
}

fn share(replicas: u32, permille: u16) -> u32 {
    (replicas * u32::from(permille) / 1000).max(1)
}

impl Book {
    fn new(deployment: Deployment) -> Self {
        Self {
            desired: Desired {
                wanted: Wanted::Up,
                replicas: deployment.replicas,
                current: deployment.release,
                canary: None,
            },
            current: pages(deployment.replicas, Page::new(deployment)),
            coming: None,
            removed: false,
        }
    }

    fn processes<'a>(&self, agent: &AgentId, world: &'a World) -> Vec<Option<&'a Process>> {
        let slots = 0..self.current.len();
        slots
            .map(|slot| process(world, agent, self.desired.current, slot))
            .collect()
    }

    fn is_at_rest(&self, agent: &AgentId, world: &World) -> bool {
        let lives = self.processes(agent, world).iter().any(Option::is_some);
        !lives && self.current.iter().all(|it| it.restart_at().is_none())
    }

    fn is_asleep(&self) -> bool {
        self.current.iter().all(Page::is_asleep)
    }

    fn deploy(&mut self, agent: &AgentId, deployment: Deployment, beside: Beside, world: &World) {
        let rests = self.is_at_rest(agent, world) && !self.is_asleep();
        if rests && self.coming.is_none() {
            *self = Self::new(deployment);
            return;
        }
        let (kind, replicas) = match beside {
            Beside::Canary { permille } => (
                Kind::Canary(permille),
                share(self.desired.replicas, permille),
            ),
            _ => (Kind::Roll, deployment.replicas),
        };
        self.drop_coming();
        self.coming = Some(Coming {
            release: deployment.release,
            pages: pages(replicas, Page::new(deployment)),
            kind,
            live: false,
        });
    }

    fn drop_coming(&mut self) {
        if self.coming.take().is_some() {
            self.desired.canary = None;
        }
    }

    fn promote(&mut self) {
        let replicas = self.desired.replicas;
        if let Some(Coming { pages, kind, .. }) = &mut self.coming
            && let Kind::Canary(permille) = *kind
        {
            *kind = Kind::Promoted(permille);
            let fresh = pages[0].fresh();
            pages.resize(replicas as usize, fresh);
        }
    }

    fn scale(&mut self, replicas: u32, agent: &AgentId, world: &World) {
        let many = replicas as usize;
        let fresh = self.current[0].fresh();
        let newcomer = if self.desired.wanted == Wanted::Stopped {
            fresh.at_rest()
        } else if self.is_asleep() {
            fresh.asleep()
        } else if self.is_at_rest(agent, world) {
            fresh.at_rest()
        } else {
            fresh
        };
        self.current.resize(many, newcomer);
        self.desired.replicas = replicas;
        if let Some(Coming { pages, kind, .. }) = &mut self.coming {
            match kind {
                Kind::Canary(_) => pages.truncate(many),
                Kind::Roll | Kind::Promoted(_) => {
                    let fresh = pages[0].fresh();
                    pages.resize(many, fresh);
                }
            }
        }
    }

    fn stop(&mut self, agent: &AgentId, world: &World) {
        let processes = self.processes(agent, world);
        for (page, process) in self.current.iter_mut().zip(processes) {
            page.stop(process.is_some());
        }
    }

    fn start(&mut self, lived: &[bool], again: bool) {
        for (page, lived) in self.current.iter_mut().zip(lived) {
            match lived {
                true if again => page.restart(),
                true => page.wake(),
                false if again => *page = page.fresh_again(),
                false => *page = page.fresh(),
            }
        }
        self.desired.wanted = Wanted::Up;
    }

    fn settle(&mut self, agent: &AgentId, world: &World) {
        let Some(mut coming) = self.coming.take() else {
            return;
        };
        if coming.is_defeated(agent, world) {
            self.desired.canary = None;
            return;
        }
        if !coming.serves(agent, world) {
            self.coming = Some(coming);
            return;
        }
        let release = coming.release;
        if let Kind::Canary(permille) = coming.kind {
            coming.live = true;
            self.desired.canary = Some(Canary { release, permille });
            self.coming = Some(coming);
            return;
        }
        self.desired = Desired {
            wanted: Wanted::Up,
            replicas: coming.pages.len() as u32,
            current: release,
            canary: None,
        };
        self.current = coming.pages;
    }

    fn page(&mut self, release: Release, slot: u32) -> Option<&mut Page> {
        let coming = self.coming.as_mut().filter(|it| it.release == release);
        let pages = match coming {
            Some(coming) => &mut coming.pages,
            None if self.desired.current == release => &mut self.current,
            None => return None,
        };
        pages.get_mut(slot as usize)
    }

    fn restored(restored: &Restored, agent: &AgentId, world: &World) -> Self {
        let desired = restored.desired;
        let fresh = Page::new(restored.deployment);
        let mut book = Self {
            desired,
            current: pages(desired.replicas, fresh.clone()),
            coming: None,
            removed: false,
        };
        if desired.wanted == Wanted::Stopped {
            book.current = pages(desired.replicas, fresh.at_rest());
            return book;
        }
        let lives: Vec<bool> = book
            .processes(agent, world)
            .iter()
            .map(|it| served(*it))
            .collect();
        let may_sleep = restored.deployment.stop_when_frozen_for.is_some() && restored.proven;
        let sleeps = may_sleep && desired.canary.is_none() && !lives.contains(&true);
        for (page, lives) in book.current.iter_mut().zip(lives) {
            *page = match sleeps {
                true => fresh.asleep(),
                false if lives || restored.proven => fresh.proven(),
                false => fresh.clone(),
            };
        }
        if let Some((canary, deployment)) = desired.canary.zip(restored.canary) {
            book.coming = Some(Coming {
                release: canary.release,
                pages: pages(
                    share(desired.replicas, canary.permille),
                    Page::new(deployment).proven(),
                ),
                kind: Kind::Canary(canary.permille),
                live: true,
            });
        }
        book
    }

    /// Who serves takes calls; else callers wait for whom they know, or wake the agent.
    fn compare_route(&self, agent: &AgentId, route: &Route, world: &World) {
        let processes = self.processes(agent, world);
        let serves = |it: &&Process| it.serves();
        let canary = self.coming.iter().filter(|it| it.share().is_some());
        let of_canary = canary.flat_map(|it| {
            let slots = 0..it.pages.len();
            slots.filter_map(|slot| process(world, agent, it.release, slot))
        });
        let serve = processes
            .iter()
            .flatten()
            .copied()
            .chain(of_canary)
            .any(|it| serves(&it));
        let mut pages = self.current.iter().zip(&processes);
        let matches = if self.removed {
            *route == Route::Down
        } else if serve {
            matches!(route, Route::Ready(_))
        } else if pages.any(|(page, process)| page.is_awaited(*process)) {
            *route == Route::Soon
        } else if self.is_asleep() {
            *route == Route::Asleep
        } else {
            *route == Route::Down
        };
        assert!(matches, "{agent} has {route:?}: {self:?}");
    }

    fn compare(&self, agent: &AgentId, status: &AgentStatus, world: &World) {
        self.compare_route(agent, &status.route, world);
        if self.removed {
            return;
        }
        assert_eq!(status.desired, self.desired, "{agent}: {self:?}");
        assert_eq!(status.replicas.len(), self.current.len());
        for (slot, page) in self.current.iter().enumerate() {
            page.compare(
                &status.replicas[slot],
                process(world, agent, self.desired.current, slot),
            );
        }
        let seen = |it: &IncomingStatus| (it.release, it.canary, it.live, it.replicas.len());
        let kept = |it: &Coming| (it.release, it.share(), it.live, it.pages.len());
        assert_eq!(
            status.incoming.as_ref().map(seen),
            self.coming.as_ref().map(kept),
            "{agent}"
        );
        if let Some((incoming, coming)) = status.incoming.as_ref().zip(self.coming.as_ref()) {
            for (slot, page) in coming.pages.iter().enumerate() {
                page.compare(
                    &incoming.replicas[slot],
                    process(world, agent, coming.release, slot),
                );
            }
        }
    }
}

fn served(process: Option<&Process>) -> bool {
    process.is_some_and(|it| it.ready_since.is_some())
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
