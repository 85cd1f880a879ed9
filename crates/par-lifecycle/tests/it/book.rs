//! What the clerk of the ledger knows of one agent.

use par_lifecycle::{
    AgentStatus, Beside, Canary, Deployment, Desired, IncomingStatus, Release, Restored, Route,
    Wanted,
};
use par_model::AgentId;

use crate::page::Page;
use crate::world::{Process, World};

#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) desired: Desired,
    pub(crate) current: Vec<Page>,
    pub(crate) coming: Option<Coming>,
    pub(crate) removed: bool,
}

#[derive(Debug)]
pub(crate) struct Coming {
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
    pub(crate) fn new(deployment: Deployment) -> Self {
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

    pub(crate) fn processes<'a>(
        &self,
        agent: &AgentId,
        world: &'a World,
    ) -> Vec<Option<&'a Process>> {
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

    pub(crate) fn deploy(
        &mut self,
        agent: &AgentId,
        deployment: Deployment,
        beside: Beside,
        world: &World,
    ) {
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

    pub(crate) fn drop_coming(&mut self) {
        if self.coming.take().is_some() {
            self.desired.canary = None;
        }
    }

    pub(crate) fn promote(&mut self) {
        let replicas = self.desired.replicas;
        if let Some(Coming { pages, kind, .. }) = &mut self.coming
            && let Kind::Canary(permille) = *kind
        {
            *kind = Kind::Promoted(permille);
            let fresh = pages[0].fresh();
            pages.resize(replicas as usize, fresh);
        }
    }

    pub(crate) fn scale(&mut self, replicas: u32, agent: &AgentId, world: &World) {
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

    pub(crate) fn stop(&mut self, agent: &AgentId, world: &World) {
        let processes = self.processes(agent, world);
        for (page, process) in self.current.iter_mut().zip(processes) {
            page.stop(process.is_some());
        }
    }

    pub(crate) fn start(&mut self, lived: &[bool], again: bool) {
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

    pub(crate) fn settle(&mut self, agent: &AgentId, world: &World) {
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

    pub(crate) fn page(&mut self, release: Release, slot: u32) -> Option<&mut Page> {
        let coming = self.coming.as_mut().filter(|it| it.release == release);
        let pages = match coming {
            Some(coming) => &mut coming.pages,
            None if self.desired.current == release => &mut self.current,
            None => return None,
        };
        pages.get_mut(slot as usize)
    }

    pub(crate) fn restored(restored: &Restored, agent: &AgentId, world: &World) -> Self {
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

    pub(crate) fn compare(&self, agent: &AgentId, status: &AgentStatus, world: &World) {
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
