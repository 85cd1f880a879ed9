//! A second, dumber store, in memory: what the real one must look like.

use std::collections::BTreeMap;

use par_model::ReplicaId;
use par_store::{Canary, Change, Incarnation, NewRelease, Outcome, Secrets, Store, Wanted, Wish};

use super::{agent, release};

/// What one sees of a store, secrets included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Model {
    agents: BTreeMap<String, Agent>,
    /// The agent of each.
    incarnations: BTreeMap<u64, (String, u32)>,
}

#[derive(Clone, Debug, PartialEq)]
struct Agent {
    wish: Wish,
    last: u32,
    releases: BTreeMap<u32, Release>,
}

#[derive(Clone, Debug, PartialEq)]
struct Release {
    package_id: String,
    secret: Option<String>,
    outcome: Outcome,
}

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Deploy {
        agent: u8,
        secret: Option<u16>,
        size: u16,
    },
    /// The newest but `back` becomes current.
    Serve {
        agent: u8,
        back: u8,
        canary: Option<u16>,
        up: bool,
    },
    Conclude {
        agent: u8,
        number: u32,
        failed: bool,
    },
    Remove {
        agent: u8,
    },
    Born {
        replica: u64,
        agent: u8,
        pid: u32,
    },
    Died {
        replica: u64,
    },
}

/// Of one agent, in these tests.
pub(crate) const RELEASES: u32 = 3;

impl Model {
    /// Does what a commit of these would do. Answers with the changes to commit.
    pub(crate) fn apply(&mut self, ops: &[Op]) -> Vec<Change> {
        let changes = ops.iter().filter_map(|op| self.step(op)).collect();
        for agent in self.agents.values_mut() {
            agent.prune();
        }
        changes
    }

    fn step(&mut self, op: &Op) -> Option<Change> {
        match op {
            Op::Deploy {
                agent: name,
                secret,
                size,
            } => Some(self.deploy(*name, *secret, *size)),
            Op::Serve {
                agent: name,
                back,
                canary,
                up,
            } => self.serve(*name, *back, *canary, *up),
            Op::Conclude {
                agent: name,
                number,
                failed,
            } => {
                let outcome = match failed {
                    true => Outcome::Failed {
                        reason: format!("why {number}"),
                    },
                    false => Outcome::Live,
                };
                let known = self.agents.get_mut(&named(*name));
                if let Some(kept) = known.and_then(|agent| agent.releases.get_mut(number)) {
                    kept.outcome = outcome.clone();
                }
                Some(Change::SetOutcome(agent(&named(*name)), *number, outcome))
            }
            Op::Remove { agent: name } => {
                self.agents.remove(&named(*name));
                Some(Change::RemoveAgent(agent(&named(*name))))
            }
            Op::Born {
                replica,
                agent: name,
                pid,
            } => {
                self.incarnations.insert(*replica, (named(*name), *pid));
                Some(Change::AddIncarnation(incarnation(*replica, *name, *pid)))
            }
            Op::Died { replica } => {
                self.incarnations.remove(replica);
                Some(Change::RemoveIncarnation(ReplicaId(*replica)))
            }
        }
    }

    fn deploy(&mut self, name: u8, secret: Option<u16>, size: u16) -> Change {
        let known = self.agents.entry(named(name)).or_insert_with(|| Agent {
            wish: Wish {
                wanted: Wanted::Up,
                replicas: 1,
                current: 1,
                canary: None,
                homes: BTreeMap::new(),
            },
            last: 0,
            releases: BTreeMap::new(),
        });
        known.last += 1;
        let new = NewRelease {
            package_id: format!("{}@{}", named(name), "x".repeat(usize::from(size))),
            secrets: secret.map_or_else(Secrets::default, |value| {
                Secrets([("TOKEN".to_owned(), value.to_string())].into())
            }),
            ..release(known.last)
        };
        let kept = Release {
            package_id: new.package_id.clone(),
            secret: secret.map(|value| value.to_string()),
            outcome: Outcome::Pending,
        };
        known.releases.insert(known.last, kept);
        Change::AddRelease(agent(&named(name)), Box::new(new))
    }

    fn serve(&mut self, name: u8, back: u8, canary: Option<u16>, up: bool) -> Option<Change> {
        let known = self.agents.get_mut(&named(name))?;
        let numbers: Vec<u32> = known.releases.keys().rev().copied().collect();
        let current = numbers[usize::from(back) % numbers.len()];
        known.wish = Wish {
            wanted: if up { Wanted::Up } else { Wanted::Stopped },
            replicas: u32::from(back),
            current,
            canary: canary.map(|permille| Canary {
                release: numbers[0],
                permille,
            }),
            homes: canary.map(|port| (0, port)).into_iter().collect(),
        };
        Some(Change::SetWish(agent(&named(name)), known.wish.clone()))
    }

    pub(crate) fn agent_count(&self) -> usize {
        self.agents.len()
    }

    /// What a store shows.
    pub(crate) fn of(store: &Store) -> Self {
        let agents = store.agents().expect("agents are read");
        let agents = agents.into_iter().map(|kept| {
            let releases = kept.releases.iter().map(|release| {
                let secrets = release.secrets.read();
                let secrets = secrets.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(release.env["PLAIN"], release.number.to_string());
                let seen = Release {
                    package_id: release.package_id.clone(),
                    secret: secrets.0.get("TOKEN").cloned(),
                    outcome: release.outcome.clone(),
                };
                (release.number, seen)
            });
            let seen = Agent {
                wish: kept.wish.clone(),
                last: kept.last_number,
                releases: releases.collect(),
            };
            (kept.agent.to_string(), seen)
        });
        let incarnations = store.incarnations().expect("incarnations are read");
        let incarnations = incarnations.into_iter().map(|made| {
            assert_eq!(made.pid_start_time, u64::MAX - u64::from(made.pid));
            (made.replica.0, (made.agent.to_string(), made.pid))
        });
        Self {
            agents: agents.collect(),
            incarnations: incarnations.collect(),
        }
    }
}

impl Agent {
    fn prune(&mut self) {
        let newest: Vec<u32> = self.releases.keys().rev().copied().collect();
        let canary = self.wish.canary.map(|canary| canary.release);
        let current = self.wish.current;
        self.releases.retain(|number, _| {
            newest[..newest.len().min(RELEASES as usize)].contains(number)
                || *number == current
                || Some(*number) == canary
        });
    }
}

fn named(name: u8) -> String {
    format!("agent-{name}")
}

pub(crate) fn incarnation(replica: u64, name: u8, pid: u32) -> Incarnation {
    Incarnation {
        replica: ReplicaId(replica),
        agent: agent(&named(name)),
        slot: 0,
        release: 1,
        port: 8001,
        grpc_port: 18001,
        pid,
        pid_start_time: u64::MAX - u64::from(pid),
        boot_id: "7b1c3bd0-0000-4000-8000-000000000000".to_owned(),
        secret: "5".repeat(64),
        made_at_ms: 1,
    }
}

/// A workload that is the same for the same seed: each inner list is one commit.
pub(crate) fn workload(seed: u64, commits: usize) -> Vec<Vec<Op>> {
    let mut dice = Dice(seed);
    (0..commits)
        .map(|_| (0..1 + dice.roll(3)).map(|_| dice.op()).collect())
        .collect()
}

/// Knuth's.
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn op(&mut self) -> Op {
        let agent = self.roll(3) as u8;
        match self.roll(10) {
            0..4 => Op::Deploy {
                agent,
                secret: (self.roll(2) == 0).then(|| self.roll(1000) as u16),
                // Some do not fit one page.
                size: (self.roll(4) * self.roll(4000)) as u16,
            },
            4..6 => Op::Serve {
                agent,
                back: self.roll(3) as u8,
                canary: (self.roll(3) == 0).then(|| self.roll(1000) as u16),
                up: self.roll(2) == 0,
            },
            6 => Op::Conclude {
                agent,
                number: 1 + self.roll(10) as u32,
                failed: self.roll(2) == 0,
            },
            7 => Op::Remove { agent },
            8 => Op::Born {
                replica: self.roll(20),
                agent,
                pid: self.roll(30_000) as u32,
            },
            _ => Op::Died {
                replica: self.roll(20),
            },
        }
    }
}
