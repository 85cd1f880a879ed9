//! What is known of all agents at one moment, as the driver publishes it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

use par_lifecycle::{AgentStatus, Idle, Release, ReplicaStatus};
use par_model::api::{
    CanaryStatus, IdleState, ProcessStatus, ReplicaStatus as ApiReplica, RolloutStatus,
};
use par_model::control::EndCause;
use par_model::{AgentId, Isolation, ProcessId, ProcessState, ReplicaId};

use crate::catalog::Made;
use crate::limits::ToldLimits;

#[derive(Clone, Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) agents: BTreeMap<AgentId, Arc<Known>>,
    /// By the process id of the worker.
    pub(crate) workers: HashMap<u32, AgentId>,
    /// Why what is wanted could not be kept lately.
    pub(crate) unsaved: Option<String>,
}

/// One agent.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) status: AgentStatus,
    /// The current release.
    pub(crate) made: Arc<Made>,
    pub(crate) told: BTreeMap<ReplicaId, Told>,
}

/// What an incarnation told about itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    pub(crate) progress: Option<String>,
    pub(crate) agent_pid: Option<u32>,
    pub(crate) limits: ToldLimits,
    pub(crate) isolation: Option<Isolation>,
}

impl Snapshot {
    /// Agents that take calls now.
    pub(crate) fn routes(&self) -> Vec<String> {
        let ready = self
            .agents
            .iter()
            .filter(|(_, known)| known.state() == ProcessState::Running);
        ready.map(|(agent, _)| agent.to_string()).collect()
    }

    /// Whether nothing of any agent lives.
    pub(crate) fn is_empty(&self) -> bool {
        self.agents.values().all(|known| !known.lives())
    }

    /// The agent that a word such as `par-hello` or `hello` means.
    pub(crate) fn find(&self, word: &str) -> Option<(&AgentId, &Arc<Known>)> {
        let process = ProcessId::parse(word, |agent| self.agents.contains_key(agent)).ok()?;
        self.agents.get_key_value(process.agent())
    }
}

impl Known {
    /// The release that takes the calls, or would.
    pub(crate) fn release(&self) -> Release {
        self.replica().release
    }

    /// The replica that stands for all of them where one is asked for: one that serves, if there is any.
    pub(crate) fn replica(&self) -> &ReplicaStatus {
        let replicas = &self.status.replicas;
        let serving = replicas.iter().find(|it| it.state == ProcessState::Running);
        let living = || replicas.iter().find(|it| it.incarnation.is_some());
        let first = replicas.first().expect("an agent has one replica at least");
        serving.or_else(living).unwrap_or(first)
    }

    /// Whether anything of it lives, of whichever release.
    pub(crate) fn lives(&self) -> bool {
        self.status.incarnations().next().is_some()
    }

    /// Of all replicas together: the best of them.
    pub(crate) fn state(&self) -> ProcessState {
        const BEST_FIRST: [ProcessState; 6] = [
            ProcessState::Running,
            ProcessState::Starting,
            ProcessState::Stopping,
            ProcessState::Crashed,
            ProcessState::Failed,
            ProcessState::Stopped,
        ];
        let has = |state: &ProcessState| self.status.replicas.iter().any(|it| it.state == *state);
        let best = BEST_FIRST.into_iter().find(has);
        best.unwrap_or(ProcessState::Stopped)
    }

    /// Its state, or in which way it is idle.
    pub(crate) fn word(&self) -> &'static str {
        match self.idle() {
            Some(Idle::Frozen) => "frozen",
            Some(Idle::Stopped) => "idle",
            None => self.state().as_str(),
        }
    }

    /// Of all replicas of the current release.
    pub(crate) fn restarts(&self) -> u32 {
        self.status.replicas.iter().map(|it| it.restart_count).sum()
    }

    /// Why one of its replicas is not running.
    pub(crate) fn error(&self) -> Option<&EndCause> {
        self.status.replicas.iter().find_map(|it| it.error.as_ref())
    }

    pub(crate) fn progress(&self) -> Option<&String> {
        let replicas = self.status.all_replicas();
        let starting = replicas.filter(|it| it.state == ProcessState::Starting);
        starting
            .filter_map(|it| self.told(it)?.progress.as_ref())
            .next()
    }

    /// Of the replica that stands for all.
    pub(crate) fn limits(&self) -> ToldLimits {
        let told = self.told(self.replica());
        told.map_or_else(ToldLimits::default, |told| told.limits.clone())
    }

    pub(crate) fn isolation(&self) -> Option<Isolation> {
        self.told(self.replica())?.isolation.clone()
    }

    fn told(&self, replica: &ReplicaStatus) -> Option<&Told> {
        self.told.get(&replica.incarnation?.replica)
    }

    /// Of all replicas.
    fn idle(&self) -> Option<Idle> {
        let mut all = self.status.replicas.iter().map(|it| it.idle);
        let first = all.next().flatten()?;
        all.all(|it| it.is_some()).then_some(first)
    }

    pub(crate) fn to_api(&self, agent: &AgentId, now: Instant) -> ProcessStatus {
        let state = self.state();
        let replica = self.replica();
        let all = &self.status.replicas;
        ProcessStatus {
            agent_id: agent.to_string(),
            package_id: self.made.package_id.clone(),
            package_digest: self.made.digest.to_string(),
            port: replica.incarnation.map(|it| it.port),
            grpc_port: replica.incarnation.map(|it| it.grpc_port),
            state,
            idle: self.idle().map(to_idle),
            progress: self
                .progress()
                .cloned()
                .filter(|_| state == ProcessState::Starting),
            pid: replica.incarnation.and_then(|it| it.pid),
            agent_pid: self.told(replica).and_then(|told| told.agent_pid),
            uptime: replica.ready_since.map(|since| seconds(since, now)),
            restart_count: self.restarts(),
            error: self.error().map(ToString::to_string),
            traceback: self.error().and_then(traceback),
            restart_in: all
                .iter()
                .filter_map(|it| it.restart_at)
                .min()
                .map(|at| seconds(now, at)),
            resources: None,
            egress: None,
            limits: self.limits().limits.clone(),
            isolation: self.isolation(),
            release: replica.release.0,
            replicas: self.status.desired.replicas,
            instances: self
                .status
                .all_replicas()
                .map(|it| self.replica_to_api(it, now))
                .collect(),
            canary: self.canary(),
            rollout: self.rollout(),
            role_required: self.made.options.role_required.clone().unwrap_or_default(),
            calls: self.made.options.calls.clone(),
        }
    }

    fn replica_to_api(&self, replica: &ReplicaStatus, now: Instant) -> ApiReplica {
        ApiReplica {
            slot: replica.slot,
            release: replica.release.0,
            replica: replica.incarnation.map(|it| it.replica.0),
            state: replica.state,
            idle: replica.idle.map(to_idle),
            port: replica.incarnation.map(|it| it.port),
            grpc_port: replica.incarnation.map(|it| it.grpc_port),
            pid: replica.incarnation.and_then(|it| it.pid),
            agent_pid: self.told(replica).and_then(|told| told.agent_pid),
            uptime: replica.ready_since.map(|since| seconds(since, now)),
            restart_count: replica.restart_count,
            error: replica.error.as_ref().map(ToString::to_string),
        }
    }

    fn canary(&self) -> Option<CanaryStatus> {
        let incoming = self.status.incoming.as_ref()?;
        Some(CanaryStatus {
            release: incoming.release.0,
            percent: f64::from(incoming.canary?) / 10.0,
            ready: incoming.live,
        })
    }

    fn rollout(&self) -> Option<RolloutStatus> {
        let incoming = self
            .status
            .incoming
            .as_ref()
            .filter(|it| it.canary.is_none());
        let coming = incoming.map(|it| RolloutStatus {
            release: it.release.0,
            error: None,
        });
        let failed = self.status.failed.as_ref();
        let newer = failed.filter(|(release, _)| *release > self.release());
        coming.or_else(|| {
            newer.map(|(release, cause)| RolloutStatus {
                release: release.0,
                error: Some(cause.to_string()),
            })
        })
    }
}

fn to_idle(idle: Idle) -> IdleState {
    match idle {
        Idle::Frozen => IdleState::Frozen,
        Idle::Stopped => IdleState::Stopped,
    }
}

fn seconds(earlier: Instant, later: Instant) -> f64 {
    later.saturating_duration_since(earlier).as_secs_f64()
}

pub(crate) fn traceback(cause: &EndCause) -> Option<String> {
    match cause {
        EndCause::LoadFailed { traceback, .. } => traceback.clone(),
        _ => None,
    }
}
