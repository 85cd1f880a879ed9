//! Which hierarchies of control groups there are, and where in them this process is: read from `/proc/self/mountinfo`
//! and `/proc/self/cgroup`.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use par_model::limits::Controller;

const CONTROLLERS: [Controller; 4] = [
    Controller::Memory,
    Controller::Cpu,
    Controller::Pids,
    Controller::Freezer,
];

/// The folders of the groups that this process is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Of the one hierarchy of version 2, which need not have any controllers.
    pub(crate) v2: Option<PathBuf>,
    /// Of each controller of version 1.
    pub(crate) v1: BTreeMap<Controller, PathBuf>,
}

impl Layout {
    pub(crate) fn here() -> Self {
        let read = |file: &str| fs::read_to_string(file).unwrap_or_default();
        Self::parse(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
    }

    fn parse(mountinfo: &str, cgroup: &str) -> Self {
        let memberships: Vec<Membership<'_>> =
            cgroup.lines().filter_map(Membership::parse).collect();
        let mut layout = Self::default();
        for mount in mountinfo.lines().filter_map(Mount::parse) {
            let own = |wanted: &str| {
                let found = memberships
                    .iter()
                    .find(|it| it.controllers.split(',').any(|name| name == wanted));
                mount.folder_of(found?.path)
            };
            match mount.kind {
                "cgroup2" => layout.v2 = layout.v2.or_else(|| own("")),
                _ => {
                    for controller in CONTROLLERS {
                        if mount.has(controller.name())
                            && let Some(folder) = own(controller.name())
                        {
                            layout.v1.entry(controller).or_insert(folder);
                        }
                    }
                }
            }
        }
        layout
    }
}

/// A line of `/proc/self/cgroup`: `4:memory:/some/group`, `0::/some/group` in version 2.
struct Membership<'a> {
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Membership<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (_hierarchy, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        Some(Self { controllers, path })
    }
}

/// A line of `/proc/self/mountinfo` that is about control groups.
struct Mount<'a> {
    kind: &'a str,
    /// The group that is seen at the mount's place.
    root: String,
    place: String,
    options: &'a str,
}

impl<'a> Mount<'a> {
    /// `35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory`, with optional fields before the dash.
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, place) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let (kind, _source, options) = (right.next()?, right.next()?, right.next()?);
        matches!(kind, "cgroup" | "cgroup2").then(|| Self {
            kind,
            root: unescaped(root),
            place: unescaped(place),
            options,
        })
    }

    fn has(&self, controller: &str) -> bool {
        self.options.split(',').any(|option| option == controller)
    }

    /// Where a group is seen; a container may see a part of the hierarchy only.
    fn folder_of(&self, group: &str) -> Option<PathBuf> {
        let group = Path::new(group);
        if group.components().any(|part| part.as_os_str() == "..") {
            return None; // outside of what this namespace sees
        }
        let below = group.strip_prefix(&self.root).ok()?;
        Some(Path::new(&self.place).join(below))
    }
}

/// Spaces and the like are written as `\040`.
fn unescaped(text: &str) -> String {
    let mut pieces = text.split('\\');
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece.get(..3);
        match code.and_then(|code| u8::from_str_radix(code, 8).ok()) {
            Some(byte) => {
                whole.push(char::from(byte));
                whole.push_str(&piece[3..]);
            }
            None => {
                whole.push('\\');
                whole.push_str(piece);
            }
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v1(folders: &[(Controller, &str)]) -> BTreeMap<Controller, PathBuf> {
        let owned = |(controller, folder): &(Controller, &str)| (*controller, folder.into());
        folders.iter().map(owned).collect()
    }

    #[test]
    fn a_unified_machine_has_one_hierarchy() {
        let layout = Layout::parse(
            "24 1 0:22 / /proc rw - proc proc rw\n\
             30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n",
            "0::/system.slice/par.service\n",
        );
        assert_eq!(
            layout.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/system.slice/par.service"))
        );
        assert!(layout.v1.is_empty());
    }

    #[test]
    fn a_hybrid_machine_has_controllers_of_version_1_each_with_a_group_of_its_own() {
        let layout = Layout::parse(
            "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n\
             32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n\
             39 31 0:36 / /sys/fs/cgroup/pids rw,relatime - cgroup cgroup rw,pids\n\
             40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n\
             41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n",
            "9:name=systemd:/\n8:pids:/\n4:memory:/api/7\n1:cpu,cpuacct:/\n0::/\n",
        );
        assert_eq!(
            layout.v2.as_deref(),
            Some(Path::new("/sys/fs/cgroup/unified"))
        );
        let expected = v1(&[
            (Controller::Memory, "/sys/fs/cgroup/memory/api/7"),
            (Controller::Cpu, "/sys/fs/cgroup/cpu,cpuacct"),
            (Controller::Pids, "/sys/fs/cgroup/pids"),
        ]);
        assert_eq!(layout.v1, expected);
    }

    #[test]
    fn a_container_sees_its_own_part_of_a_hierarchy() {
        let layout = Layout::parse(
            "700 690 0:32 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n\
             701 690 0:33 /docker/abc /sys/fs/cgroup/freezer ro - cgroup cgroup rw,freezer\n",
            "4:memory:/docker/abc/inner\n5:freezer:/docker/abc\n",
        );
        let expected = v1(&[
            (Controller::Memory, "/sys/fs/cgroup/memory/inner"),
            (Controller::Freezer, "/sys/fs/cgroup/freezer"),
        ]);
        assert_eq!(layout.v1, expected);
    }

    #[test]
    fn a_group_outside_of_what_is_seen_is_none() {
        let mounts = "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                      35 31 0:32 /docker/abc /memory rw - cgroup cgroup rw,memory\n";
        let layout = Layout::parse(mounts, "0::/../elsewhere\n4:memory:/docker/other\n");
        assert_eq!(layout, Layout::default());
    }

    #[test]
    fn nothing_is_read_from_nothing_and_from_nonsense() {
        assert_eq!(Layout::parse("", ""), Layout::default());
        assert_eq!(
            Layout::parse(" - \n - cgroup\nx", "::\n1"),
            Layout::default()
        );
    }

    #[test]
    fn a_place_with_a_space_is_found() {
        let layout = Layout::parse(r"1 2 0:3 / /my\040groups rw - cgroup2 none rw", "0::/a");
        assert_eq!(layout.v2.as_deref(), Some(Path::new("/my groups/a")));
    }
}
