//! The environment of the agent's process, made from nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use par_model::control::WorkerSpec;
use par_package::{Package, agent_environment};

use crate::egress::Outlet;

const USUAL_PROGRAMS: [&str; 6] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
];

/// All variables, and a warning for each that the package or its deployer may not set.
pub(crate) fn variables(
    spec: &WorkerSpec,
    package: &Package,
    programs: &[PathBuf],
    outlet: &Outlet,
) -> (BTreeMap<String, String>, Vec<String>) {
    let mut ours = of_the_runtime(spec, package, programs);
    ours.extend(outlet.variables(&spec.egress, &spec.supervisor_url));
    let (mut all, warnings) = agent_environment(package, &spec.env, &ours);
    let workspace = shown(&spec.folders.workspace);
    for (name, value) in [
        ("HOME", workspace.clone()),
        ("TMPDIR", format!("{workspace}/tmp")),
        ("LANG", "C.UTF-8".to_owned()),
    ] {
        all.entry(name.to_owned()).or_insert(value);
    }
    if let Some((name, value)) = spec.mark.split_once('=') {
        all.insert(name.to_owned(), value.to_owned());
    }
    (all, warnings)
}

fn of_the_runtime(
    spec: &WorkerSpec,
    package: &Package,
    programs: &[PathBuf],
) -> BTreeMap<String, String> {
    [
        ("PAR_AGENT_ID", spec.agent.to_string()),
        ("PAR_PACKAGE_ID", spec.package_id.clone()),
        ("PAR_PACKAGE_PATH", shown(&package.root)),
        ("PAR_PORT", spec.port.to_string()),
        ("PAR_MODE", "worker".to_owned()),
        ("PAR_SUPERVISOR_URL", spec.supervisor_url.clone()),
        ("A2A_PORT", spec.grpc_port.to_string()),
        ("PYTHONUNBUFFERED", "1".to_owned()),
        ("PATH", search_path(programs)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}

/// Where programs are looked for: these folders first.
pub(crate) fn search_path(programs: &[PathBuf]) -> String {
    let usual = USUAL_PROGRAMS.iter().map(PathBuf::from);
    let path = std::env::join_paths(programs.iter().cloned().chain(usual));
    path.map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_else(|_| USUAL_PROGRAMS.join(":"))
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
