//! The arrows between our crates: `docs/ARCHITECTURE.md` explains them, this holds them.

use std::collections::BTreeMap;

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand, Package};

/// Who may know whom. The rest may not.
const ARROWS: [(&str, &[&str]); 15] = [
    ("par-model", &[]),
    ("par-access", &["par-model"]),
    ("par-telemetry", &[]),
    ("par-protocol", &["par-model"]),
    ("par-package", &["par-model"]),
    ("par-lifecycle", &["par-model"]),
    ("par-store", &["par-model"]),
    ("par-sandbox", &["par-model"]),
    ("par-door", &["par-model"]),
    ("par-egress", &["par-model"]),
    (
        "par-gateway",
        &["par-access", "par-door", "par-model", "par-telemetry"],
    ),
    (
        "par-worker",
        &[
            "par-access",
            "par-door",
            "par-egress",
            "par-model",
            "par-package",
            "par-protocol",
            "par-sandbox",
            "par-telemetry",
        ],
    ),
    (
        "par-supervisor",
        &[
            "par-access",
            "par-door",
            "par-gateway",
            "par-lifecycle",
            "par-model",
            "par-package",
            "par-sandbox",
            "par-store",
            "par-telemetry",
        ],
    ),
    (
        "par",
        &[
            "par-model",
            "par-package",
            "par-sandbox",
            "par-supervisor",
            "par-telemetry",
            "par-worker",
        ],
    ),
    ("par-testkit", &["par-model", "par-package"]),
];

fn workspace() -> Metadata {
    MetadataCommand::new()
        .no_deps()
        .exec()
        .expect("cargo metadata runs")
}

fn normal_dependencies(package: &Package) -> impl Iterator<Item = &str> {
    let normal = package
        .dependencies
        .iter()
        .filter(|dependency| dependency.kind == DependencyKind::Normal);
    normal.map(|dependency| dependency.name.as_str())
}

#[test]
fn crates_depend_only_along_the_arrows() {
    let arrows = BTreeMap::from(ARROWS);
    for package in &workspace().packages {
        let name = package.name.as_str();
        if name == "xtask" {
            continue;
        }
        let allowed = arrows
            .get(name)
            .unwrap_or_else(|| panic!("{name} has no place among the arrows"));
        for known in normal_dependencies(package).filter(|name| name.starts_with("par-")) {
            assert!(allowed.contains(&known), "{name} must not know {known}");
        }
    }
}

#[test]
fn crates_that_decide_do_not_perform() {
    for name in ["par-access", "par-model", "par-lifecycle", "par-package"] {
        assert!(!knows_tokio(name), "{name} decides; it does not perform");
    }
}

#[test]
fn what_is_kept_is_kept_by_plain_calls_that_block() {
    assert!(!knows_tokio("par-store"));
}

fn knows_tokio(name: &str) -> bool {
    let workspace = workspace();
    let found = workspace
        .packages
        .iter()
        .find(|package| package.name == name);
    let package = found.unwrap_or_else(|| panic!("there is no {name}"));
    normal_dependencies(package).any(|name| name.starts_with("tokio"))
}

#[test]
fn nobody_builds_with_a_script_or_hides_behind_features() {
    for package in &workspace().packages {
        let scripted = package
            .targets
            .iter()
            .any(|target| target.is_custom_build());
        assert!(!scripted, "{} has a build script", package.name);
        assert!(package.features.is_empty(), "{} has features", package.name);
    }
}
