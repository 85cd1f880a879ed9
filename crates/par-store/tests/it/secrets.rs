//! Secrets: apart, private, and never in the way of anything else.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use par_store::{Change, KeptSecret, SecretsUnusable, Store};

use super::{add, add_secret, agent, commit, folder, open};

const VALUE: &str = "hunter2-hunter2";

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("secrets")).expect("the folder of secrets");
    let mut files: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path)
        .expect("it is there")
        .permissions()
        .mode()
        & 0o7777
}

fn read(store: &Store, name: &str, number: u32) -> Result<String, SecretsUnusable> {
    let kept = store.agent(&agent(name)).expect("read").expect("known");
    let secrets = kept.release(number).expect("kept").secrets.read()?;
    Ok(secrets.0["TOKEN"].clone())
}

#[test]
fn nobody_but_the_owner_can_read_them_and_the_database_does_not_hold_them() {
    let folder = folder();
    let store = open(folder.path());
    commit(&store, &[add_secret("a", 1, VALUE), add("b", 1)]);
    assert_eq!(read(&store, "a", 1).expect("readable"), VALUE);
    assert_eq!(mode(&folder.path().join("secrets")), 0o700);
    let files = files(folder.path());
    assert_eq!(files.len(), 1, "only one release has secrets");
    assert_eq!(mode(&files[0]), 0o600);
    for entry in fs::read_dir(folder.path()).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_file() {
            assert_eq!(mode(&path), 0o600, "{}", path.display());
            let bytes = fs::read(&path).expect("readable");
            let found = bytes
                .windows(VALUE.len())
                .any(|part| part == VALUE.as_bytes());
            assert!(!found, "{}", path.display());
        }
    }
}

#[test]
fn what_one_sees_of_a_release_names_secrets_and_shows_none() {
    let folder = folder();
    let store = open(folder.path());
    commit(&store, &[add_secret("a", 1, VALUE)]);
    let kept = store.agent(&agent("a")).expect("read").expect("known");
    let secrets = &kept.releases[0].secrets;
    assert_eq!(secrets.names().collect::<Vec<_>>(), ["TOKEN"]);
    assert!(!format!("{secrets:?}").contains(VALUE));
}

#[test]
fn what_is_wrong_with_a_file_of_secrets_concerns_its_release_alone() {
    let folder = folder();
    let store = open(folder.path());
    commit(
        &store,
        &[
            add_secret("gone", 1, VALUE),
            add_secret("open", 1, VALUE),
            add_secret("torn", 1, VALUE),
            add_secret("other", 1, VALUE),
            add_secret("well", 1, VALUE),
        ],
    );
    let of = |name: &str| {
        let of_this = |path: &PathBuf| {
            path.file_name()
                .is_some_and(|file| file.to_string_lossy().starts_with(name))
        };
        files(folder.path())
            .into_iter()
            .find(of_this)
            .expect("it has one")
    };
    fs::remove_file(of("gone")).expect("removed");
    fs::set_permissions(of("open"), Permissions::from_mode(0o640)).expect("changed");
    fs::write(of("torn"), format!("{{\"TOKEN\": [\"{VALUE}\"]}}")).expect("written");
    fs::write(of("other"), format!("{{\"KEY\": \"{VALUE}\"}}")).expect("written");
    drop(store);
    let store = open(folder.path());
    for (name, words) in [
        ("gone", "are gone"),
        ("open", "mode 0640"),
        ("torn", "are damaged"),
        ("other", "are damaged"),
    ] {
        let error = read(&store, name, 1).expect_err("not usable");
        let shown = format!("{error} {error:?}");
        assert!(shown.contains(words), "{shown}");
        assert!(shown.contains(&format!("{name}.1.")), "{shown}");
        assert!(!shown.contains(VALUE), "{shown}");
    }
    assert_eq!(read(&store, "well", 1).expect("readable"), VALUE);
}

#[test]
fn they_go_with_their_release_and_with_their_agent() {
    let folder = folder();
    let store = open(folder.path());
    for number in 1..=25 {
        commit(&store, &[add_secret("a", number, VALUE)]);
    }
    // The twenty newest, and the current one.
    assert_eq!(files(folder.path()).len(), 21);
    commit(
        &store,
        &[Change::RemoveAgent(agent("a")), add_secret("a", 1, "new")],
    );
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(read(&store, "a", 1).expect("readable"), "new");
}

#[test]
fn a_refused_commit_leaves_no_secrets_behind() {
    let folder = folder();
    let store = open(folder.path());
    let revision = commit(&store, &[add_secret("a", 1, VALUE)]);
    let refused = store.commit(
        revision,
        &[add_secret("b", 1, VALUE), add_secret("a", 1, VALUE)],
    );
    assert!(refused.is_err());
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn what_no_release_speaks_of_is_swept_at_the_next_opening() {
    let folder = folder();
    let store = open(folder.path());
    commit(&store, &[add_secret("a", 1, VALUE)]);
    drop(store);
    let left = folder.path().join("secrets/a.2.leftover.json");
    fs::write(&left, "{").expect("written");
    let store = open(folder.path());
    assert!(!left.exists());
    assert_eq!(read(&store, "a", 1).expect("readable"), VALUE);
}

fn holds(folder: &Path, value: &str) -> bool {
    let holds = |path: &Path| {
        let bytes = fs::read(path).expect("readable");
        bytes
            .windows(value.len())
            .any(|part| part == value.as_bytes())
    };
    let entries = fs::read_dir(folder).expect("a folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    paths.any(|path| match path.is_dir() {
        true => self::holds(&path, value),
        false => holds(&path),
    })
}

#[test]
fn what_an_earlier_version_wrote_down_openly_is_sealed_at_the_next_opening() {
    let folder = folder();
    let store = open(folder.path());
    commit(&store, &[add_secret("a", 1, VALUE)]);
    drop(store);
    let sealed = files(folder.path()).remove(0);
    fs::remove_file(sealed).expect("removed");
    let plain = folder.path().join("secrets/a.1.earlier.json");
    fs::write(&plain, format!("{{\"TOKEN\":\"{VALUE}\"}}")).expect("written");
    let private = Permissions::from_mode(0o600);
    fs::set_permissions(&plain, private.clone()).expect("changed");
    let database = rusqlite::Connection::open(folder.path().join("par.db")).expect("opened");
    let words = "UPDATE releases SET secrets_file = 'a.1.earlier.json'";
    database.execute(words, []).expect("changed");
    drop(database);
    assert!(holds(folder.path(), VALUE));
    fs::set_permissions(&plain, Permissions::from_mode(0o644)).expect("changed");
    let error = read(&open(folder.path()), "a", 1).expect_err("others could read it");
    assert!(matches!(error, SecretsUnusable::Exposed { .. }), "{error}");
    fs::set_permissions(&plain, private).expect("changed");
    let store = open(folder.path());
    assert_eq!(read(&store, "a", 1).expect("readable"), VALUE);
    assert!(!holds(folder.path(), VALUE), "it lies open nowhere");
}

#[test]
fn grants_and_secrets_come_back_and_go_with_their_agent() {
    let folder = folder();
    let store = open(folder.path());
    let secret = KeptSecret {
        name: "KEY".parse().expect("a name"),
        value: VALUE.to_owned(),
        placeholder: "par-secret-KEY-1".to_owned(),
        hosts: vec!["api.example.org".parse().expect("a host")],
        header: Some("x-key: {}".parse().expect("a header")),
        as_env: false,
        set_at_ms: 5,
    };
    let to = |text: &str| text.parse().expect("a destination");
    commit(
        &store,
        &[
            Change::Grant(agent("a"), to("api.example.org:443"), 7),
            Change::Grant(agent("a"), to("b.example.org:443"), 8),
            Change::Revoke(agent("a"), to("b.example.org:443")),
            Change::SetSecret(agent("a"), Box::new(secret.clone())),
        ],
    );
    drop(store);
    assert!(!holds(folder.path(), VALUE));
    let store = open(folder.path());
    let all = store.allowances().expect("read");
    let kept = &all[&agent("a")];
    assert_eq!(kept.granted, [(to("api.example.org:443"), 7)].into());
    assert!(kept.secrets == [secret] && kept.damaged.is_empty());
    commit(&store, &[Change::RemoveAgent(agent("a"))]);
    assert!(store.allowances().expect("read").is_empty());
}

#[test]
fn whoever_changes_to_whom_a_secret_goes_and_has_not_the_key_gets_nothing() {
    let folder = folder();
    let store = open(folder.path());
    let secret = KeptSecret {
        name: "KEY".parse().expect("a name"),
        value: VALUE.to_owned(),
        placeholder: "par-secret-KEY-1".to_owned(),
        hosts: vec!["api.example.org".parse().expect("a host")],
        header: None,
        as_env: false,
        set_at_ms: 5,
    };
    commit(&store, &[Change::SetSecret(agent("a"), Box::new(secret))]);
    drop(store);
    let database = rusqlite::Connection::open(folder.path().join("par.db")).expect("opened");
    let words = "UPDATE secrets SET hosts = '[\"evil.example.org\"]'";
    database.execute(words, []).expect("changed");
    drop(database);
    let all = open(folder.path()).allowances().expect("read");
    let kept = &all[&agent("a")];
    assert!(kept.secrets.is_empty());
    assert_eq!(kept.damaged, ["KEY"]);
}
