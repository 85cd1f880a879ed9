//! Starts processes, ours and the agents', and ends them with all their descendants.
//!
//! No other crate starts a process. What is done to an agent's process happens after `exec` of the hidden
//! subcommand `__confine`: single-threaded, never in a forked copy of an async program.

mod advice;
mod agent;
mod agent_group;
mod birth;
mod canary;
mod children;
mod confine;
mod descendants;
mod exit;
mod group;
mod installer;
mod own;
mod private_tmp;
mod processes;
mod share;
mod target;
mod tool;
mod tree;
mod usage;

pub use agent::{AgentProcess, spawn_agent};
pub use agent_group::AgentGroup;
pub use birth::Birth;
pub use canary::{Reach, Tried, try_profile, victim};
pub use children::reap_orphans;
pub use confine::{Confined, Confinement, Gate, Plan, Program, View, confine};
pub use descendants::{
    end_descendants, end_marked, end_orphans_of, proportional_bytes, resident_bytes, threads,
};
pub use exit::{end_cause, signal_name};
pub use group::{Group, GroupEvents, GroupUsage, Groups, OutOfMemoryNotices, Swept};
pub use installer::run_confined_tool;
pub use own::{
    FAILPOINT, leave_no_core_file, name_process, spawn_own, spawn_successor, spawn_worker,
    tool_variables,
};
pub use private_tmp::PrivateTmp;
pub use processes::{ProcessEntry, process_table};
pub use share::limit_process;
pub use target::Target;
pub use tool::{Line, ToolError, run_tool};
pub use tree::{adopt_orphans, end_strays, kill_descendants};
pub use usage::{Usage, memory_total, usage};
