//! All processes of one agent, as one thing that can be stopped for a while and go on.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tokio::sync::Notify;

use crate::descendants::{descendants, state_of};
use crate::group::Group;
use crate::tree::{kill, kill_descendants};

/// For processes to be seen stopped; usually it takes less than a millisecond.
const LONGEST_STOP: Duration = Duration::from_millis(20);
const PAUSE: Duration = Duration::from_micros(100);

/// Stops and goes on within milliseconds, and waits for that on the spot. Without a control group, by signals to all
/// processes below the first.
#[derive(Debug, Default)]
pub struct AgentGroup {
    group: Option<Group>,
    first: Cell<Option<u32>>,
    frozen: Cell<bool>,
    thawed: Notify,
}

impl AgentGroup {
    pub fn new(group: Option<Group>) -> Self {
        Self {
            group,
            ..Self::default()
        }
    }

    pub fn group(&self) -> Option<&Group> {
        self.group.as_ref()
    }

    /// The process that all others come from.
    pub fn begins_with(&self, pid: u32) {
        self.first.set(Some(pid));
    }

    /// Kills all of it, frozen or not.
    pub fn kill(&self) {
        if let Some(group) = &self.group {
            group.kill();
        }
        if let Some(first) = self.first.get() {
            kill_descendants(first);
            kill(first, Signal::KILL);
        }
    }

    /// The first process was waited for: its number may be another's from now on.
    pub fn has_ended(&self) {
        self.first.set(None);
    }

    pub fn is_frozen(&self) -> bool {
        self.frozen.get()
    }

    /// From its return on nothing of the agent runs, or hardly anything: one that is in the kernel's hands stops when
    /// it leaves them.
    pub fn freeze(&self) -> io::Result<()> {
        match &self.group {
            Some(group) if group.can_freeze() => group.freeze()?,
            _ => self.first.get().map_or((), stop),
        }
        self.frozen.set(true);
        Ok(())
    }

    /// Does no harm to one that is not frozen.
    pub fn thaw(&self) -> io::Result<()> {
        match &self.group {
            Some(group) if group.can_freeze() => group.thaw()?,
            _ => self.first.get().map_or((), go_on),
        }
        self.frozen.set(false);
        self.thawed.notify_waiters();
        Ok(())
    }

    /// Waits until it is not frozen: what cannot run need not be looked at.
    pub async fn until_thawed(&self) {
        loop {
            let thawed = self.thawed.notified();
            if !self.frozen.get() {
                return;
            }
            thawed.await;
        }
    }
}

/// The first one first, so that it starts no others meanwhile; then all that are found, until there are no new ones.
fn stop(first: u32) {
    let give_up = Instant::now() + LONGEST_STOP;
    let mut told = BTreeSet::new();
    loop {
        let all = [first].into_iter().chain(descendants(first));
        let new: Vec<u32> = all.filter(|pid| told.insert(*pid)).collect();
        for pid in &new {
            kill(*pid, Signal::STOP);
        }
        let have_stopped = told.iter().all(|pid| has_stopped(*pid));
        if (new.is_empty() && have_stopped) || Instant::now() >= give_up {
            return;
        }
        std::thread::sleep(PAUSE);
    }
}

fn has_stopped(pid: u32) -> bool {
    matches!(state_of(pid), Some('T' | 't' | 'Z' | 'X') | None)
}

/// The first one last: it finds its children as it left them.
fn go_on(first: u32) {
    for pid in descendants(first).into_iter().rev().chain([first]) {
        kill(pid, Signal::CONT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead as _, BufReader};
    use std::process::{Child, Command, Stdio};
    use std::sync::mpsc;

    use par_model::limits::{Grouping, LimitsBy};

    use crate::Groups;

    /// Counts as fast as it can, in a child of its own, and says every number; in `group` if there is one.
    fn counter(group: Option<&Group>) -> (Child, mpsc::Receiver<String>) {
        let script = r#"for door; do echo 0 > "$door"; done
            sh -c 'i=0; while true; do i=$((i+1)); echo $i; done' & wait"#;
        let mut child = Command::new("/bin/sh")
            .args(["-c", script, "sh"])
            .args(group.map(Group::doors).unwrap_or_default())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (said, heard) = mpsc::sync_channel(0);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if said.send(line).is_err() {
                    return;
                }
            }
        });
        (child, heard)
    }

    /// Reads on until nothing comes any more: what was written before lies in the pipe.
    fn silence(heard: &mpsc::Receiver<String>) {
        while heard.recv_timeout(Duration::from_millis(100)).is_ok() {}
    }

    /// Also when a test fails nothing of it goes on.
    struct Ends<'a>(&'a AgentGroup);

    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.kill();
        }
    }

    fn stops_and_goes_on(agent: &AgentGroup, heard: &mpsc::Receiver<String>) {
        heard.recv_timeout(Duration::from_secs(10)).expect("runs");
        let mut quickest = Duration::MAX;
        for _ in 0..5 {
            agent.freeze().expect("frozen");
            silence(heard);
            assert!(heard.try_recv().is_err(), "no progress");
            let began = Instant::now();
            agent.thaw().expect("thawed");
            heard
                .recv_timeout(Duration::from_secs(10))
                .expect("goes on");
            quickest = quickest.min(began.elapsed());
        }
        // Other tests use the machine too: that is not ours to measure.
        assert!(
            quickest < Duration::from_millis(10),
            "running again after {quickest:?}"
        );
    }

    #[test]
    fn without_groups_a_tree_of_processes_stops_and_goes_on() {
        let (mut child, heard) = counter(None);
        let agent = AgentGroup::new(None);
        agent.begins_with(child.id());
        let _ends = Ends(&agent);
        stops_and_goes_on(&agent, &heard);
        agent.kill();
        child.wait().expect("waited for");
        agent.has_ended();
    }

    #[tokio::test]
    async fn a_group_stops_and_goes_on_in_every_mode_of_this_machine() {
        for by in [LimitsBy::Auto, LimitsBy::Cgroup1, LimitsBy::Cgroup2] {
            let name = format!("par-test-freeze-{by:?}-{}", std::process::id());
            let groups = Groups::open(&name, by);
            let Grouping::In(place) = groups.make(1) else {
                assert!(groups.why_not().is_some(), "the reason is known");
                continue;
            };
            let group = Group::at(place).make("agent").expect("made");
            let (mut child, heard) = counter(Some(&group));
            let agent = AgentGroup::new(Some(group.clone()));
            agent.begins_with(child.id());
            let _ends = Ends(&agent);
            stops_and_goes_on(&agent, &heard);
            // One that is frozen is ended all the same.
            agent.freeze().expect("frozen");
            assert!(
                groups
                    .of(1)
                    .expect("there")
                    .end(Duration::from_secs(10))
                    .await
            );
            child.wait().expect("waited for");
            agent.has_ended();
            groups.close();
            for part in &group.place().parts {
                let root = part.folder.parent().and_then(std::path::Path::parent);
                assert!(!root.expect("below the root").exists(), "nothing is left");
            }
        }
    }
}
