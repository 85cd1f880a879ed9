//! What the agent may have of the machine: set before it runs, told as it is, and said when it was the agent's end.
//!
//! ```text
//! Guard::new ─► a group for the agent, limited ─► the confiner joins it ─► begin: the truth is told, watchdogs look
//! ```

mod watchdog;
pub(crate) mod workspace;

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use par_model::Profile;
use par_model::control::{EndCause, IsolationSpec, Report, WorkerSpec};
use par_model::isolation::{self, Isolation};
use par_model::limits::{Grouping, How, Limit, LimitName, Limits, Priority, amount};
use par_model::log::Level;
use par_sandbox::{AgentGroup, Confined, Confinement, Group};
use tokio::task::AbortHandle;

use crate::reports::Reporter;

const KILLED: i32 = 9;
/// For groups to be empty.
const LONGEST_END: Duration = Duration::from_secs(5);

pub(crate) struct Guard {
    wanted: Limits,
    required: bool,
    isolation: IsolationSpec,
    /// Why there are no groups, if there are none.
    groupless: Option<String>,
    /// Holds the agent's group, and those of its sessions.
    replica: Option<Group>,
    pub(crate) agent: AgentGroup,
    held: RefCell<Vec<Limit>>,
    workspace: PathBuf,
    reporter: Reporter,
    /// Why a watchdog has ended the agent.
    verdict: RefCell<Option<EndCause>>,
    /// Kills by the kernel that the agent itself has outlived.
    outlived: Cell<u64>,
    pid: Cell<Option<u32>>,
    watching: RefCell<Vec<AbortHandle>>,
}

impl Guard {
    pub(crate) fn new(spec: &WorkerSpec, reporter: Reporter) -> Rc<Self> {
        let (replica, groupless) = match &spec.grouping {
            Grouping::In(place) => (Some(Group::at(place.clone())), None),
            Grouping::Without { why } => (None, Some(why.clone())),
        };
        let shares = spec.wanted.cpus.is_some() || spec.wanted.priority.is_some();
        let above = replica.clone();
        let above = above.map(|group| if shares { group } else { group.without_cpu() });
        let made = above.map(|group| group.make("agent"));
        let (agent, groupless) = match made.transpose() {
            Ok(agent) => (agent, groupless),
            Err(why) => (None, Some(why)),
        };
        let guard = Self {
            wanted: spec.wanted.clone(),
            required: spec.limits_required,
            isolation: spec.isolation.clone(),
            groupless,
            replica,
            held: RefCell::default(),
            agent: AgentGroup::new(agent),
            workspace: spec.folders.workspace.clone(),
            reporter,
            verdict: RefCell::default(),
            outlived: Cell::new(0),
            pid: Cell::new(None),
            watching: RefCell::default(),
        };
        guard.held.replace(guard.set());
        Rc::new(guard)
    }

    /// Where sessions have their groups.
    pub(crate) fn replica(&self) -> Option<&Group> {
        self.replica.as_ref()
    }

    /// Refuses to begin without what is required.
    pub(crate) fn check(&self) -> Result<(), EndCause> {
        let held = self.held.borrow();
        let missing = held.iter().filter(|limit| !limit.held);
        let missing: Vec<String> = missing.map(ToString::to_string).collect();
        if !self.required || missing.is_empty() {
            return Ok(());
        }
        Err(EndCause::LimitsNotHeld {
            reason: missing.join(", "),
        })
    }

    /// What the agent's process does to itself before it becomes the agent.
    pub(crate) fn confine(&self, confinement: Confinement) -> Confinement {
        let by_watchdog = |name| self.how(name) == Some(How::Watchdog);
        Confinement {
            // Counts what is reserved, not what is used: only a bound on how far an agent gets between two looks.
            data_bytes: self
                .wanted
                .memory
                .filter(|_| by_watchdog(LimitName::Memory))
                .map(|bytes| bytes.saturating_mul(2).saturating_add(1 << 30)),
            open_files: self.wanted.open_files,
            file_bytes: self.wanted.workspace,
            niceness: match self.how(LimitName::Priority) {
                Some(How::Nice) => niceness(self.wanted.priority.unwrap_or_default()),
                _ => 0,
            },
            groups: self.agent.group().map(Group::doors).unwrap_or_default(),
            failpoint: std::env::var(par_sandbox::FAILPOINT).ok(),
            profile: self.isolation.profile,
            user: self.isolation.user,
            // Counted for each user: that is one agent's only where it has namespaces of its own.
            processes: self.wanted.pids.filter(|_| {
                by_watchdog(LimitName::Pids) && self.isolation.profile.has_namespaces()
            }),
            ..confinement
        }
    }

    /// The agent's process exists, and has said what took hold. From now on it is watched.
    pub(crate) fn begin(self: &Rc<Self>, pid: u32, confined: &Confined) -> Result<(), EndCause> {
        self.agent.begins_with(pid);
        self.pid.set(Some(pid));
        if let Some(why) = &confined.without_group {
            self.held.replace(self.without_group(why));
        }
        for (name, why) in &confined.not_held {
            self.note_not_held(*name, why);
        }
        self.tell();
        self.check()?;
        self.check_walls(confined)?;
        watchdog::start(self);
        Ok(())
    }

    /// Compares the walls that took hold with those that have to.
    fn check_walls(&self, confined: &Confined) -> Result<(), EndCause> {
        walls_of(&self.isolation, confined)?;
        let isolation = Isolation {
            required: self.isolation.minimum,
            enforced: self.isolation.profile,
            layers: confined.layers.clone(),
            missing: self.isolation.missing.clone(),
        };
        let level = match isolation.enforced {
            Profile::Unsafe => Level::Warning,
            _ => Level::Info,
        };
        self.reporter.say(level, isolation.to_string());
        self.reporter.state(Report::Isolation { isolation });
        Ok(())
    }

    fn tell(&self) {
        let limits = self.held.borrow().clone();
        if limits.is_empty() {
            return;
        }
        let words: Vec<String> = limits.iter().map(ToString::to_string).collect();
        let level = if limits.iter().all(|limit| limit.held) {
            Level::Info
        } else {
            Level::Warning
        };
        self.reporter
            .say(level, format!("limits: {}", words.join(", ")));
        self.reporter.state(Report::Limits { limits });
    }

    /// How the agent really ended.
    pub(crate) fn explain(&self, cause: EndCause) -> EndCause {
        if let Some(verdict) = self.verdict.borrow().clone() {
            return verdict;
        }
        let events = self.agent.group().map(Group::events).unwrap_or_default();
        match (&cause, self.how(LimitName::Memory)) {
            // One that had much may take longer to be gone than anybody waits for it.
            (
                EndCause::Signal { signal: KILLED, .. } | EndCause::Worker { .. },
                Some(by @ (How::Cgroup1 | How::Cgroup2)),
            ) if events.oom_kills > self.outlived.get() => {
                let limit_bytes = self.wanted.memory.unwrap_or_default();
                EndCause::OutOfMemory {
                    limit_bytes,
                    peak_bytes: events.memory_peak.unwrap_or(limit_bytes),
                    kills: events.oom_kills,
                    by,
                }
            }
            _ => cause,
        }
    }

    /// Kills all of the agent, frozen or not.
    pub(crate) fn kill(&self) {
        self.agent.kill();
    }

    /// The agent's process was waited for.
    pub(crate) fn has_ended(&self) {
        for task in self.watching.take() {
            task.abort();
        }
        self.agent.has_ended();
        self.pid.set(None);
    }

    /// Ends whatever is left in the groups, and removes them.
    pub(crate) async fn close(&self) {
        let Some(replica) = &self.replica else { return };
        if replica.end(LONGEST_END).await {
            replica.remove_empty_above();
        } else {
            let message = "the agent's control group could not be removed";
            self.reporter.say(Level::Error, message);
        }
    }

    fn how(&self, name: LimitName) -> Option<How> {
        let held = self.held.borrow();
        held.iter().find(|limit| limit.name == name)?.how
    }

    /// Sets what a group can hold, and says who holds the rest.
    fn set(&self) -> Vec<Limit> {
        let Some(agent) = self.agent.group() else {
            let why = self.groupless.as_deref().unwrap_or("no control groups");
            return self.without_group(why);
        };
        let mut limits: Vec<Limit> = agent.set(&self.wanted).into_iter().map(watched).collect();
        limits.extend(self.of_the_process());
        limits.extend(self.wanted.priority.map(|priority| {
            let by_group = self.replica.as_ref().map(|group| group.prefer(priority));
            match by_group {
                Some(Ok(how)) => Limit::held(LimitName::Priority, priority.to_string(), how),
                _ => Limit::held(LimitName::Priority, priority.to_string(), How::Nice),
            }
        }));
        limits
    }

    fn without_group(&self, why: &str) -> Vec<Limit> {
        let wanted = &self.wanted;
        let not_held = |name, asked| Limit::not_held(name, asked, why);
        let limits = [
            wanted
                .memory
                .map(|bytes| not_held(LimitName::Memory, amount(bytes))),
            wanted
                .cpus
                .map(|cpus| not_held(LimitName::Cpu, cpus.to_string())),
            wanted
                .pids
                .map(|most| not_held(LimitName::Pids, most.to_string())),
        ];
        let mut limits: Vec<Limit> = limits.into_iter().flatten().map(watched).collect();
        limits.extend(self.of_the_process());
        let nice =
            |priority: Priority| Limit::held(LimitName::Priority, priority.to_string(), How::Nice);
        limits.extend(wanted.priority.map(nice));
        limits
    }

    /// Limits that are no group's.
    fn of_the_process(&self) -> impl Iterator<Item = Limit> {
        let files = self.wanted.open_files;
        let files =
            files.map(|most| Limit::held(LimitName::OpenFiles, most.to_string(), How::Rlimit));
        let workspace = self.wanted.workspace;
        let workspace =
            workspace.map(|most| Limit::held(LimitName::Workspace, amount(most), How::Watchdog));
        files.into_iter().chain(workspace)
    }

    fn note_not_held(&self, name: LimitName, why: &str) {
        let mut held = self.held.borrow_mut();
        for limit in held.iter_mut().filter(|limit| limit.name == name) {
            *limit = Limit::not_held(name, limit.asked.clone(), why);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        for task in self.watching.take() {
            task.abort();
        }
    }
}

/// Whether all walls of the profile took hold.
pub(crate) fn walls_of(isolation: &IsolationSpec, confined: &Confined) -> Result<(), EndCause> {
    let missing = isolation::missing(isolation.profile, &confined.layers);
    if missing.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let profile = isolation.profile;
    let why = confined.without_group.as_deref();
    let why = why.map(|why| format!(" ({why})")).unwrap_or_default();
    Err(EndCause::NotIsolated {
        reason: format!(
            "profile `{profile}` is required, and this did not take hold: {}{why}",
            names.join(", ")
        ),
    })
}

/// What no group holds and a watchdog can is held by it; the reason stays.
fn watched(limit: Limit) -> Limit {
    match limit.name {
        LimitName::Memory | LimitName::Pids if !limit.held => Limit {
            held: true,
            how: Some(How::Watchdog),
            ..limit
        },
        _ => limit,
    }
}

fn niceness(priority: Priority) -> i32 {
    match priority {
        Priority::Low => 10,
        Priority::Normal => 0,
        Priority::High => -5,
    }
}
