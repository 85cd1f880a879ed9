//! Files that cannot be read: each is told apart, left as it is, and the way back works.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use par_store::{Store, StoreError};
use rusqlite::Connection;

use super::{add, agent, commit, folder, open, refusal};

fn file(folder: &Path) -> PathBuf {
    folder.join("par.db")
}

/// A closed store with something in it, whose copy holds the same.
fn filled(folder: &Path) {
    let store = open(folder);
    for number in 1..=15 {
        commit(&store, &[add("a", number), add("b", number)]);
    }
    drop(store);
    drop(open(folder));
}

fn all_files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let files = paths.filter(|path| path.is_file());
    // An empty log says nothing.
    files
        .map(|path| (path.clone(), fs::read(path).expect("readable")))
        .filter(|(path, bytes)| !(bytes.is_empty() && path.ends_with("par.db-wal")))
        .collect()
}

/// The refusal, after which everything lies there as before.
#[track_caller]
fn refused_untouched(folder: &Path) -> StoreError {
    let before = all_files(folder);
    let error = refusal(folder);
    assert!(all_files(folder) == before, "it was touched: {error}");
    let shown = error.to_string();
    assert!(
        shown.contains(&file(folder).display().to_string()),
        "{shown}"
    );
    error
}

/// Does what the message says.
fn follow(error: &StoreError) {
    let shown = error.to_string();
    let command = shown.rsplit('`').nth(1).expect("it names a command");
    let output = Command::new("sh").args(["-c", command]).output();
    assert!(output.expect("a shell").status.success(), "{command}");
}

#[track_caller]
fn holds_what_was_filled_in(store: &Store) {
    for name in ["a", "b"] {
        let kept = store.agent(&agent(name)).expect("read").expect("known");
        assert_eq!(kept.last_number, 15);
        assert_eq!(kept.releases.len(), 15);
    }
}

#[test]
fn a_damaged_file_is_refused_and_its_copy_is_the_way_back() {
    for spoil in [
        // In a page: its cells, then its head; then the end is missing.
        (|bytes: &mut Vec<u8>| bytes[3 * 4096..4 * 4096].fill(0x5a)) as fn(&mut Vec<u8>),
        |bytes| bytes[4096..4096 + 16].fill(0xff),
        |bytes| bytes.truncate(bytes.len() / 2),
    ] {
        let folder = folder();
        filled(folder.path());
        let mut bytes = fs::read(file(folder.path())).expect("readable");
        spoil(&mut bytes);
        fs::write(file(folder.path()), bytes).expect("written");
        let error = refused_untouched(folder.path());
        assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        follow(&error);
        holds_what_was_filled_in(&open(folder.path()));
    }
}

#[test]
fn the_log_of_a_damaged_file_is_left_as_it_is_too_and_not_mixed_into_the_copy() {
    let folder = folder();
    filled(folder.path());
    let killed = super::folder();
    {
        let store = open(folder.path());
        commit(&store, &[add("c", 1)]);
        for name in ["par.db", "par.db-wal", "par.db.last-good", "secret.key"] {
            fs::copy(folder.path().join(name), killed.path().join(name)).expect("copied");
        }
    }
    let path = file(killed.path());
    let mut bytes = fs::read(&path).expect("readable");
    for page in bytes[4096..].chunks_mut(4096) {
        page[..32].fill(0xff);
    }
    fs::write(&path, bytes).expect("written");
    let error = refused_untouched(killed.path());
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
    follow(&error);
    let store = open(killed.path());
    holds_what_was_filled_in(&store);
    assert!(store.agent(&agent("c")).expect("read").is_none());
    assert!(killed.path().join("par.db-wal.damaged").exists());
}

#[test]
fn without_a_copy_it_says_how_to_begin_anew() {
    let folder = folder();
    filled(folder.path());
    fs::remove_file(folder.path().join("par.db.last-good")).expect("removed");
    let mut bytes = fs::read(file(folder.path())).expect("readable");
    bytes[4096..].fill(0x5a);
    fs::write(file(folder.path()), bytes).expect("written");
    let error = refused_untouched(folder.path());
    let shown = error.to_string();
    assert!(shown.contains("There is no copy"), "{shown}");
    let command = shown.rsplit('`').nth(1).expect("a command");
    Command::new("sh")
        .args(["-c", command])
        .status()
        .expect("a shell");
    assert!(open(folder.path()).agents().expect("read").is_empty());
}

#[test]
fn paths_with_spaces_and_quotes_have_a_way_back_as_well() {
    let folder = folder();
    let odd = folder.path().join("it's a state; $HOME");
    fs::create_dir(&odd).expect("created");
    filled(&odd);
    fs::write(file(&odd), vec![7; 9000]).expect("written");
    let error = refused_untouched(&odd);
    assert!(
        matches!(error, StoreError::NotADatabase { .. }),
        "{error:?}"
    );
    follow(&error);
    holds_what_was_filled_in(&open(&odd));
}

#[test]
fn what_is_no_database_is_refused() {
    for content in [
        "x",
        "hello, I am a text\n",
        &"SQLite format 4\0".repeat(600),
    ] {
        let folder = folder();
        fs::write(file(folder.path()), content).expect("written");
        let error = refused_untouched(folder.path());
        assert!(
            matches!(error, StoreError::NotADatabase { .. }),
            "{error:?}"
        );
    }
    let folder = folder();
    fs::create_dir(file(folder.path())).expect("created");
    let error = refused_untouched(folder.path());
    assert!(
        matches!(error, StoreError::NotADatabase { .. }),
        "{error:?}"
    );
}

#[test]
fn the_database_of_another_program_is_refused() {
    for (application, table) in [(0, true), (7, false), (7, true)] {
        let folder = folder();
        let other = Connection::open(file(folder.path())).expect("opened");
        other
            .pragma_update(None, "application_id", application)
            .expect("written");
        if table {
            other.execute_batch("CREATE TABLE x (y)").expect("written");
        }
        drop(other);
        let error = refused_untouched(folder.path());
        assert!(matches!(error, StoreError::Foreign(_)), "{error:?}");
    }
}

#[test]
fn a_newer_schema_is_refused() {
    let folder = folder();
    filled(folder.path());
    let later = Connection::open(file(folder.path())).expect("opened");
    later
        .pragma_update(None, "user_version", 99)
        .expect("written");
    drop(later);
    let error = refused_untouched(folder.path());
    assert!(
        matches!(error, StoreError::Newer { found: 99, .. }),
        "{error:?}"
    );
    assert!(error.to_string().contains("Run the newer par"));
}

#[test]
fn a_file_that_is_gone_while_its_copy_is_there_is_no_reason_to_begin_anew() {
    for emptied in [true, false] {
        let folder = folder();
        filled(folder.path());
        fs::remove_file(file(folder.path())).expect("removed");
        if emptied {
            fs::write(file(folder.path()), "").expect("written");
        }
        let error = refused_untouched(folder.path());
        assert!(matches!(error, StoreError::Gone { .. }), "{error:?}");
        follow(&error);
        holds_what_was_filled_in(&open(folder.path()));
    }
}

#[test]
fn a_file_that_somebody_else_uses_is_refused() {
    let folder = folder();
    let first = open(folder.path());
    let error = refusal(folder.path());
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    commit(&first, &[add("a", 1)]);
    drop(first);
    let other = Connection::open(file(folder.path())).expect("opened");
    other
        .execute_batch("BEGIN; SELECT * FROM agents")
        .expect("read");
    let error = refusal(folder.path());
    assert!(matches!(error, StoreError::Locked(_)), "{error:?}");
    drop(other);
    assert_eq!(open(folder.path()).agents().expect("read").len(), 1);
}

#[test]
fn what_nobody_can_read_is_named() {
    let folder = folder();
    filled(folder.path());
    let hand = Connection::open(file(folder.path())).expect("opened");
    hand.execute_batch("UPDATE releases SET digest = 'x' WHERE number = 3")
        .expect("written");
    drop(hand);
    let error = open(folder.path())
        .agents()
        .map(drop)
        .expect_err("unreadable");
    assert!(error.to_string().contains("`digest`"), "{error}");
}
