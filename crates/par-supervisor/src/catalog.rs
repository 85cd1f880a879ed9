//! What releases are made of. The fleet knows their numbers only.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use par_lifecycle::{Deployment, Release};
use par_model::api::SpawnOptions;
use par_model::control::Liveness;
use par_model::{AgentId, PackageDigest, RestartPolicy};
use par_package::Package;
use par_store::Secrets;

/// Frozen for this long, an idle agent is stopped, unless its deployment says otherwise.
const USUAL_IDLE_STOP: Duration = Duration::from_secs(600);

/// All that a deployment was given. Has no `Debug`: environment values may be secrets.
#[derive(Clone)]
pub(crate) struct Made {
    pub(crate) agent: AgentId,
    /// What the deployer calls the package.
    pub(crate) package_id: String,
    pub(crate) digest: PackageDigest,
    /// Where it is unpacked.
    pub(crate) package: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    /// Above `env`, and kept apart from everything else.
    pub(crate) secrets: Secrets,
    pub(crate) options: SpawnOptions,
    /// Such as `rollback to 3`.
    pub(crate) note: Option<String>,
    /// Why it cannot be started: something of it is gone.
    pub(crate) unusable: Option<String>,
}

/// What the deployer wants, and what the package asks for where the deployer says nothing.
pub(crate) fn with_roles_of(options: SpawnOptions, package: &Package) -> SpawnOptions {
    let asked = &package.manifest.role_required;
    let usual = (!asked.is_empty()).then(|| asked.clone());
    SpawnOptions {
        role_required: options.role_required.clone().or(usual),
        ..options
    }
}

impl Made {
    /// What the agent's environment gets from its deployer.
    pub(crate) fn variables(&self) -> BTreeMap<String, String> {
        let mut all = self.env.clone();
        all.extend(self.secrets.0.clone());
        all
    }

    pub(crate) fn idle_timeout(&self) -> Option<Duration> {
        let seconds = self.options.idle_timeout_seconds?;
        Duration::try_from_secs_f64(seconds).ok()
    }

    /// `replicas`: those of an agent whose deployer did not say how many.
    pub(crate) fn deployment(&self, release: Release, replicas: u32) -> Deployment {
        let stop = match self.options.idle_stop_seconds {
            Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            None => Some(USUAL_IDLE_STOP),
        };
        Deployment {
            release,
            replicas: self.options.replicas.unwrap_or(replicas).max(1),
            restart: self.restart_policy(),
            start_timeout: None,
            stop_when_frozen_for: stop.filter(|_| self.idle_timeout().is_some()),
        }
    }

    fn restart_policy(&self) -> RestartPolicy {
        let usual = RestartPolicy::default();
        let options = &self.options;
        let seconds = |given: Option<f64>, usual| {
            given
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
                .unwrap_or(usual)
        };
        RestartPolicy {
            mode: options.restart_policy.unwrap_or(usual.mode),
            max_restarts: options.max_restarts.unwrap_or(usual.max_restarts),
            delay: seconds(options.restart_delay_seconds, usual.delay),
            multiplier: options.backoff_multiplier.unwrap_or(usual.multiplier),
            max_delay: seconds(options.max_restart_delay_seconds, usual.max_delay),
            most_in_period: options
                .max_restarts_in_period
                .unwrap_or(usual.most_in_period),
            period: seconds(options.restart_period_seconds, usual.period),
        }
    }

    pub(crate) fn liveness(&self) -> Liveness {
        // Whoever deploys is told of what is wrong.
        self.options.liveness().unwrap_or_default()
    }
}

/// The releases that may have to be started.
#[derive(Default)]
pub(crate) struct Catalog {
    made: BTreeMap<(AgentId, Release), Arc<Made>>,
    last: HashMap<AgentId, Release>,
}

impl Catalog {
    /// The number of a new release of an agent.
    pub(crate) fn next(&mut self, agent: &AgentId) -> Release {
        let last = self.last.entry(agent.clone()).or_insert(Release(0));
        last.0 += 1;
        *last
    }

    /// Numbers up to this one were given by an earlier supervisor.
    pub(crate) fn begin_after(&mut self, agent: &AgentId, last: Release) {
        self.last.insert(agent.clone(), last);
    }

    pub(crate) fn add(&mut self, release: Release, made: Arc<Made>) {
        self.made.insert((made.agent.clone(), release), made);
    }

    /// Whether a release that was given a number is still one of the agent's: it may have been removed since.
    pub(crate) fn has_given(&self, agent: &AgentId, release: Release) -> bool {
        self.last.get(agent).is_some_and(|last| release <= *last)
    }

    /// Whether any other release of the agent may have to be started.
    pub(crate) fn has_others(&self, agent: &AgentId, release: Release) -> bool {
        let mut all = self.made.keys();
        all.any(|(other, number)| other == agent && *number != release)
    }

    pub(crate) fn remove(&mut self, agent: &AgentId, release: Release) {
        self.made.remove(&(agent.clone(), release));
    }

    /// Unless it is gone meanwhile.
    pub(crate) fn renew(&mut self, release: Release, made: Arc<Made>) {
        if let Some(before) = self.made.get_mut(&(made.agent.clone(), release)) {
            *before = made;
        }
    }

    pub(crate) fn get(&self, agent: &AgentId, release: Release) -> Option<&Arc<Made>> {
        self.made.get(&(agent.clone(), release))
    }

    /// Keeps of an agent what is in use, and what is not known to the fleet yet.
    pub(crate) fn keep(&mut self, agent: &AgentId, in_use: impl Fn(Release) -> bool) {
        let newest = self.last.get(agent).copied();
        self.made.retain(|(other, release), _| {
            other != agent || Some(*release) == newest || in_use(*release)
        });
    }

    pub(crate) fn forget(&mut self, agent: &AgentId) {
        self.last.remove(agent);
        self.made.retain(|(other, _), _| other != agent);
    }
}
