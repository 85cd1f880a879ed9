//! What happened: in order, bounded, filtered.

use par_model::ReplicaId;
use par_model::event::{EventKind, NewEvent};
use par_store::{Bounds, EventFilter, KeptEvent, Store};
use proptest::prelude::*;
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
    let given = [whole, bare.clone()];
    {
        let store = open(folder.path());
        assert_eq!(store.record(&given).expect("kept"), [1, 2]);
    }
    let store = open(folder.path());
    let kept = store.oldest_events(&EventFilter::default(), 10);
    let kept = kept.expect("read");
    assert_eq!(ids(&kept), [1, 2]);
    let events: Vec<NewEvent> = kept.into_iter().map(|kept| kept.event).collect();
    assert_eq!(events, given);
    assert_eq!(store.record(&[bare]).expect("kept"), [3]);
}

#[test]
fn the_order_is_that_of_happening_whatever_the_clock_says() {
    let folder = folder();
    let store = open(folder.path());
    let times = [1_000, 5_000_000, 0, 1_000, 2_000];
    let events = times.map(|at| event(at, "a"));
    store.record(&events).expect("kept");
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
    store.record(&events).expect("kept");
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
            .record(&[event(1, "a"), event(1, "b"), event(1, "c")])
            .expect("kept");
    }
    let all = store
        .oldest_events(&EventFilter::default(), 100)
        .expect("read");
    assert_eq!(ids(&all), (12..=21).collect::<Vec<_>>());
    drop(store);
    let next = open().record(&[event(1, "a")]).expect("kept");
    assert_eq!(next, [22]);
}

#[test]
fn readers_find_their_place_again() {
    let folder = folder();
    {
        let store = open(folder.path());
        assert_eq!(store.position("hook a").expect("read"), None);
        for (reader, event) in [("hook a", 7), ("hook b", 9), ("other", 3), ("hook a", 8)] {
            store.set_position(reader, event).expect("kept");
        }
    }
    let store = open(folder.path());
    assert_eq!(store.position("hook a").expect("read"), Some(8));
    assert_eq!(store.position("hook b").expect("read"), Some(9));
    store
        .forget_positions("hook ", &["hook b".to_owned()])
        .expect("forgotten");
    assert_eq!(store.position("hook a").expect("read"), None);
    assert_eq!(store.position("hook b").expect("read"), Some(9));
    assert_eq!(store.position("other").expect("read"), Some(3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn a_filter_means_the_same_in_memory_as_on_disk(
        events in proptest::collection::vec((0..5_u64, 0..4_usize), 1..20),
        agents in proptest::collection::vec(0..3_usize, 0..3),
        after in proptest::option::of(0..20_u64),
        since_ms in proptest::option::of(0..6_u64),
    ) {
        const NAMES: [&str; 3] = ["a", "b", "c"];
        let folder = folder();
        let store = open(folder.path());
        let events: Vec<NewEvent> = events
            .into_iter()
            .map(|(at_ms, name)| match NAMES.get(name) {
                Some(name) => event(at_ms, name),
                None => NewEvent::new(at_ms, EventKind::SupervisorStarted),
            })
            .collect();
        store.record(&events).expect("kept");
        let all = store.oldest_events(&EventFilter::default(), 100).expect("read");
        let filter = EventFilter {
            agents: agents.into_iter().map(|name| agent(NAMES[name])).collect(),
            after,
            since_ms,
        };
        let meant: Vec<KeptEvent> = all.into_iter().filter(|kept| filter.means(kept)).collect();
        prop_assert_eq!(store.oldest_events(&filter, 100).expect("read"), meant);
    }
}
