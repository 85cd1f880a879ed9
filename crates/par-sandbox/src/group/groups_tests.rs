use super::*;

use std::fs;
use std::process::{Command, Stdio};

use par_model::limits::{How, Limit, LimitName, Limits, Priority};

const LIMITS: Limits = Limits {
    memory: Some(64 << 20),
    cpus: Some(0.5),
    pids: Some(20),
    open_files: None,
    workspace: None,
    priority: None,
};

/// A folder that looks like the kernel's, as far as files are written.
fn fake(base: &Path, folders: &[&str], files: &[&str]) {
    for folder in folders {
        fs::create_dir_all(base.join(folder)).expect("made");
        for file in files {
            fs::write(base.join(folder).join(file), "").expect("written");
        }
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).expect("read")
}

#[test]
fn in_version_2_controllers_are_passed_on_and_limits_are_written() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = folder.path();
    let folders = ["", "par-x", "par-x/7", "par-x/7/agent"];
    let files = [
        "cgroup.subtree_control",
        "memory.max",
        "memory.swap.max",
        "cpu.max",
        "cpu.weight",
        "pids.max",
    ];
    fake(base, &folders, &files);
    fs::write(base.join("cgroup.controllers"), "cpuset cpu io memory pids").expect("written");
    let layout = Layout {
        v2: Some(base.to_owned()),
        ..Layout::default()
    };
    let groups = Groups::open_in(&layout, "par-x", LimitsBy::Auto);
    assert_eq!(groups.why_not(), None);
    let Grouping::In(place) = groups.make(7) else {
        panic!("there is a group");
    };
    for folder in ["", "par-x", "par-x/7"] {
        let passed_on = text(&base.join(folder).join("cgroup.subtree_control"));
        assert_eq!(passed_on, "+memory +cpu +pids", "{folder}");
    }
    let replica = Group::at(place);
    assert_eq!(replica.prefer(Priority::High), Ok(How::Cgroup2));
    let agent = replica.make("agent").expect("made");
    let said = agent.set(&LIMITS);
    let expected = [
        Limit::held(LimitName::Memory, "64 MiB", How::Cgroup2),
        Limit::held(LimitName::Cpu, "0.5", How::Cgroup2),
        Limit::held(LimitName::Pids, "20", How::Cgroup2),
    ];
    assert_eq!(said, expected);
    let agent = base.join("par-x/7/agent");
    for (file, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("cpu.max", "50000 100000"),
        ("pids.max", "20"),
    ] {
        assert_eq!(text(&agent.join(file)), value, "{file}");
    }
    assert_eq!(text(&base.join("par-x/7/cpu.weight")), "400");
}

#[test]
fn what_the_kernel_noted_of_a_group_of_version_2_is_read() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let write = |file: &str, text: &str| fs::write(folder.path().join(file), text).expect("ok");
    write(
        "memory.events",
        "low 0\nhigh 0\nmax 12\noom 2\noom_kill 2\n",
    );
    write("memory.peak", "67108864\n");
    write("pids.events", "max 3\n");
    write("memory.current", "1000\n");
    write("pids.current", "5\n");
    let group = Group::at(GroupPlace {
        parts: vec![GroupPart {
            version: GroupVersion::Two,
            controllers: WANTED.to_vec(),
            folder: folder.path().to_owned(),
        }],
        missing: vec![],
    });
    let events = group.events();
    assert_eq!(
        (events.oom_kills, events.memory_peak, events.forks_refused),
        (2, Some(64 << 20), 3)
    );
    assert_eq!(
        (group.usage().memory, group.usage().pids),
        (Some(1000), Some(5))
    );
}

#[test]
fn a_controller_that_is_not_given_is_named_and_the_others_hold() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let base = folder.path();
    let folders = ["", "par-x", "par-x/1", "par-x/1/agent"];
    fake(base, &folders, &["cgroup.subtree_control", "pids.max"]);
    fs::write(base.join("cgroup.controllers"), "pids\n").expect("written");
    let layout = Layout {
        v2: Some(base.to_owned()),
        ..Layout::default()
    };
    let groups = Groups::open_in(&layout, "par-x", LimitsBy::Cgroup2);
    let agent = groups.of(1).expect("a group").below("agent");
    let said = agent.set(&LIMITS);
    let held: Vec<bool> = said.iter().map(|limit| limit.held).collect();
    assert_eq!(held, [false, false, true]);
    let why = said[0].why.as_deref().expect("a reason");
    assert!(why.ends_with("has no memory controller"), "{why}");
}

#[test]
fn without_any_hierarchy_the_reason_is_said() {
    let layout = Layout::default();
    for (by, words) in [
        (LimitsBy::Auto, "no hierarchy"),
        (LimitsBy::Cgroup1, "version 1"),
        (LimitsBy::Cgroup2, "version 2"),
        (LimitsBy::Rlimits, "limits_by"),
    ] {
        let groups = Groups::open_in(&layout, "par-x", by);
        let why = groups.why_not().expect("a reason");
        assert!(why.contains(words), "{why}");
        assert_eq!(
            groups.make(1),
            Grouping::Without {
                why: why.to_owned()
            }
        );
    }
}

#[test]
fn a_supervisor_that_has_stepped_aside_finds_its_base_again() {
    assert_eq!(base(Path::new("/a/par-supervisor")), Path::new("/a"));
    assert_eq!(base(Path::new("/a/b")), Path::new("/a/b"));
}

/// Groups of this machine, for each mode that it offers to this user.
fn real(test: &str) -> Vec<(Groups, LimitsBy)> {
    let modes = [LimitsBy::Auto, LimitsBy::Cgroup1, LimitsBy::Cgroup2];
    let open = |by: LimitsBy| {
        let name = format!("par-test-{test}-{by:?}-{}", std::process::id());
        (Groups::open(&name, by), by)
    };
    let offered = modes.map(open).into_iter();
    let offered = offered.filter(|(groups, _)| groups.why_not().is_none());
    offered.collect()
}

fn begin(group: &Group, script: &str) -> std::process::Child {
    let script = format!("for door; do echo 0 > $door; done; {script}");
    Command::new("/bin/sh")
        .args(["-c", &script, "sh"])
        .args(group.doors())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

fn made(groups: &Groups, replica: u64) -> Group {
    match groups.make(replica) {
        Grouping::In(place) => Group::at(place),
        Grouping::Without { why } => panic!("{why}"),
    }
}

#[tokio::test]
async fn a_group_really_ends_what_wants_too_much_memory_and_counts_it() {
    for (groups, by) in real("memory") {
        let group = made(&groups, 1).make("agent").expect("made");
        let said = group.set(&LIMITS);
        if !said
            .iter()
            .any(|it| it.name == LimitName::Memory && it.held)
        {
            continue; // no such controller here; the test of that is another
        }
        let mut notices = group.out_of_memory_notices().expect("asked for");
        // Half a gigabyte in one shell variable.
        let mut child = begin(
            &group,
            "exec head -c 536870912 /dev/zero | tail > /dev/null",
        );
        let notice = tokio::time::timeout(Duration::from_secs(20), notices.next());
        notice.await.expect("a notice comes").expect("heard");
        child.wait().expect("waited for");
        let events = group.events();
        assert!(events.oom_kills >= 1, "{by:?}: {events:?}");
        let peak = events.memory_peak.expect("known");
        assert!((48 << 20..=64 << 20).contains(&peak), "{by:?}: {peak}");
        assert!(
            groups
                .of(1)
                .expect("there")
                .end(Duration::from_secs(10))
                .await
        );
        groups.close();
    }
}

#[tokio::test]
async fn a_group_bounds_its_processes_and_a_sweep_ends_them() {
    for (groups, by) in real("pids") {
        let group = made(&groups, 3).make("agent").expect("made");
        group.set(&LIMITS);
        let script = "i=0; while [ $i -lt 40 ]; do i=$((i+1)); sleep 1000 & done; wait";
        let mut child = begin(&group, script);
        let give_up = std::time::Instant::now() + Duration::from_secs(20);
        while group.events().forks_refused == 0 && std::time::Instant::now() < give_up {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(group.events().forks_refused > 0, "{by:?}");
        assert!(group.pids().len() <= 20);
        made(&groups, 4);
        let swept = groups.sweep(&[4]).await;
        assert_eq!((swept.removed, swept.left), (vec!["3".to_owned()], vec![]));
        child.wait().expect("waited for");
        assert_eq!(groups.sweep(&[]).await.removed, ["4"]);
        groups.close();
        for part in &group.place().parts {
            let root = part.folder.parent().and_then(Path::parent);
            assert!(!root.expect("below the root").exists(), "nothing is left");
        }
    }
}

#[tokio::test]
async fn a_group_costs_less_than_two_milliseconds() {
    for (groups, by) in real("cost") {
        made(&groups, 0);
        let began = std::time::Instant::now();
        for replica in 1..=20 {
            let agent = made(&groups, replica).make("agent").expect("made");
            agent.set(&LIMITS);
        }
        let each = began.elapsed() / 20;
        // Tests run beside each other: a machine that is left alone takes a third of it.
        assert!(each < Duration::from_millis(6), "{by:?}: {each:?}");
        eprintln!("{by:?}: {each:?} a group");
        groups.sweep(&[]).await;
        groups.close();
    }
}
