//! The control group of one session: what all its processes may have together.

use std::path::PathBuf;
use std::time::Duration;

use par_model::Tier;
use par_model::limits::{LimitName, Limits};
use par_sandbox::Group;
use tracing::warn;

use super::ground::Ground;
use super::interpreter::tier_memory;

/// None where there can be no group: then memory is looked at, and nothing else is held.
pub(super) struct SessionGroup {
    group: Option<Group>,
    holds_memory: bool,
}

impl SessionGroup {
    /// With as much as the largest session may have, until it is known whose it is.
    pub(super) fn make(ground: &Ground, serial: u64) -> Self {
        let made = ground.group.as_ref();
        let made = made.map(|replica| replica.make(&format!("session-{serial}")));
        let group = match made.transpose() {
            Ok(group) => group,
            Err(why) => {
                warn!(why, "a session has no control group");
                None
            }
        };
        let limits = Limits {
            memory: Some(tier_memory(Tier::Large)),
            pids: ground.pids,
            ..Limits::default()
        };
        let said = group.as_ref().map(|group| group.set(&limits));
        let holds_memory = said
            .iter()
            .flatten()
            .any(|limit| limit.name == LimitName::Memory && limit.held);
        Self {
            group,
            holds_memory,
        }
    }

    pub(super) fn doors(&self) -> Vec<PathBuf> {
        self.group.as_ref().map(Group::doors).unwrap_or_default()
    }

    /// Nobody has joined it.
    pub(super) fn give_up(&mut self, why: &str) {
        warn!(why, "a session is in no control group");
        if let Some(group) = self.group.take() {
            group.remove();
        }
        self.holds_memory = false;
    }

    pub(super) fn limit(&self, tier: Tier) {
        let limits = Limits {
            memory: Some(tier_memory(tier)),
            cpus: Some(tier.processors() as f64),
            ..Limits::default()
        };
        let said = self.group.as_ref().map(|group| group.set(&limits));
        for limit in said.iter().flatten().filter(|limit| !limit.held) {
            warn!(%limit, "a session has more than its tier");
        }
    }

    pub(super) fn hold_memory(&self) -> bool {
        self.holds_memory
    }

    pub(super) fn ran_out_of_memory(&self) -> bool {
        let group = self.group.as_ref().filter(|_| self.holds_memory);
        group.is_some_and(|group| group.events().oom_kills > 0)
    }

    pub(super) fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
    }

    pub(super) async fn end(&mut self, limit: Duration) {
        if let Some(group) = self.group.take()
            && !group.end(limit).await
        {
            warn!("the control group of a session could not be removed");
        }
    }
}

/// Of one that never began, or was given up.
impl Drop for SessionGroup {
    fn drop(&mut self) {
        if let Some(group) = &self.group {
            group.kill();
            group.remove();
        }
    }
}
