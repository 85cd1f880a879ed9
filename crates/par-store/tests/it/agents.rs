//! What is wanted: kept, changed against a revision, counted, bounded.

use par_store::{Canary, Change, Outcome, Revision, Store, StoreError, Wanted, Wish};

use super::{add, agent, commit, folder, model, open, release};

fn wish(current: u32) -> Wish {
    Wish {
        wanted: Wanted::Up,
        replicas: 2,
        current,
        canary: None,
        homes: [(0, 8001), (1, 8003)].into(),
    }
}

fn numbers(store: &Store, name: &str) -> Vec<u32> {
    let kept = store.agent(&agent(name)).expect("read").expect("known");
    kept.releases.iter().map(|kept| kept.number).collect()
}

#[test]
fn the_first_release_makes_the_agent_and_everything_comes_back_after_reopening() {
    let folder = folder();
    let mut given = release(1);
    given.note = Some("rollback to 3".to_owned());
    given.options.memory_limit_mb = Some(64);
    given.created_at_ms = u64::MAX;
    given.package = std::path::PathBuf::from(std::ffi::OsString::from("/odd/\u{fffd} path"));
    {
        let store = open(folder.path());
        commit(
            &store,
            &[Change::AddRelease(agent("hello"), Box::new(given.clone()))],
        );
        commit(
            &store,
            &[Change::SetOutcome(agent("hello"), 1, Outcome::Live)],
        );
    }
    let store = open(folder.path());
    let kept = store.agents().expect("read");
    assert_eq!(kept.len(), 1);
    let kept = &kept[0];
    assert_eq!(kept.agent, agent("hello"));
    assert_eq!(
        kept.wish,
        Wish {
            replicas: 1,
            homes: Default::default(),
            ..wish(1)
        }
    );
    assert_eq!(kept.last_number, 1);
    let seen = kept.release(1).expect("kept");
    assert_eq!(seen.package_id, given.package_id);
    assert_eq!(seen.digest, given.digest);
    assert_eq!(seen.package, given.package);
    assert_eq!(seen.env, given.env);
    assert_eq!(seen.options, given.options);
    assert_eq!(seen.created_at_ms, given.created_at_ms);
    assert_eq!(seen.note, given.note);
    assert_eq!(seen.outcome, Outcome::Live);
}

#[test]
fn a_commit_against_an_old_revision_changes_nothing() {
    let folder = folder();
    let store = open(folder.path());
    let old = store.revision().expect("read");
    let new = store.commit(old, &[add("a", 1)]).expect("committed");
    assert!(new > old);
    let refused = store.commit(old, &[add("b", 1)]);
    assert!(
        matches!(refused, Err(StoreError::Conflict { expected, found }) if expected == old && found == new)
    );
    assert_eq!(store.agents().expect("read").len(), 1);
    assert_eq!(store.revision().expect("read"), new);
}

#[test]
fn the_changes_of_a_commit_happen_together_or_not_at_all() {
    let folder = folder();
    let store = open(folder.path());
    let revision = commit(&store, &[add("a", 1)]);
    let refused = store.commit(
        revision,
        &[
            add("a", 2),
            add("b", 1),
            Change::SetWish(agent("b"), wish(7)),
        ],
    );
    assert!(matches!(
        refused,
        Err(StoreError::NoSuchRelease { number: 7, .. })
    ));
    let refused = store.commit(revision, &[add("b", 1), add("a", 1)]);
    assert!(matches!(
        refused,
        Err(StoreError::NumberTaken {
            number: 1,
            last: 1,
            ..
        })
    ));
    assert_eq!(numbers(&store, "a"), [1]);
    assert!(store.agent(&agent("b")).expect("read").is_none());
    store.commit(revision, &[add("a", 2)]).expect("free again");
}

#[test]
fn a_number_is_never_used_twice_while_the_agent_lives() {
    let folder = folder();
    let store = open(folder.path());
    commit(&store, &[add("a", 1), add("a", 5)]);
    let revision = store.revision().expect("read");
    assert!(matches!(
        store.commit(revision, &[add("a", 5)]),
        Err(StoreError::NumberTaken { .. })
    ));
    commit(&store, &[Change::RemoveAgent(agent("a")), add("a", 1)]);
    assert_eq!(numbers(&store, "a"), [1]);
}

#[test]
fn the_newest_releases_stay_and_those_in_use() {
    let folder = folder();
    let store = open(folder.path());
    commit(&store, &[add("a", 1)]);
    commit(&store, &[add("a", 2)]);
    let canary = Some(Canary {
        release: 2,
        permille: 100,
    });
    let serving = Wish { canary, ..wish(1) };
    commit(&store, &[Change::SetWish(agent("a"), serving.clone())]);
    for number in 3..=30 {
        commit(&store, &[add("a", number)]);
    }
    let kept: Vec<u32> = [1, 2].into_iter().chain(11..=30).collect();
    assert_eq!(numbers(&store, "a"), kept);
    let seen = store.agent(&agent("a")).expect("read").expect("known");
    assert_eq!((seen.wish, seen.last_number), (serving, 30));
    commit(&store, &[Change::SetWish(agent("a"), wish(30))]);
    assert_eq!(numbers(&store, "a"), (11..=30).collect::<Vec<_>>());
}

#[test]
fn late_news_of_what_is_gone_changes_nothing() {
    let folder = folder();
    let store = open(folder.path());
    commit(
        &store,
        &[
            Change::SetWish(agent("ghost"), wish(1)),
            Change::SetOutcome(agent("ghost"), 1, Outcome::Live),
            Change::RemoveAgent(agent("ghost")),
            Change::RemoveIncarnation(par_model::ReplicaId(9)),
        ],
    );
    assert!(store.agents().expect("read").is_empty());
}

#[test]
fn incarnations_outlive_their_agent_and_keep_all_their_bits() {
    let folder = folder();
    let whole = model::incarnation(u64::MAX, 1, u32::MAX);
    let later = model::incarnation(3, 1, 5);
    {
        let store = open(folder.path());
        commit(
            &store,
            &[
                Change::AddIncarnation(whole.clone()),
                Change::AddIncarnation(model::incarnation(3, 1, 4)),
                Change::AddIncarnation(later.clone()),
            ],
        );
        commit(&store, &[Change::RemoveAgent(agent("agent-1"))]);
    }
    let store = open(folder.path());
    assert!(store.incarnations().expect("read") == [later, whole.clone()]);
    commit(
        &store,
        &[Change::RemoveIncarnation(par_model::ReplicaId(3))],
    );
    assert!(store.incarnations().expect("read") == [whole]);
}

#[test]
fn each_opening_is_a_life_of_its_own() {
    let folder = folder();
    for life in 1..=3 {
        assert_eq!(open(folder.path()).life(), life);
    }
}

#[test]
fn an_empty_folder_is_a_store_at_its_beginning() {
    let folder = folder();
    let store = open(folder.path());
    assert_eq!(store.revision().expect("read"), Revision(0));
    assert!(store.agents().expect("read").is_empty());
    assert!(store.incarnations().expect("read").is_empty());
}
