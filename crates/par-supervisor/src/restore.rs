//! Puts together what an earlier supervisor left: what is wanted, from the state file, and the workers that go on.

use std::time::{Duration, Instant};

use par_lifecycle::{Canary, Desired, Incarnation, Release, Restored, Survivor, Wanted};
use par_model::AgentId;
use par_store::{KeptAgent, KeptRelease, Outcome};
use tracing::error;

use crate::adoption::Found;
use crate::catalog::Made;
use crate::chain;

/// A release as it was kept. What is gone of it is said when it is to be started.
pub(crate) fn made(agent: &AgentId, kept: &KeptRelease) -> Made {
    let package_gone = (!kept.package.join("agent.yaml").is_file()).then(|| {
        let package = kept.package.display();
        format!("its package is gone from `{package}`: deploy it again")
    });
    let (secrets, secrets_gone) = match kept.secrets.read() {
        Ok(secrets) => (secrets, None),
        Err(error) => (Default::default(), Some(chain(&error))),
    };
    let unusable = package_gone.or(secrets_gone);
    if let Some(reason) = &unusable {
        error!(%agent, release = kept.number, reason, "a release cannot be started");
    }
    Made {
        agent: agent.clone(),
        package_id: kept.package_id.clone(),
        digest: kept.digest.clone(),
        package: kept.package.clone(),
        env: kept.env.clone(),
        secrets,
        options: kept.options.clone(),
        note: kept.note.clone(),
        unusable,
    }
}

/// `made` has the releases of `kept`, by number. `None` when its current release is not among them.
pub(crate) fn restored(
    kept: &KeptAgent,
    made: &[(Release, Made)],
    living: &[Found],
) -> Option<Restored> {
    let wish = &kept.wish;
    let deployment = |number: u32, replicas: u32| {
        let (release, made) = made.iter().find(|(release, _)| release.0 == number)?;
        let mut deployment = made.deployment(*release, replicas);
        deployment.replicas = replicas.max(1);
        Some(deployment)
    };
    let canary = wish.canary.and_then(|canary| {
        let share = u64::from(wish.replicas) * u64::from(canary.permille) / 1000;
        let replicas = u32::try_from(share).unwrap_or(u32::MAX);
        deployment(canary.release, replicas)
    });
    let current = kept.release(wish.current)?;
    let usable =
        |(release, made): &(Release, Made)| release.0 == wish.current && made.unusable.is_none();
    Some(Restored {
        desired: Desired {
            wanted: match wish.wanted {
                par_store::Wanted::Up => Wanted::Up,
                par_store::Wanted::Stopped => Wanted::Stopped,
            },
            replicas: wish.replicas,
            current: Release(wish.current),
            canary: wish.canary.map(|canary| Canary {
                release: Release(canary.release),
                permille: canary.permille,
            }),
        },
        deployment: deployment(wish.current, wish.replicas)?,
        canary,
        // What cannot be started fails at once: to try it again would change nothing.
        proven: current.outcome == Outcome::Live && made.iter().any(usable),
        living: living.iter().map(survivor).collect(),
        homes: wish
            .homes
            .iter()
            .map(|(slot, port)| (*slot, *port))
            .collect(),
    })
}

fn survivor(found: &Found) -> Survivor {
    let kept = &found.kept;
    let incarnation = Incarnation {
        replica: kept.replica,
        slot: kept.slot,
        release: Release(kept.release),
        port: kept.port,
        grpc_port: kept.grpc_port,
        pid: Some(kept.pid),
    };
    let served = Duration::from_millis(found.resumed.served_ms);
    let now = Instant::now();
    Survivor {
        incarnation,
        since: now.checked_sub(served).unwrap_or(now),
        restarts: found.resumed.restarts,
        sessions: found.resumed.sessions,
        serves: !found.resumed.ending,
    }
}
