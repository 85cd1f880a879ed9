//! What happened: in order, bounded, filtered.

use std::collections::BTreeMap;

use par_model::ReplicaId;
use par_model::event::{EventKind, NewEvent};
use par_store::{Bounds, EventFilter, KeptEvent, Store};
use serde_json::json;

use super::{agent, folder, open};

fn event(at_ms: u64, name: &str) -> NewEvent {
    NewEvent {
        agent: Some(agent(name)),
        ..NewEvent::new(at_ms, EventKind::Ready)
    }
}

fn ids(events: &[KeptEvent]) -> Vec<u64> {
    events.iter().map(|kept| kept.id).collect()
}

#[test]
fn an_event_comes_back_as_it_was() {
    let folder = folder();
    let whole = NewEvent {
        at_ms: 1,
        kind: EventKind::OutOfMemory,
        agent: Some(agent("a")),
        replica: Some(ReplicaId(u64::MAX)),
        release: Some(3),
        reason: Some("too \"much\"\n".to_owned()),
        details: Some(json!({"limit": 64, "list": [1, null]})),
    };
    let bare = NewEvent::new(2, EventKind::SupervisorStarted);
    let given = {
        let store = open(folder.path());
        store
            .record(vec![whole.clone(), bare.clone()])
            .expect("kept")
    };
    assert_eq!(ids(&given), [1, 2]);
    let store = open(folder.path());
    let kept = store.oldest_events(&EventFilter::default(), 10);
    assert_eq!(kept.expect("read"), given);
    assert_eq!(given[0].event, whole);
    assert_eq!(given[1].event, bare);
    assert_eq!(ids(&store.record(vec![bare]).expect("kept")), [3]);
}

#[test]
fn the_order_is_that_of_happening_whatever_the_clock_says() {
    let folder = folder();
    let store = open(folder.path());
    let times = [1_000, 5_000_000, 0, 1_000, 2_000];
    let events = times.iter().map(|at| event(*at, "a")).collect();
    store.record(events).expect("kept");
    let all = EventFilter::default();
    assert_eq!(
        ids(&store.newest_events(&all, 10).expect("read")),
        [5, 4, 3, 2, 1]
    );
    let since = EventFilter {
        since_ms: Some(1_000),
        ..all
    };
    assert_eq!(
        ids(&store.oldest_events(&since, 10).expect("read")),
        [1, 2, 4, 5]
    );
}

#[test]
fn a_filter_means_what_it_says() {
    let folder = folder();
    let store = open(folder.path());
    let names = ["a", "b", "c", "a", "b"];
    let mut events: Vec<NewEvent> = names.iter().map(|name| event(1, name)).collect();
    events.push(NewEvent::new(1, EventKind::SupervisorEnded));
    store.record(events).expect("kept");
    let of = |names: &[&str], after| EventFilter {
        agents: names.iter().map(|name| agent(name)).collect(),
        after,
        since_ms: None,
    };
    let oldest = |filter, limit| ids(&store.oldest_events(&filter, limit).expect("read"));
    let newest = |filter, limit| ids(&store.newest_events(&filter, limit).expect("read"));
    assert_eq!(oldest(of(&[], None), 100), [1, 2, 3, 4, 5, 6]);
    assert_eq!(oldest(of(&[], Some(2)), 2), [3, 4]);
    assert_eq!(oldest(of(&["a"], None), 100), [1, 4]);
    assert_eq!(newest(of(&["a", "b"], None), 3), [5, 4, 2]);
    assert_eq!(newest(of(&["a", "b"], Some(4)), 3), [5]);
    assert_eq!(oldest(of(&["ghost"], None), 3), [0; 0]);
    assert_eq!(oldest(of(&[], Some(u64::MAX)), 3), [0; 0]);
    assert_eq!(oldest(of(&[], None), 0), [0; 0]);
}

#[test]
fn the_oldest_of_too_many_go_and_no_number_comes_again() {
    let folder = folder();
    let bounds = Bounds {
        events: 10,
        ..Bounds::default()
    };
    let open = || Store::open(folder.path(), bounds).expect("it opens");
    let store = open();
    for _ in 0..7 {
        store
            .record(vec![event(1, "a"), event(1, "b"), event(1, "c")])
            .expect("kept");
    }
    let all = store
        .oldest_events(&EventFilter::default(), 100)
        .expect("read");
    assert_eq!(ids(&all), (12..=21).collect::<Vec<_>>());
    drop(store);
    let next = open().record(vec![event(1, "a")]).expect("kept");
    assert_eq!(ids(&next), [22]);
}

#[test]
fn readers_find_their_place_again() {
    let folder = folder();
    {
        let store = open(folder.path());
        assert_eq!(store.position("hook").expect("read"), 0);
        let positions = BTreeMap::from([("hook".to_owned(), 7), ("other".to_owned(), 9)]);
        store.set_positions(&positions).expect("kept");
        let later = BTreeMap::from([("hook".to_owned(), 8)]);
        store.set_positions(&later).expect("kept");
    }
    let store = open(folder.path());
    assert_eq!(store.position("hook").expect("read"), 8);
    assert_eq!(store.position("other").expect("read"), 9);
}
