//! `init`, `build` and `inspect`: what needs no supervisor.

use std::fs;
use std::path::Path;

use tempfile::{TempDir, tempdir};

use crate::ran::{Ran, par_in};

fn folder() -> TempDir {
    tempdir().expect("a temporary folder")
}

fn ran(folder: &TempDir, words: &[&str]) -> Ran {
    par_in(folder.path(), words, "")
}

fn files_below(folder: &Path) -> usize {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .map(|path| if path.is_dir() { files_below(&path) } else { 1 })
        .sum()
}

#[test]
fn init_writes_an_agent_in_a_few_files_that_inspect_finds_nothing_wrong_with() {
    for example in ["hello", "asker", "stream"] {
        let folder = folder();
        let said = ran(&folder, &["init", "my-agent", "--example", example])
            .ended_with(0)
            .stdout;
        assert!(said.contains("deploy my-agent"), "{said}");
        assert!(said.contains("call my-agent '{"), "{said}");
        assert!(files_below(&folder.path().join("my-agent")) < 10);
        let inspected = ran(&folder, &["inspect", "my-agent", "--json"])
            .ended_with(0)
            .json();
        assert_eq!(inspected["label"], "my-agent@0.1.0");
        assert_eq!(inspected["problems"], serde_json::json!([]));
    }
}

#[test]
fn init_overwrites_nothing() {
    let folder = folder();
    fs::create_dir(folder.path().join("mine")).expect("created");
    fs::write(folder.path().join("mine/notes"), "precious").expect("written");
    let said = ran(&folder, &["init", "mine"]).ended_with(1).stderr;
    assert!(said.contains("nothing is overwritten"), "{said}");
    assert_eq!(files_below(folder.path()), 1);
}

#[test]
fn init_takes_the_current_folder_when_it_is_empty() {
    let folder = folder();
    let here = folder.path().join("weather");
    fs::create_dir(&here).expect("created");
    par_in(&here, ["init", "."], "").ended_with(0);
    let manifest = fs::read_to_string(here.join("agent.yaml")).expect("read");
    assert!(manifest.contains("\nname: weather\n"), "{manifest}");
}

#[test]
fn init_refuses_a_name_that_no_package_may_have() {
    let folder = folder();
    let said = ran(&folder, &["init", "My Agent"]).ended_with(2).stderr;
    assert!(said.contains("--name"), "{said}");
    assert_eq!(files_below(folder.path()), 0);
    ran(&folder, &["init", "My Agent", "--name", "mine"]).ended_with(0);
}

#[test]
fn build_writes_the_same_bytes_every_time() {
    let folder = folder();
    ran(&folder, &["init", "hello"]).ended_with(0);
    let first = ran(&folder, &["build", "hello"]).ended_with(0).stdout;
    assert!(first.starts_with("hello-0.1.0.apkg: "), "{first}");
    ran(&folder, &["build", "hello", "-o", "hello/again.apkg"]).ended_with(0);
    let built = ran(&folder, &["build", "hello", "-o", "third.apkg", "--json"])
        .ended_with(0)
        .json();
    assert_eq!(built["package_id"], "hello@0.1.0");
    let bytes = |name: &str| fs::read(folder.path().join(name)).expect("it was written");
    assert_eq!(bytes("hello-0.1.0.apkg"), bytes("hello/again.apkg"));
    assert_eq!(bytes("hello-0.1.0.apkg"), bytes("third.apkg"));
}

#[test]
fn a_folder_that_is_no_agent_is_refused_by_name_and_nothing_is_written() {
    let folder = folder();
    fs::create_dir(folder.path().join("empty")).expect("created");
    let said = ran(&folder, &["build", "empty"]).ended_with(5).stderr;
    assert!(said.contains("agent.yaml"), "{said}");
    assert_eq!(files_below(folder.path()), 0);
}

#[test]
fn a_mistake_in_the_manifest_is_told_with_its_line() {
    let folder = folder();
    ran(&folder, &["init", "hello"]).ended_with(0);
    let manifest = folder.path().join("hello/agent.yaml");
    let text = fs::read_to_string(&manifest).expect("read");
    fs::write(&manifest, text.replace("\nname: hello\n", "\nname: [3]\n")).expect("written");
    for command in ["build", "inspect", "deploy"] {
        let said = ran(&folder, &[command, "hello"]).ended_with(5).stderr;
        assert!(said.contains("agent.yaml:2:"), "{said}");
    }
}

#[test]
fn inspect_tells_what_is_wrong_with_a_broken_package() {
    let folder = folder();
    fs::write(folder.path().join("x.apkg"), "no zip").expect("written");
    let ran = ran(&folder, &["inspect", "x.apkg"]).ended_with(5);
    assert!(ran.stdout.contains("not a package"), "{ran:?}");
    assert!(ran.stderr.contains("`x.apkg` would be refused"), "{ran:?}");
}

#[test]
fn a_package_that_is_not_there_is_told_with_what_to_name() {
    let folder = folder();
    for command in ["inspect", "deploy", "build"] {
        let said = ran(&folder, &[command, "nowhere"]).ended_with(1).stderr;
        assert!(said.contains("there is no `nowhere`"), "{said}");
        assert!(said.contains("help:"), "{said}");
    }
}

#[test]
fn variables_from_a_broken_file_are_refused_without_showing_them() {
    let folder = folder();
    ran(&folder, &["init", "hello"]).ended_with(0);
    fs::write(folder.path().join("prod.env"), "A=1\nhunter2\n").expect("written");
    let words = ["deploy", "hello", "--env-file", "prod.env"];
    let said = ran(&folder, &words).ended_with(2).stderr;
    assert!(said.contains(":2: ") && !said.contains("hunter2"), "{said}");
}
