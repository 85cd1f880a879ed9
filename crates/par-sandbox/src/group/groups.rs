//! The group of all agents of one supervisor, below the group that the supervisor itself is in.

use std::io;
use std::path::Path;
use std::time::Duration;

use par_model::limits::{Controller, GroupPart, GroupPlace, GroupVersion, Grouping, LimitsBy};
use tracing::{info, warn};

use super::files::{read, reason, write};
use super::layout::Layout;
use super::one::{Group, make_folder, names_in};

/// Where the supervisor itself goes in version 2: a group that passes controllers on may have no processes in it.
const OWN_LEAF: &str = "par-supervisor";
/// For a group of an earlier life to end.
const LONGEST_SWEEP: Duration = Duration::from_secs(5);
/// What limits are made of.
const WANTED: [Controller; 3] = [Controller::Memory, Controller::Cpu, Controller::Pids];

/// Whoever has this makes a group for each replica.
pub struct Groups {
    root: Result<Group, String>,
}

/// What a sweep found of an earlier life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Groups that are gone now.
    pub removed: Vec<String>,
    /// Groups that would not go.
    pub left: Vec<String>,
}

impl Groups {
    /// Makes the group `name`, or says later why there can be none. Groups of an earlier life stay in it.
    pub fn open(name: &str, by: LimitsBy) -> Self {
        Self::open_in(&Layout::here(), name, by)
    }

    /// For who has none.
    pub fn none(why: &str) -> Self {
        Self {
            root: Err(why.to_owned()),
        }
    }

    fn open_in(layout: &Layout, name: &str, by: LimitsBy) -> Self {
        let root = match by {
            LimitsBy::Rlimits => Err("limits_by is `rlimits`".to_owned()),
            LimitsBy::Cgroup2 => in_version_2(layout, name),
            LimitsBy::Cgroup1 => in_version_1(layout, name, Freezing::ByVersion1),
            LimitsBy::Auto if layout.v1.is_empty() => in_version_2(layout, name),
            // Memory matters most: where both versions have some controllers, the one that has that.
            LimitsBy::Auto if layout.v2.as_deref().is_some_and(offers_memory) => {
                in_version_2(layout, name)
                    .or_else(|_| in_version_1(layout, name, Freezing::ByVersion2))
            }
            LimitsBy::Auto => in_version_1(layout, name, Freezing::ByVersion2),
        };
        Self { root }
    }

    /// Why agents have no groups here.
    pub fn why_not(&self) -> Option<&str> {
        self.root.as_ref().err().map(String::as_str)
    }

    /// Makes the group of a replica.
    pub fn make(&self, replica: u64) -> Grouping {
        let try_it = || {
            let root = self.root.as_ref().map_err(String::clone)?;
            make_all(root).and_then(|()| root.pass_on())?;
            let group = root.make(&replica.to_string())?;
            weigh(root);
            group.pass_on().map(|()| group)
        };
        // A worker that ends removes the root when it is empty, and that may be just now.
        match try_it().or_else(|_| try_it()).or_else(|_| try_it()) {
            Ok(group) => Grouping::In(group.place().clone()),
            Err(why) => Grouping::Without { why },
        }
    }

    /// The group of a replica, whether or not it is there.
    pub fn of(&self, replica: u64) -> Option<Group> {
        let root = self.root.as_ref().ok()?;
        Some(root.below(&replica.to_string()))
    }

    /// A group of its own for one that tries the walls.
    pub fn canary(&self) -> Result<Group, String> {
        let root = self.root.as_ref().map_err(String::clone)?;
        make_all(root).and_then(|()| root.pass_on())?;
        root.make(&format!("canary-{}", std::process::id()))
    }

    /// Ends what an earlier life left, but for the groups of the replicas to `keep`.
    pub async fn sweep(&self, keep: &[u64]) -> Swept {
        let mut swept = Swept::default();
        let Ok(root) = &self.root else { return swept };
        for name in root.names_below() {
            if name.parse().is_ok_and(|replica| keep.contains(&replica)) {
                continue;
            }
            if root.below(&name).end(LONGEST_SWEEP).await {
                info!(group = name, "ended what an earlier life left");
                swept.removed.push(name);
            } else {
                warn!(group = name, "a group of an earlier life would not end");
                swept.left.push(name);
            }
        }
        self.close(); // It is made anew for the first replica.
        swept
    }

    /// Removes the group of all agents, if nobody is in it any more.
    pub fn close(&self) {
        if let Ok(root) = &self.root {
            for part in &root.place().parts {
                // It is not empty, or somebody was faster.
                let _stays = std::fs::remove_dir(&part.folder);
            }
        }
    }
}

/// All agents together get as many turns as they are, where they take turns with single processes. Where the supervisor
/// has stepped aside it is one group and they are another, which is fair as it is.
fn weigh(root: &Group) {
    let Ok(part) = root.part_with(Controller::Cpu) else {
        return;
    };
    let beside = part.folder.with_file_name(OWN_LEAF);
    let (file, each, most) = match part.version {
        GroupVersion::One => ("cpu.shares", 1024, 262_144),
        GroupVersion::Two if beside.exists() => return,
        GroupVersion::Two => ("cpu.weight", 100, 10_000),
    };
    let count = names_in(&part.folder).len().max(1);
    let weight = (each * count).min(most).to_string();
    if let Err(error) = write(&part.folder, file, &weight) {
        warn!(%error, "agents have fewer turns on the processors than they should");
    }
}

fn make_all(group: &Group) -> Result<(), String> {
    for part in &group.place().parts {
        make_folder(&part.folder).map_err(|error| reason(&error, "make", &part.folder))?;
    }
    Ok(())
}

/// Who stops processes where controllers are of version 1.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Freezing {
    ByVersion1,
    /// Where there is a hierarchy of version 2 too. What it stops can be killed without being thawed.
    ByVersion2,
}

fn in_version_1(layout: &Layout, name: &str, freezing: Freezing) -> Result<Group, String> {
    if layout.v1.is_empty() {
        return Err("there is no hierarchy of control groups version 1".to_owned());
    }
    let mut place = GroupPlace::default();
    let helper = layout.v2.as_ref().filter(|folder| {
        freezing == Freezing::ByVersion2 && try_group(&base(folder).join(name)).is_ok()
    });
    let freezer = helper.is_none().then_some(Controller::Freezer);
    for controller in WANTED.into_iter().chain(freezer) {
        let found = layout.v1.get(&controller).ok_or_else(|| {
            let name = controller.name();
            format!("there is no {name} controller of version 1")
        });
        let made = found.and_then(|folder| {
            let folder = folder.join(name);
            make_folder(&folder).map_err(|error| reason(&error, "make", &folder))?;
            Ok(folder)
        });
        match made {
            Ok(folder) => add(&mut place, controller, folder),
            Err(why) => place.missing.push((controller, why)),
        }
    }
    let limits = |part: &GroupPart| part.controllers != [Controller::Freezer];
    if !place.parts.iter().any(limits) {
        let whys = place.missing.iter().map(|(_, why)| why.as_str());
        return Err(whys.collect::<Vec<_>>().join("; "));
    }
    place.parts.extend(helper.map(|folder| GroupPart {
        version: GroupVersion::Two,
        controllers: vec![],
        folder: base(folder).join(name),
    }));
    Ok(Group::at(place))
}

/// Several controllers of version 1 may share one hierarchy.
fn add(place: &mut GroupPlace, controller: Controller, folder: std::path::PathBuf) {
    let known = place.parts.iter_mut().find(|part| part.folder == folder);
    match known {
        Some(part) => part.controllers.push(controller),
        None => place.parts.push(GroupPart {
            version: GroupVersion::One,
            controllers: vec![controller],
            folder,
        }),
    }
}

/// A hierarchy that only helps has to be able to: to be written, and to kill.
fn try_group(folder: &Path) -> io::Result<()> {
    make_folder(folder)?;
    for file in ["cgroup.freeze", "cgroup.kill"] {
        if !folder.join(file).exists() {
            std::fs::remove_dir(folder)?;
            return Err(io::ErrorKind::Unsupported.into());
        }
    }
    Ok(())
}

fn offers_memory(own: &Path) -> bool {
    offered(base(own)).contains(&Controller::Memory)
}

/// Controllers of version 2 that a group could pass on.
fn offered(base: &Path) -> Vec<Controller> {
    let text = read(base, "cgroup.controllers").unwrap_or_default();
    let names: Vec<&str> = text.split_ascii_whitespace().collect();
    let offers = |controller: &Controller| names.contains(&controller.name());
    WANTED.into_iter().filter(offers).collect()
}

fn in_version_2(layout: &Layout, name: &str) -> Result<Group, String> {
    let Some(own) = &layout.v2 else {
        return Err("there is no hierarchy of control groups version 2".to_owned());
    };
    let base = base(own);
    let controllers = offered(base);
    let missing = WANTED
        .into_iter()
        .filter(|controller| !controllers.contains(controller));
    if controllers.is_empty() {
        return Err(format!("{} has no controllers to give", base.display()));
    }
    let why = |controller: Controller| {
        let why = format!("{} has no {} controller", base.display(), controller.name());
        (controller, why)
    };
    let missing: Vec<_> = missing.map(why).collect();
    let above = Group::at(GroupPlace {
        parts: vec![GroupPart {
            version: GroupVersion::Two,
            controllers,
            folder: base.to_owned(),
        }],
        missing,
    });
    if above.pass_on().is_err() {
        step_aside(base)?;
        above.pass_on().map_err(|why| {
            step_back(base);
            format!("{why} (do others live in the supervisor's own group? run it as a service of its own, with Delegate=yes)")
        })?;
    }
    let root = above.make(name)?;
    root.pass_on()?;
    Ok(root)
}

/// The group that ours lies in, when the supervisor has stepped aside already.
fn base(own: &Path) -> &Path {
    match own.parent() {
        Some(parent) if own.file_name().is_some_and(|name| name == OWN_LEAF) => parent,
        _ => own,
    }
}

fn step_aside(base: &Path) -> Result<(), String> {
    let leaf = base.join(OWN_LEAF);
    make_folder(&leaf).map_err(|error| reason(&error, "make", &leaf))?;
    let moved = write(&leaf, "cgroup.procs", "0");
    moved.map_err(|error| reason(&error, "enter", &leaf))
}

/// It was for nothing.
fn step_back(base: &Path) {
    let back = write(base, "cgroup.procs", "0");
    if let Err(error) = back.and_then(|()| std::fs::remove_dir(base.join(OWN_LEAF))) {
        warn!(%error, "failed to go back into our own control group");
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
