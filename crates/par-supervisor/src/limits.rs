//! Limits as the operator and the deployer want them, and the control groups that hold them.

use std::time::Duration;

use par_model::api::SpawnOptions;
use par_model::limits::{Limit, Limits};
use par_model::{AgentId, ReplicaId};
use par_sandbox::{Group, Groups};
use tracing::{info, warn};

use crate::catalog::Made;

/// For the groups of a worker that has ended.
const LONGEST_END: Duration = Duration::from_secs(5);

/// The table `[limits]` of `par.toml`: for agents that ask for nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct LimitDefaults {
    pub limits: Limits,
    pub required: bool,
}

/// Bounds on what goes wrong, not on what agents do today: numpy, hundreds of threads and many large bodies at one time
/// have room. Processors are not limited: agents take turns like any other processes.
impl Default for LimitDefaults {
    fn default() -> Self {
        Self {
            limits: Limits {
                memory: Some(2 << 30),
                cpus: None,
                pids: Some(512),
                open_files: Some(1024),
                workspace: Some(1 << 30),
                priority: None,
            },
            required: false,
        }
    }
}

impl LimitDefaults {
    pub(crate) fn wanted(&self, options: &SpawnOptions) -> Limits {
        let usual = &self.limits;
        let megabytes = |given: Option<u64>| given.map(|count| count.saturating_mul(1 << 20));
        Limits {
            memory: megabytes(options.memory_limit_mb).or(usual.memory),
            cpus: options.cpu_limit.or(usual.cpus),
            pids: options.pids_limit.or(usual.pids),
            open_files: options.open_files_limit.or(usual.open_files),
            workspace: megabytes(options.workspace_limit_mb).or(usual.workspace),
            priority: options.priority.or(usual.priority),
        }
    }

    pub(crate) fn required(&self, options: &SpawnOptions) -> bool {
        options.require_limits.unwrap_or(self.required)
    }
}

/// For the operator, who need not look into every agent's own log.
pub(crate) fn log(agent: &AgentId, replica: ReplicaId, limits: &[Limit]) {
    let words: Vec<String> = limits.iter().map(ToString::to_string).collect();
    let limits_said = words.join(", ");
    if limits.iter().all(|limit| limit.held) {
        info!(%agent, %replica, limits = limits_said, "limits hold");
    } else {
        warn!(%agent, %replica, limits = limits_said, "limits do not all hold");
    }
}

/// What the worker of an incarnation told about its limits, and where its agent is counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToldLimits {
    pub(crate) limits: Vec<Limit>,
    /// Bytes of memory that are allowed.
    pub(crate) memory: Option<u64>,
    pub(crate) agent: Option<Group>,
}

impl ToldLimits {
    pub(crate) fn of(
        limits: Vec<Limit>,
        memory: Option<u64>,
        groups: &Groups,
        replica: u64,
    ) -> Self {
        let replica = groups.of(replica);
        Self {
            limits,
            memory,
            agent: replica.map(|replica| replica.below("agent")),
        }
    }

    /// What counts against the limit of memory, now.
    pub(crate) fn used(&self, agent_pid: Option<u32>) -> Option<u64> {
        let group = self.agent.as_ref().and_then(|agent| agent.usage().memory);
        group.or_else(|| agent_pid.map(par_sandbox::resident_bytes))
    }
}

/// Ends what a worker has left in its groups, and removes them.
pub(crate) async fn end_group(groups: &Groups, replica: u64) {
    if let Some(group) = groups.of(replica)
        && !group.end(LONGEST_END).await
    {
        warn!(
            replica,
            "the control group of an ended worker could not be removed"
        );
    }
}

impl Made {
    /// What was asked for and holds less than one may think, or not at all. `groupless` is why there are no control groups.
    pub(crate) fn warnings(&self, groupless: Option<&str>) -> Vec<String> {
        let Some(why) = groupless else { return vec![] };
        let options = &self.options;
        let memory = options.memory_limit_mb.map(|megabytes| {
            format!("memory_limit_mb={megabytes} is held by a watchdog that looks again and again: {why}")
        });
        let cpu = options
            .cpu_limit
            .map(|cpus| format!("cpu_limit={cpus} is not held here: {why}"));
        let pids = options.pids_limit.map(|most| {
            format!("pids_limit={most} is held by a watchdog that looks again and again: {why}")
        });
        memory.into_iter().chain(cpu).chain(pids).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_wins_over_the_default_and_the_rest_keeps_it() {
        let options = SpawnOptions {
            memory_limit_mb: Some(64),
            cpu_limit: Some(1.5),
            ..SpawnOptions::default()
        };
        let defaults = LimitDefaults::default();
        let wanted = defaults.wanted(&options);
        assert_eq!((wanted.memory, wanted.cpus), (Some(64 << 20), Some(1.5)));
        assert_eq!(wanted.pids, defaults.limits.pids);
        assert!(!defaults.required(&options));
    }
}
