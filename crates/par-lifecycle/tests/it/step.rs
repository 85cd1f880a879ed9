//! What can happen next in a simulated world, told by one number, so that a cheap source of numbers is enough.

use std::time::Duration;

use par_lifecycle::{Beside, Command, Deployment, Event, Release};
use par_model::control::EndCause;
use par_model::{AgentId, ReplicaId, RestartMode, RestartPolicy};
use proptest::prelude::*;

use crate::stage::{self, CLEAN, CRASH, SECOND};

pub(crate) const AGENTS: usize = 4;
/// Replicas that anybody asks for.
pub(crate) const MOST: usize = 3;

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Ask(Ask, usize),
    /// One of the living has news, true or not.
    Tell(News, usize),
    /// One of the dead, or somebody who never lived, has news.
    Late(News, usize),
    /// One of those that were told something does it.
    Obey(usize),
    /// One of those that do not answer yet does.
    ComeUp(usize),
    Wait(Duration),
    WaitForDeadline,
    /// The supervisor is killed, and the next one finds what it left. Of the workers, those die whose bit is set.
    Rebirth(u64),
    StopAll,
    KillAll,
}

#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// The number of the release is given when it is asked.
    Deploy(Deployment, Beside),
    Promote,
    Abandon,
    Scale(u32),
    Start,
    Wake,
    Stop,
    Restart,
    Remove,
}

#[derive(Clone, Debug)]
pub(crate) enum News {
    Spawned,
    Prepared,
    Ready,
    Quiet,
    Busy,
    Sessions(bool),
    Silent,
    Drained,
    Exited(EndCause),
}

impl Ask {
    pub(crate) fn of(self, agent: AgentId, release: Release) -> Command {
        match self {
            Self::Deploy(deployment, beside) => {
                let deployment = Deployment {
                    release,
                    ..deployment
                };
                Command::Deploy(agent, deployment, beside)
            }
            Self::Promote => Command::Promote(agent),
            Self::Abandon => Command::Abandon(agent),
            Self::Scale(replicas) => Command::Scale(agent, replicas),
            Self::Start => Command::Start(agent),
            Self::Wake => Command::Wake(agent),
            Self::Stop => Command::Stop(agent),
            Self::Restart => Command::Restart(agent),
            Self::Remove => Command::Remove(agent),
        }
    }
}

impl News {
    pub(crate) fn about(self, replica: ReplicaId) -> Event {
        match self {
            Self::Spawned => Event::Spawned { replica, pid: 1 },
            Self::Prepared => Event::Prepared(replica),
            Self::Ready => Event::Ready(replica),
            Self::Quiet => Event::Quiet(replica),
            Self::Busy => Event::Busy(replica),
            Self::Sessions(any) => Event::Sessions { replica, any },
            Self::Silent => Event::Silent {
                replica,
                after: SECOND,
            },
            Self::Drained => Event::Drained(replica),
            Self::Exited(cause) => Event::Exited(replica, cause),
        }
    }
}

pub(crate) fn nth_agent(index: usize) -> AgentId {
    stage::agent(["a", "b", "c", "d"][index % AGENTS])
}

/// Takes small choices from one number.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: u64) -> u64 {
        let rolled = self.0 % sides;
        self.0 /= sides;
        rolled
    }

    fn nth(&mut self) -> usize {
        self.below(16) as usize
    }
}

impl Step {
    pub(crate) fn of(number: u64) -> Self {
        let mut dice = Dice(number);
        match dice.below(256) {
            0..60 => Self::Tell(News::of(&mut dice), dice.nth()),
            60..92 => Self::Ask(Ask::roll(&mut dice), dice.nth()),
            92..124 => Self::Obey(dice.nth()),
            124..180 => Self::ComeUp(dice.nth()),
            180..190 => Self::Wait(dice.below(40) as u32 * SECOND),
            190..236 => Self::WaitForDeadline,
            236..250 => Self::Late(News::of(&mut dice), dice.nth()),
            250 => Self::Rebirth(0),
            251 => Self::Rebirth(dice.0),
            252 if dice.below(3) == 0 => Self::StopAll,
            253 if dice.below(6) == 0 => Self::KillAll,
            _ => Self::ComeUp(dice.nth()),
        }
    }
}

impl News {
    fn of(dice: &mut Dice) -> Self {
        match dice.below(32) {
            0..2 => Self::Ready,
            2..7 => Self::Exited(cause(dice)),
            7..9 => Self::Spawned,
            9..11 => Self::Prepared,
            11..22 => Self::Quiet,
            22..24 => Self::Busy,
            24..27 => Self::Sessions(true),
            27..30 => Self::Sessions(false),
            30 => Self::Silent,
            _ => Self::Drained,
        }
    }
}

fn cause(dice: &mut Dice) -> EndCause {
    match dice.below(8) {
        0..4 => CRASH,
        4 => CLEAN,
        5 => EndCause::Asked,
        6 => stage::load_failed(),
        _ => EndCause::PortTaken { port: 1 },
    }
}

impl Ask {
    fn roll(dice: &mut Dice) -> Self {
        match dice.below(32) {
            0..6 => Self::Deploy(deployment(dice), Beside::Roll),
            6..9 => Self::Deploy(deployment(dice), Beside::Refuse),
            9..13 => {
                let permille = [1, 100, 500, 999][dice.below(4) as usize];
                Self::Deploy(deployment(dice), Beside::Canary { permille })
            }
            13..16 => Self::Promote,
            16 => Self::Abandon,
            17..20 => Self::Scale(1 + dice.below(MOST as u64) as u32),
            20..22 => Self::Start,
            22..26 => Self::Wake,
            26..28 => Self::Stop,
            28..30 => Self::Restart,
            30 if dice.below(2) == 0 => Self::Remove,
            _ => Self::Start,
        }
    }
}

fn deployment(dice: &mut Dice) -> Deployment {
    let modes = [
        RestartMode::OnFailure,
        RestartMode::Always,
        RestartMode::Never,
    ];
    let restart = RestartPolicy {
        mode: modes[dice.below(3) as usize],
        max_restarts: dice.below(4) as u32,
        delay: dice.below(8) as u32 * SECOND,
        most_in_period: 1 + dice.below(8) as u32,
        period: 60 * dice.below(4) as u32 * SECOND,
        ..RestartPolicy::default()
    };
    Deployment {
        release: Release(0),
        replicas: 1 + dice.below(MOST as u64) as u32,
        restart,
        start_timeout: (dice.below(4) == 0).then_some(7 * SECOND),
        stop_when_frozen_for: (dice.below(3) != 0).then(|| dice.below(20) as u32 * SECOND),
    }
}

pub(crate) fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any_step(), 0..100)
}

pub(crate) fn any_step() -> impl Strategy<Value = Step> {
    any::<u64>().prop_map(Step::of)
}

pub(crate) fn any_news() -> impl Strategy<Value = News> {
    any::<u64>().prop_map(|number| News::of(&mut Dice(number)))
}
