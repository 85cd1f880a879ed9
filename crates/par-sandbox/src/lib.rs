//! Starts processes, ours and the agents', and ends them with all their descendants.
//!
//! No other crate starts a process. What is done to an agent's process happens after `exec` of the hidden
//! subcommand `__confine`: single-threaded, never in a forked copy of an async program.
//!
//! What takes hold today: a session and process group of its own, an environment made from nothing, no inherited
//! file descriptor but the channel, no core dumps, no new privileges, death with the worker, limits of the process and
//! of its control group, and where it is asked for a `/tmp` of its own ([`Confined`] says whether). What does not hold
//! yet, namespaces, Landlock and seccomp, is said by [`protections`].

mod agent;
mod agent_group;
mod birth;
mod children;
mod confine;
mod descendants;
mod exit;
mod group;
mod own;
mod private_tmp;
mod processes;
mod share;
mod target;
mod tool;
mod tree;
mod usage;

pub use agent::{AgentCommand, AgentProcess, confined, spawn_agent, try_private_tmp};
pub use agent_group::AgentGroup;
pub use birth::Birth;
pub use children::reap_orphans;
pub use confine::{Confined, Confinement, confine};
pub use descendants::{
    end_descendants, end_marked, end_orphans_of, proportional_bytes, resident_bytes, threads,
};
pub use exit::{end_cause, signal_name};
pub use group::{Group, GroupEvents, GroupUsage, Groups, OutOfMemoryNotices, Swept};
pub use own::{name_process, spawn_own, spawn_successor, spawn_worker};
pub use private_tmp::PrivateTmp;
pub use processes::{ProcessEntry, process_table};
pub use share::limit_process;
pub use target::Target;
pub use tool::{Line, ToolError, run_tool};
pub use tree::{adopt_orphans, end_strays, kill_descendants};
pub use usage::{Usage, memory_total, usage};

/// One thing that keeps an agent apart, and whether it does.
#[derive(Clone, Copy, Debug)]
pub struct Protection {
    pub name: &'static str,
    pub holds: bool,
}

/// What keeps agents apart from each other and from this machine, and what does not yet.
pub fn protections() -> [Protection; 8] {
    let protection = |name, holds| Protection { name, holds };
    [
        protection("process of its own", true),
        protection("clean environment", true),
        protection("ends with all its descendants", true),
        protection("no new privileges", true),
        protection("file system", false),
        protection("network", false),
        protection("user of its own", false),
        protection("system call filter", false),
    ]
}
