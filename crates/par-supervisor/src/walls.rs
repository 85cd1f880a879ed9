//! Which profile agents are isolated by here: the strongest that holds, tried before the first agent starts.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use par_model::control::IsolationSpec;
use par_model::{AgentId, Profile};
use par_sandbox::{Groups, Tried, try_profile};
use tokio::sync::OnceCell;
use tracing::{info, warn};

use crate::config::Settings;
use crate::users::Users;

/// For the group of a canary to be empty.
const LONGEST_END: Duration = Duration::from_secs(5);

const DELEGATE: &str = "run the supervisor as a service with control groups of its own (systemd: Delegate=yes), or as root";

/// What the operator wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsolationSettings {
    /// None: the strongest that holds here.
    pub profile: Option<Profile>,
    /// Below this nothing is started.
    pub minimum: Profile,
}

impl Default for IsolationSettings {
    fn default() -> Self {
        Self {
            profile: None,
            minimum: Profile::Restricted,
        }
    }
}

impl IsolationSettings {
    /// Those that may be used, the strongest first.
    pub fn candidates(self) -> impl Iterator<Item = Profile> {
        let wanted = move |profile: &Profile| match self.profile {
            Some(chosen) => *profile == chosen,
            None => *profile >= self.minimum,
        };
        Profile::ALL.into_iter().filter(wanted)
    }
}

pub(crate) struct Walls {
    settings: IsolationSettings,
    users: Option<Users>,
    state: PathBuf,
    found: OnceCell<Found>,
}

/// What was tried, and came of it.
#[derive(Clone, Debug)]
struct Found {
    profile: Option<Profile>,
    /// Why it is no stronger one.
    missing: Vec<String>,
}

impl Walls {
    /// `state` tells our users from those of other supervisors, `agents` has the folders that belong to them.
    pub(crate) fn new(settings: IsolationSettings, state: &Path, agents: &Path) -> Self {
        let users = rustix::process::geteuid().is_root();
        Self {
            settings,
            users: users.then(|| Users::of(state, agents)),
            state: state.to_owned(),
            found: OnceCell::new(),
        }
    }

    /// Tried once, when the first agent is to start.
    async fn found(&self, groups: &Groups) -> &Found {
        self.found.get_or_init(|| self.find(groups)).await
    }

    async fn find(&self, groups: &Groups) -> Found {
        let mut missing = vec![];
        for profile in self.settings.candidates() {
            match self.try_one(profile, groups).await {
                Tried::Holds { .. } => {
                    info!(%profile, "agents are isolated");
                    return Found {
                        profile: Some(profile),
                        missing,
                    };
                }
                Tried::Fails { why, advice } => {
                    let advice = advice.map(|advice| format!(" ({advice})"));
                    let advice = advice.unwrap_or_default();
                    missing.push(format!("not {profile}: {why}{advice}"));
                }
            }
        }
        let why = missing.join("; ");
        warn!(%why, "agents cannot be isolated here, and are not started");
        Found {
            profile: None,
            missing,
        }
    }

    async fn try_one(&self, profile: Profile, groups: &Groups) -> Tried {
        if profile == Profile::Unsafe {
            let unproven = vec![];
            return Tried::Holds { unproven };
        }
        try_walls_of(profile, self.users.as_ref().map(Users::canary), groups).await
    }

    fn refusal(&self, found: &Found) -> String {
        let least = self.settings.profile.unwrap_or(self.settings.minimum);
        let why = found.missing.join("; ");
        format!(
            "profile `{least}` is required and cannot be had here: {why}; `par doctor` says more, and [isolation] in par.toml may ask for less"
        )
    }

    /// What an agent is isolated by, with a user of its own where there are several.
    pub(crate) async fn of(
        &self,
        agent: &AgentId,
        groups: &Groups,
    ) -> Result<IsolationSpec, String> {
        let found = self.found(groups).await;
        let profile = found.profile.ok_or_else(|| self.refusal(found))?;
        let user = match &self.users {
            Some(users) if profile != Profile::Unsafe => Some(
                users
                    .of_agent(agent)
                    .map_err(|error| format!("no user for it: {error}"))?,
            ),
            _ => None,
        };
        if profile == Profile::Restricted {
            open_ways(&self.state).map_err(|error| format!("the state folder: {error}"))?;
        }
        Ok(IsolationSpec {
            profile,
            minimum: self.settings.minimum,
            user,
            session_user: user.map(Users::of_sessions),
            missing: found.missing.clone(),
        })
    }
}

/// Agents without a root of their own reach their folders through ours: they may pass, and not look around. Files in these
/// folders have permissions of their own.
fn open_ways(state: &Path) -> io::Result<()> {
    let ways = [
        "",
        "packages",
        "environments",
        "python",
        "agents",
        "sessions",
        "run",
    ];
    for way in ways.map(|way| state.join(way)) {
        match fs::set_permissions(way, fs::Permissions::from_mode(0o711)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// For an agent without a supervisor, and so without control groups. All that run alone in one state folder are one user.
pub fn walls_alone(settings: &Settings) -> Result<IsolationSpec, String> {
    let groups = Groups::none("it runs alone");
    let walls = Walls::new(settings.isolation, &settings.state, &settings.state);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let found = runtime.block_on(walls.find(&groups));
    let profile = found.profile.ok_or_else(|| walls.refusal(&found))?;
    let users = walls.users.as_ref().filter(|_| profile != Profile::Unsafe);
    let user = users.map(Users::alone);
    Ok(IsolationSpec {
        profile,
        minimum: settings.isolation.minimum,
        user,
        session_user: user.map(Users::of_sessions),
        missing: found.missing,
    })
}

/// Tries each profile that has walls here, the strongest first.
pub async fn try_walls(settings: &Settings) -> Vec<(Profile, Tried)> {
    let groups = Groups::open(
        &format!("par-doctor-{}", std::process::id()),
        settings.limits_by,
    );
    let user = rustix::process::geteuid().is_root();
    let user = user.then(|| Users::of(&settings.state, &settings.state).canary());
    let mut tried = vec![];
    for profile in Profile::ALL
        .into_iter()
        .filter(|profile| *profile != Profile::Unsafe)
    {
        tried.push((profile, try_walls_of(profile, user, &groups).await));
    }
    groups.close();
    tried
}

async fn try_walls_of(profile: Profile, user: Option<u32>, groups: &Groups) -> Tried {
    let needs_user = matches!(profile, Profile::Full | Profile::Restricted);
    if needs_user && user.is_none() {
        return fails(
            "each agent needs a user of its own, and only root has several",
            "run `par` as root",
        );
    }
    let group = (profile == Profile::Full).then(|| groups.canary());
    let group = match group.transpose() {
        Ok(group) => group,
        Err(why) => return fails(&why, DELEGATE),
    };
    let tried = try_profile(profile, user, group.as_ref()).await;
    if let Some(group) = group {
        group.end(LONGEST_END).await;
    }
    tried
}

fn fails(why: &str, advice: &str) -> Tried {
    Tried::Fails {
        why: why.to_owned(),
        advice: Some(advice.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(profile: Option<Profile>, minimum: Profile) -> Vec<Profile> {
        IsolationSettings { profile, minimum }
            .candidates()
            .collect()
    }

    #[test]
    fn nothing_below_the_minimum_is_a_candidate_and_nothing_weaker_comes_first() {
        use Profile::*;
        assert_eq!(candidates(None, Restricted), [Full, Userns, Restricted]);
        assert_eq!(candidates(None, Unsafe), [Full, Userns, Restricted, Unsafe]);
        assert_eq!(candidates(None, Full), [Full]);
        assert_eq!(candidates(Some(Unsafe), Unsafe), [Unsafe]);
        assert_eq!(candidates(Some(Userns), Restricted), [Userns]);
    }
}
