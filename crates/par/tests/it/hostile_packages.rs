//! Packages that attack whoever installs them: what they reach, what they leave, and what is said of them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use par_testkit::{PackageBuilder, SystemBuilder, wait_for};
use serde_json::{Value, json};

use crate::isolation::{ATTACKS, Bait, profiles};
use crate::scene::Scene;

const WRITES_THEM: &str = include_str!("hostile_packages.py");

/// The folder that is the package index of a scene.
struct Packages {
    folder: tempfile::TempDir,
}

impl Packages {
    fn write(bait: &Bait) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("wheels-")
            .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
            .expect("a folder");
        let mut python = Command::new("python3");
        python.args(["-c", WRITES_THEM]).arg(folder.path());
        python.args([ATTACKS, &bait.shown().to_string()]);
        let ran = python.output().expect("Python is there");
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{said}");
        Self { folder }
    }

    fn scene(&self, profile: &str, settings: &str) -> Scene {
        let config = self.folder.path().join("par.toml");
        std::fs::write(&config, format!("[packages]\n{settings}")).expect("written");
        let index = self.folder.path();
        Scene::with(|builder| {
            from_folder(builder, index)
                .arguments(["--isolation".as_ref(), profile.as_ref()] as [&std::ffi::OsStr; 2])
                .arguments(["--config".as_ref(), config.as_os_str()])
        })
    }
}

fn from_folder(builder: SystemBuilder, folder: &Path) -> SystemBuilder {
    builder
        .variable("PIP_NO_INDEX", "1")
        .variable("PIP_FIND_LINKS", folder)
}

fn ask(scene: &Scene, name: &str) {
    let main = format!("import {name}\ndef handler(body):\n    return {name}.VALUE\n");
    let package = PackageBuilder::new(name)
        .main(&main)
        .file("requirements.txt", format!("{name}==1.0\n"));
    let answer = scene.spawn(&package, &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Installers work hard, on a machine on which others do too.
const PATIENCE: Duration = Duration::from_secs(300);

/// Waits until the agent is there or never will be.
#[track_caller]
fn settled(scene: &Scene, name: &str) -> Value {
    wait_for("the end of an installation", PATIENCE, || {
        let process = scene.process(name);
        let state = process["state"].as_str().unwrap_or_default();
        ["running", "failed"].contains(&state).then_some(process)
    })
}

#[track_caller]
fn serves(scene: &Scene, name: &str) {
    let process = settled(scene, name);
    assert_eq!(process["state"], "running", "{process}");
}

#[track_caller]
fn refused(scene: &Scene, name: &str, words: &[&str]) {
    let failed = settled(scene, name);
    assert_eq!(failed["state"], "failed", "{failed}");
    let error = failed["error"].as_str().unwrap_or_default();
    for word in words {
        assert!(error.contains(word), "`{word}` is not in: {error}");
    }
}

/// The environments that were finished.
fn environments(scene: &Scene) -> Vec<PathBuf> {
    let folder = scene.system.state().join("environments/2");
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("read").path());
    paths.filter(|path| path.is_dir()).collect()
}

const BUILDS: &str = "source_distributions = true\n";

#[test]
fn a_build_that_attacks_reaches_nothing_and_leaves_nothing_running() {
    for profile in profiles() {
        let bait = Bait::lay(std::process::id());
        let packages = Packages::write(&bait);
        let scene = packages.scene(profile, BUILDS);
        ask(&scene, "attacker");
        serves(&scene, "attacker");
        let reached = scene.call("attacker", &json!({}));
        assert_eq!(reached.json(), json!([]), "{profile}: {}", reached.text());
        assert!(!bait.new_file().exists(), "{profile}");
        let told = scene.wait_for_log("attacker", "is not allowed to reach 127.0.0.1");
        assert!(told.to_string().contains("[packages] hosts"), "{told}");
        let mut sleepers = par_testkit::descendants_of(scene.system.pid()).into_iter();
        let sleeps = |pid: &u32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&words).contains("time.sleep(1000)")
        };
        assert_eq!(sleepers.find(sleeps), None, "{profile}");
        scene.system.stop(); // Which looks for what is left.
    }
}

#[test]
fn a_build_without_walls_reaches_what_the_walls_keep_from_it() {
    let bait = Bait::lay(std::process::id());
    let packages = Packages::write(&bait);
    let scene = packages.scene("unsafe", BUILDS);
    ask(&scene, "attacker");
    scene.wait_for_log("attacker", "installed without walls");
    refused(&scene, "attacker", &[]); // There is no relay whose refusal it waits for.
    assert!(bait.new_file().exists(), "the attacks are real");
}

#[test]
fn without_leave_nothing_of_a_package_is_run_to_install_it() {
    let bait = Bait::lay(std::process::id());
    let packages = Packages::write(&bait);
    let scene = packages.scene(profiles()[0], "");
    ask(&scene, "sleeper");
    let words = ["sleeper==1.0", "[packages] source_distributions = true"];
    refused(&scene, "sleeper", &words);
}

#[test]
fn a_build_that_fills_the_disk_or_leads_out_of_its_environment_is_refused() {
    let bait = Bait::lay(std::process::id());
    let packages = Packages::write(&bait);
    let settings = format!("{BUILDS}environment_mb = 200\n");
    let scene = packages.scene(profiles()[0], &settings);
    ask(&scene, "filler");
    refused(&scene, "filler", &["200 MiB", "environment_mb"]);
    ask(&scene, "linker");
    refused(&scene, "linker", &["bin/climbs", "a link that leads out"]);
    assert_eq!(
        environments(&scene),
        Vec::<PathBuf>::new(),
        "nothing is kept"
    );
    scene.system.stop();
}

#[test]
fn a_build_that_never_ends_is_ended() {
    let bait = Bait::lay(std::process::id());
    let packages = Packages::write(&bait);
    let settings = format!("{BUILDS}deadline_seconds = 15\n");
    let scene = packages.scene(profiles()[0], &settings);
    ask(&scene, "sleeper");
    refused(&scene, "sleeper", &["longer than 15s", "deadline_seconds"]);
    assert_eq!(
        environments(&scene),
        Vec::<PathBuf>::new(),
        "nothing is kept"
    );
    scene.system.stop();
}

#[test]
fn a_wheel_writes_plain_files_into_its_environment_and_nothing_elsewhere() {
    use std::os::unix::fs::MetadataExt as _;
    let bait = Bait::lay(std::process::id());
    let packages = Packages::write(&bait);
    let scene = packages.scene(profiles()[0], "");
    ask(&scene, "climber");
    refused(&scene, "climber", &["climber", "apkg-pwned"]);
    assert!(!Path::new("/tmp/apkg-pwned-by-a-wheel").exists());
    ask(&scene, "odd");
    serves(&scene, "odd");
    assert_eq!(scene.call("odd", &json!({})).json(), Value::Null);
    let homes = environments(&scene);
    let [home] = homes.as_slice() else {
        panic!("one environment, not {homes:?}");
    };
    let user = rustix::process::geteuid().as_raw();
    let mut waiting = vec![home.clone()];
    let mut links = 0;
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).expect("read") {
            let path = entry.expect("read").path();
            let found = path.symlink_metadata().expect("read");
            assert_eq!(found.uid(), user, "{}", path.display());
            if found.is_symlink() {
                links += 1;
                continue;
            }
            assert_eq!(found.mode() & 0o7022, 0, "{}", path.display());
            assert_eq!(found.mode() & 0o444, 0o444, "{}", path.display());
            if found.is_dir() {
                waiting.push(path);
            }
        }
    }
    assert!(links > 0, "those of the interpreter were seen");
}
