//! What releases are made of. The fleet knows their numbers only.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use par_lifecycle::{Deployment, Release};
use par_model::api::SpawnOptions;
use par_model::{AgentId, PackageDigest, RestartPolicy};

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
    pub(crate) options: SpawnOptions,
}

impl Made {
    pub(crate) fn restart_policy(&self) -> RestartPolicy {
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
        }
    }
}

#[derive(Default)]
pub(crate) struct Catalog {
    made: BTreeMap<Release, Arc<Made>>,
    last: u64,
}

impl Catalog {
    pub(crate) fn add(&mut self, made: Made) -> (Release, Deployment) {
        self.last += 1;
        let release = Release(self.last);
        let deployment = Deployment {
            release,
            restart: made.restart_policy(),
            start_timeout: None,
        };
        self.made.insert(release, Arc::new(made));
        (release, deployment)
    }

    pub(crate) fn get(&self, release: Release) -> Option<&Arc<Made>> {
        self.made.get(&release)
    }

    pub(crate) fn remove(&mut self, release: Release) {
        self.made.remove(&release);
    }

    /// Keeps of every agent that `is_known` its newest release, which may not have begun yet, and those in use.
    pub(crate) fn keep(
        &mut self,
        is_known: impl Fn(&AgentId) -> bool,
        in_use: impl Fn(Release) -> bool,
    ) {
        let newest: HashMap<AgentId, Release> = self
            .made
            .iter()
            .map(|(release, made)| (made.agent.clone(), *release))
            .collect();
        self.made.retain(|release, made| {
            is_known(&made.agent) && (newest.get(&made.agent) == Some(release) || in_use(*release))
        });
    }
}
