//! A second wall behind the root of its own, and the first where there is none.

use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, CompatLevel, Compatible as _, NetPort, PathBeneath,
    PathFd, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetStatus,
    Scope,
};

use super::plan::Confinement;
use super::system;

/// The first with all that is needed: files, TCP, and signals and abstract sockets beyond what was started here.
const REQUIRED: ABI = ABI::V6;

/// Settings that name resolution and time need, where we cannot write our own.
const PLAIN_SETTINGS: [&str; 6] = [
    "/etc/passwd",
    "/etc/group",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/localtime",
    "/etc/ld.so.cache",
];

/// From here on the process reaches no file but those that it is to see; all or nothing.
pub(super) fn restrict(asked: &Confinement) -> io::Result<()> {
    let has_root = asked.profile.has_namespaces();
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(REQUIRED))
        .and_then(|ruleset| ruleset.scope(Scope::Signal | Scope::AbstractUnixSocket))
        .map_err(io::Error::other)?;
    if !has_root {
        ruleset = ruleset
            .handle_access(AccessNet::from_all(REQUIRED))
            .map_err(io::Error::other)?;
    }
    let mut rules = ruleset.create().map_err(io::Error::other)?;
    for path in readable(asked, has_root) {
        rules = allow(rules, &path, AccessFs::from_read(REQUIRED))?;
    }
    for (path, access) in special(has_root) {
        rules = allow(rules, path.as_ref(), access)?;
    }
    for path in asked.view.writable.iter() {
        rules = allow(rules, path, AccessFs::from_all(REQUIRED))?;
    }
    if let Some(port) = asked.connects_to.filter(|_| !has_root) {
        let rule = NetPort::new(port, AccessNet::ConnectTcp);
        rules = rules.add_rule(rule).map_err(io::Error::other)?;
    }
    let status = rules.restrict_self().map_err(io::Error::other)?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        _ => Err(io::Error::other("the kernel enforces a part of it only")),
    }
}

fn readable(asked: &Confinement, has_root: bool) -> Vec<PathBuf> {
    let system = system::PROGRAMS
        .iter()
        .chain(&system::SETTINGS)
        .map(PathBuf::from);
    let mut paths: Vec<PathBuf> = system.chain(asked.view.read_only.iter().cloned()).collect();
    if has_root {
        paths.push("/etc".into());
    } else {
        paths.extend(PLAIN_SETTINGS.map(PathBuf::from));
    }
    paths
}

/// What has rights of its own.
fn special(has_root: bool) -> Vec<(&'static str, landlock::BitFlags<AccessFs>)> {
    let (read, write) = (AccessFs::ReadFile | AccessFs::ReadDir, AccessFs::WriteFile);
    if !has_root {
        let devices = [
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
        ];
        let devices = devices.map(|path| (path, AccessFs::ReadFile | write));
        return [("/proc", read | write)]
            .into_iter()
            .chain(devices)
            .collect();
    }
    let all = AccessFs::from_all(REQUIRED);
    vec![
        // To list the root; what is below it stays as it is.
        ("/", AccessFs::ReadDir.into()),
        ("/proc", read | write),
        ("/dev", read | write),
        ("/dev/shm", all),
        ("/tmp", all),
    ]
}

/// A path that this system has not cannot be reached either.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: landlock::BitFlags<AccessFs>,
) -> io::Result<RulesetCreated> {
    let Ok(place) = PathFd::new(path) else {
        return Ok(rules);
    };
    let is_folder = path.is_dir();
    let access = if is_folder {
        access
    } else {
        access & AccessFs::from_file(REQUIRED)
    };
    rules
        .add_rule(PathBeneath::new(place, access))
        .map_err(io::Error::other)
}
