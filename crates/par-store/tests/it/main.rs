//! The store through its public doors: what is kept, what is wrong, and what a power cut leaves.

mod agents;
mod damage;
mod events;
mod model;
mod power;
mod properties;
mod room;
mod secrets;

use std::path::Path;

use par_model::AgentId;
use par_store::{Bounds, Change, NewRelease, Revision, Secrets, Store, StoreError};
use tempfile::TempDir;

const DIGEST: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

fn folder() -> TempDir {
    tempfile::tempdir().expect("a temporary folder")
}

#[track_caller]
fn open(folder: &Path) -> Store {
    Store::open(folder, Bounds::default()).unwrap_or_else(|error| panic!("it opens: {error}"))
}

#[track_caller]
fn refusal(folder: &Path) -> StoreError {
    match Store::open(folder, Bounds::default()) {
        Ok(_) => panic!("it is refused"),
        Err(error) => error,
    }
}

#[track_caller]
fn commit(store: &Store, changes: &[Change]) -> Revision {
    let revision = store.revision().expect("read");
    store.commit(revision, changes).expect("committed")
}

fn agent(name: &str) -> AgentId {
    name.parse().expect("an agent id")
}

fn release(number: u32) -> NewRelease {
    NewRelease {
        number,
        package_id: format!("hello@{number}"),
        digest: DIGEST.parse().expect("a digest"),
        package: format!("/state/packages/{DIGEST}").into(),
        env: [("PLAIN".to_owned(), number.to_string())].into(),
        secrets: Secrets::default(),
        options: par_model::api::SpawnOptions::default(),
        created_at_ms: 1_700_000_000_000,
        note: None,
    }
}

fn add(name: &str, number: u32) -> Change {
    Change::AddRelease(agent(name), Box::new(release(number)))
}

fn add_secret(name: &str, number: u32, value: &str) -> Change {
    let release = NewRelease {
        secrets: Secrets([("TOKEN".to_owned(), value.to_owned())].into()),
        ..release(number)
    };
    Change::AddRelease(agent(name), Box::new(release))
}
