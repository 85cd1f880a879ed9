//! More replicas, or fewer.

use super::{Agent, Incoming};
use crate::Refusal;
use crate::desired::Wanted;
use crate::group;
use crate::life::{Life, Standing};
use crate::note::What;
use crate::turn::Turn;

impl Agent {
    /// A release that is to take the place of this one gets as many. A canary keeps its number, unless that is too many.
    pub(crate) fn scale(&mut self, turn: &mut Turn<'_>, replicas: u32) -> Result<(), Refusal> {
        self.check_kept()?;
        let replicas = replicas.max(1);
        let (mut more, mut more_incoming) = self.missing(replicas);
        let begins = self.newcomers() == Newcomers::Begin;
        let beginners = more.iter().filter(|_| begins).chain(&more_incoming);
        let leased = group::lease(turn, beginners)?;
        self.tell(turn, &self.current, What::Scaled { replicas });
        match self.newcomers() {
            Newcomers::Begin | Newcomers::Rest => {}
            Newcomers::Sleep => more.iter_mut().for_each(Life::lay_down),
        }
        let beginners = more.iter_mut().filter(|_| begins).chain(&mut more_incoming);
        group::begin(turn, beginners, leased, |_| Standing::New);
        self.current.add(more);
        let mut surplus = self.current.shrink(replicas);
        if let Some(Incoming { group, .. }) = &mut self.incoming {
            group.add(more_incoming);
            surplus.extend(group.shrink(replicas));
        }
        self.leave(turn, surplus, Life::retire);
        self.desired.replicas = replicas;
        Ok(())
    }

    /// Of the current release, and of the one that is to take its place.
    fn missing(&self, replicas: u32) -> (Vec<Life>, Vec<Life>) {
        let incoming = self.incoming.iter().filter(|it| it.kind.takes_over());
        let of_incoming = incoming.flat_map(|it| it.group.missing(&self.id, replicas));
        let of_current = self.current.missing(&self.id, replicas);
        (of_current, of_incoming.collect())
    }

    fn newcomers(&self) -> Newcomers {
        if self.desired.wanted == Wanted::Stopped {
            Newcomers::Rest
        } else if self.current.is_asleep() {
            Newcomers::Sleep
        } else if self.current.is_at_rest() {
            Newcomers::Rest
        } else {
            Newcomers::Begin
        }
    }
}

/// What new replicas of the current release do: as the others do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Newcomers {
    Begin,
    Sleep,
    Rest,
}
