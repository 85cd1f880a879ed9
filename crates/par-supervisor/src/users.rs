//! Which user of the machine an agent runs as: one that nobody else is, and the same from life to life.
//!
//! Who an agent is stands on its workspace: the folder's owner. So a user is never given to another agent while
//! files of it are left.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use par_model::AgentId;

/// Users that no distribution and no container runtime gives to anybody (systemd's UIDS-GIDS.md: unused from here on).
const FIRST: u32 = 1_879_048_192;
/// Of one supervisor: one half for agents, and one for the code of their sessions. The first is its canaries', the last of
/// the first half is for agents that run alone.
const EACH: u32 = 1 << 16;
const HALF: u32 = EACH / 2;
const SUPERVISORS: u32 = (2_147_000_000 - FIRST) / EACH;

pub(crate) struct Users {
    first: u32,
    agents: PathBuf,
    /// Held while one is chosen and written down.
    choosing: Mutex<()>,
}

impl Users {
    pub(crate) fn of(state: &Path, agents: &Path) -> Self {
        Self {
            first: FIRST + share_of(state) * EACH,
            agents: agents.to_owned(),
            choosing: Mutex::default(),
        }
    }

    pub(crate) fn canary(&self) -> u32 {
        self.first
    }

    /// Of whatever runs without a supervisor.
    pub(crate) fn alone(&self) -> u32 {
        self.first + HALF - 1
    }

    /// Of the code that runs in sessions of an agent.
    pub(crate) fn of_sessions(agent: u32) -> u32 {
        agent + HALF
    }

    /// The agent's own, and its workspace made, or given to it with all that is in it.
    pub(crate) fn of_agent(&self, agent: &AgentId) -> io::Result<u32> {
        let workspace = self.agents.join(agent.as_str());
        let _chosen_one_by_one = self.choosing.lock().unwrap_or_else(PoisonError::into_inner);
        fs::create_dir_all(&workspace)?;
        // The folder above lets everybody pass where agents have no root of their own.
        fs::set_permissions(&workspace, fs::Permissions::from_mode(0o700))?;
        let owner = fs::symlink_metadata(&workspace)?.uid();
        if self.is_agents(owner) {
            return Ok(owner);
        }
        let user = free(self.first, &self.taken()?)?;
        give(&workspace, user)?;
        Ok(user)
    }

    fn is_agents(&self, user: u32) -> bool {
        user > self.first && user - self.first < HALF - 1
    }

    /// Also of those whose folder is being deleted.
    fn taken(&self) -> io::Result<BTreeSet<u32>> {
        let owner = |entry: io::Result<fs::DirEntry>| Ok(entry?.metadata()?.uid());
        fs::read_dir(&self.agents)?.map(owner).collect()
    }
}

/// By the state folder, like the name of its control group: two supervisors on a machine hardly ever share.
fn share_of(state: &Path) -> u32 {
    let bytes = state.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811c_9dc5_u32, |hash, byte| {
        (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
    }) % SUPERVISORS
}

fn free(first: u32, taken: &BTreeSet<u32>) -> io::Result<u32> {
    let mut all = first + 1..first + HALF - 1;
    let free = all.find(|user| !taken.contains(user));
    free.ok_or_else(|| io::Error::other("every user is taken"))
}

/// What has several names may have one outside, and is left to whom it belongs.
fn give(path: &Path, user: u32) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    if found.is_dir() {
        for entry in fs::read_dir(path)? {
            give(&entry?.path(), user)?;
        }
    }
    if found.is_dir() || found.nlink() == 1 {
        lchown(path, Some(user), Some(user))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::str::FromStr as _;

    fn agent(name: &str) -> AgentId {
        AgentId::from_str(name).expect("a name")
    }

    #[test]
    fn the_first_that_nobody_has_is_chosen() {
        assert_eq!(free(100, &BTreeSet::from([101, 103])).expect("one"), 102);
        let all: BTreeSet<u32> = (101..100 + HALF - 1).collect();
        assert!(free(100, &all).is_err());
    }

    #[test]
    fn an_agent_keeps_its_user_and_no_other_gets_it_while_files_are_left() {
        if !rustix::process::geteuid().is_root() {
            return; // a plain user has no others to give
        }
        let state = tempfile::tempdir().expect("a folder");
        let agents = state.path().join("agents");
        let users = Users::of(state.path(), &agents);
        let first = users.of_agent(&agent("a")).expect("one");
        let second = users.of_agent(&agent("b")).expect("another");
        assert_ne!(first, second);
        assert_eq!(
            Users::of(state.path(), &agents)
                .of_agent(&agent("a"))
                .expect("again"),
            first
        );
        fs::rename(agents.join("a"), agents.join(".gone-a")).expect("set aside");
        assert_ne!(users.of_agent(&agent("c")).expect("a third"), first);
        fs::remove_dir_all(agents.join(".gone-a")).expect("removed");
        assert_eq!(users.of_agent(&agent("d")).expect("free again"), first);
    }

    #[test]
    fn what_an_agent_had_before_is_given_to_its_user_and_links_are_not_followed() {
        if !rustix::process::geteuid().is_root() {
            return; // a plain user gives nothing away
        }
        let state = tempfile::tempdir().expect("a folder");
        let (agents, outside) = (state.path().join("agents"), state.path().join("outside"));
        fs::create_dir_all(agents.join("a/deep")).expect("made");
        fs::write(&outside, "").expect("written");
        fs::write(agents.join("a/deep/own"), "").expect("written");
        std::os::unix::fs::symlink(&outside, agents.join("a/link")).expect("linked");
        fs::hard_link(&outside, agents.join("a/hard")).expect("linked");
        let user = Users::of(state.path(), &agents)
            .of_agent(&agent("a"))
            .expect("one");
        let owner = |path: &Path| fs::metadata(path).expect("there").uid();
        assert_eq!(owner(&agents.join("a/deep/own")), user);
        assert_eq!(owner(&outside), 0);
    }
}
