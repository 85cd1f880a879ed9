//! A release that takes a share of the calls, and what becomes of it.

use par_model::control::EndCause;

use super::{Agent, Kind};
use crate::group;
use crate::life::Life;
use crate::life::Standing;
use crate::note::What;
use crate::turn::Turn;
use crate::{Deployment, Refusal};

impl Agent {
    pub(super) fn canary(
        &mut self,
        turn: &mut Turn<'_>,
        deployment: Deployment,
        permille: u16,
    ) -> Result<(), Refusal> {
        if self.current.serving().is_empty() {
            return Err(Refusal::NothingBeside(self.id.clone()));
        }
        let permille = permille.clamp(1, 999);
        let deployment = self.with_share(deployment, permille);
        self.let_begin(turn, deployment, Kind::Canary { permille })
    }

    /// As many replicas as its share asks for, one at least.
    pub(super) fn with_share(&self, deployment: Deployment, permille: u16) -> Deployment {
        let share = u64::from(self.desired.replicas) * u64::from(permille) / 1000;
        Deployment {
            replicas: u32::try_from(share).unwrap_or(u32::MAX).max(1),
            ..deployment
        }
    }

    /// Given twice, it is the same promotion.
    pub(crate) fn promote(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        let Some(incoming) = &mut self.incoming else {
            return Err(Refusal::NoCanary(self.id.clone()));
        };
        let permille = match incoming.kind {
            Kind::Roll => return Err(Refusal::NoCanary(self.id.clone())),
            Kind::Promoted { .. } => return Ok(()),
            Kind::Canary { permille } => permille,
        };
        if !incoming.group.all_serve() {
            return Err(Refusal::CanaryNotReady(self.id.clone()));
        }
        let mut more = incoming.group.missing(&self.id, self.desired.replicas);
        let leased = group::lease(turn, more.iter())?;
        turn.tell(&self.id, incoming.group.release(), None, What::Promoted);
        group::begin(turn, more.iter_mut(), leased, |_| Standing::New);
        incoming.group.add(more);
        incoming.kind = Kind::Promoted { permille };
        Ok(())
    }

    pub(crate) fn abandon(&mut self, turn: &mut Turn<'_>) -> Result<(), Refusal> {
        if self.incoming.is_none() {
            return Err(Refusal::NoCanary(self.id.clone()));
        }
        self.drop_incoming(turn, EndCause::Abandoned, Life::retire);
        Ok(())
    }
}
