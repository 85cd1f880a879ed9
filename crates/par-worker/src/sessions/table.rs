//! Which sessions are kept: decided here, with time passed in.

use std::collections::HashMap;

use par_model::{SessionId, SessionLimits};
use tokio::time::Instant;

/// Sessions by id, `S` whatever a session is.
pub(super) struct Table<S> {
    entries: HashMap<SessionId, Entry<S>>,
    limits: SessionLimits,
    last_serial: u64,
}

/// Names one session among all that ever had its id, so that late news of an earlier one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) id: SessionId,
    serial: u64,
}

struct Entry<S> {
    serial: u64,
    session: S,
    last_used: Instant,
    /// Runs that are under way or wait.
    busy: usize,
    /// Bytes that are remembered of its variables.
    remembered: u64,
}

/// No session can be begun: all of them are at work.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl<S: Clone> Table<S> {
    pub(super) fn new(limits: SessionLimits) -> Self {
        Self {
            entries: HashMap::new(),
            limits,
            last_serial: 0,
        }
    }

    pub(super) fn get(&self, id: &SessionId) -> Option<&S> {
        self.entries.get(id).map(|entry| &entry.session)
    }

    /// Each session, and whether it is at work.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&SessionId, &S, bool)> {
        let entries = self.entries.iter();
        entries.map(|(id, entry)| (id, &entry.session, entry.busy > 0))
    }

    pub(super) fn sessions(&self) -> Vec<S> {
        let entries = self.entries.values();
        entries.map(|entry| entry.session.clone()).collect()
    }

    /// Begins a session, made from its key, in the place of any other of this id.
    pub(super) fn insert(&mut self, id: SessionId, now: Instant, make: impl FnOnce(Key) -> S) -> S {
        self.last_serial += 1;
        let session = make(Key {
            id: id.clone(),
            serial: self.last_serial,
        });
        let entry = Entry {
            serial: self.last_serial,
            session: session.clone(),
            last_used: now,
            busy: 0,
            remembered: 0,
        };
        self.entries.insert(id, entry);
        session
    }

    /// The session that has to go before another one can begin, none while there is room.
    pub(super) fn make_room(&mut self) -> Result<Option<S>, Full> {
        if self.entries.len() < self.limits.most {
            return Ok(None);
        }
        let oldest = self.oldest_idle().ok_or(Full)?;
        Ok(self.remove(&oldest))
    }

    /// So much is remembered of a session from now on; those that have to go for it.
    pub(super) fn remember(&mut self, key: &Key, bytes: u64) -> Vec<S> {
        if let Some(entry) = self.entry(key) {
            entry.remembered = bytes;
        }
        let mut total: u64 = self.entries.values().map(|entry| entry.remembered).sum();
        let mut gone = vec![];
        while total > self.limits.remembered
            && let Some(oldest) = self.oldest_idle()
        {
            total -= self.entries[&oldest].remembered;
            gone.extend(self.remove(&oldest));
        }
        gone
    }

    fn entry(&mut self, key: &Key) -> Option<&mut Entry<S>> {
        let entry = self.entries.get_mut(&key.id);
        entry.filter(|entry| entry.serial == key.serial)
    }

    fn oldest_idle(&self) -> Option<SessionId> {
        let idle = self.entries.iter().filter(|(_, entry)| entry.busy == 0);
        let oldest = idle.min_by_key(|(_, entry)| entry.last_used);
        oldest.map(|(id, _)| id.clone())
    }

    /// A run begins, or is over: neither lets the session grow old.
    pub(super) fn begin(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.entry(key) {
            entry.busy += 1;
            entry.last_used = now;
        }
    }

    pub(super) fn end(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.entry(key) {
            entry.busy = entry.busy.saturating_sub(1);
            entry.last_used = now;
        }
    }

    pub(super) fn remove(&mut self, id: &SessionId) -> Option<S> {
        self.entries.remove(id).map(|entry| entry.session)
    }

    /// Sessions that nobody has used for too long.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<S> {
        let idle = self.limits.idle;
        let old = |entry: &Entry<S>| entry.busy == 0 && now >= entry.last_used + idle;
        let old: Vec<SessionId> = self
            .entries
            .iter()
            .filter(|(_, entry)| old(entry))
            .map(|(id, _)| id.clone())
            .collect();
        old.iter().filter_map(|id| self.remove(id)).collect()
    }

    /// When the next one may be too old. Use makes it later, never earlier.
    pub(super) fn next_expiry(&self, now: Instant) -> Instant {
        let idle = self.entries.values().filter(|entry| entry.busy == 0);
        let oldest = idle.map(|entry| entry.last_used).min();
        oldest.unwrap_or(now) + self.limits.idle
    }

    pub(super) fn clear(&mut self) -> Vec<S> {
        self.entries
            .drain()
            .map(|(_, entry)| entry.session)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::rc::Rc;
    use std::time::Duration;

    fn id(name: u8) -> SessionId {
        name.to_string().parse().expect("digits are valid")
    }

    /// Sessions that are their own names and keys.
    type Named = Rc<(u8, Key)>;

    fn begin(table: &mut Table<Named>, name: u8, now: Instant) -> Named {
        table.insert(id(name), now, |key| Rc::new((name, key)))
    }

    fn names(sessions: impl IntoIterator<Item = Named>) -> Vec<u8> {
        sessions.into_iter().map(|session| session.0).collect()
    }

    fn table(most: usize) -> Table<Named> {
        Table::new(SessionLimits {
            most,
            idle: Duration::from_secs(10),
            ..SessionLimits::default()
        })
    }

    #[test]
    fn the_least_recently_used_makes_room_and_one_at_work_never_does() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = table(2);
        let one = begin(&mut table, 1, at(0));
        begin(&mut table, 2, at(1));
        table.begin(&one.1, at(2));
        assert_eq!(names(table.make_room().expect("room")), [2]);
        let three = begin(&mut table, 3, at(3));
        table.begin(&three.1, at(3));
        assert_eq!(table.make_room(), Err(Full));
        table.end(&one.1, at(4));
        assert_eq!(names(table.make_room().expect("room")), [1]);
    }

    #[test]
    fn time_counts_from_the_last_use() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut table = table(9);
        let one = begin(&mut table, 1, at(0));
        table.begin(&one.1, at(5));
        assert!(table.expire(at(100)).is_empty(), "it is at work");
        table.end(&one.1, at(100));
        assert_eq!(table.next_expiry(at(101)), at(110));
        assert!(table.expire(at(109)).is_empty());
        assert_eq!(names(table.expire(at(110))), [1]);
    }

    #[test]
    fn what_is_remembered_is_bounded_by_the_least_recently_used() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let limits = SessionLimits {
            remembered: 100,
            ..SessionLimits::default()
        };
        let mut table = Table::new(limits);
        let mut last = None;
        for name in 0..4 {
            let one = begin(&mut table, name, at(name.into()));
            assert!(table.remember(&one.1, 25).is_empty());
            last = Some(one);
        }
        let last = last.expect("the last of four");
        table.begin(&last.1, at(9));
        assert_eq!(names(table.remember(&last.1, 60)), [0, 1]);
        let gone = names(table.remember(&last.1, 1000));
        assert_eq!(gone, [2], "one at work stays, whatever it has");
    }

    #[test]
    fn late_news_of_an_earlier_session_changes_nothing_of_its_successor() {
        let now = Instant::now();
        let mut table = table(9);
        let earlier = begin(&mut table, 1, now);
        table.begin(&earlier.1, now);
        table.remove(&id(1));
        let successor = begin(&mut table, 1, now);
        table.begin(&successor.1, now);
        table.end(&earlier.1, now);
        assert!(
            table.iter().all(|(_, _, busy)| busy),
            "the successor is at work"
        );
        table.remember(&earlier.1, u64::MAX);
        assert_eq!(table.iter().count(), 1);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Use(u8),
        Leave(u8),
        Wait(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..6_u8).prop_map(Step::Use),
            (0..6_u8).prop_map(Step::Leave),
            (0..12_u8).prop_map(Step::Wait),
        ];
        prop::collection::vec(step, 0..80)
    }

    proptest! {
        /// Beside a list of (id, last use, busy) that is searched from end to end.
        #[test]
        fn it_keeps_what_a_dumber_one_keeps(steps in steps()) {
            let (mut table, mut now) = (table(3), Instant::now());
            let mut model: Vec<(u8, Instant, usize)> = vec![];
            for step in steps {
                now += Duration::from_millis(1); // no two uses at one time
                match step {
                    Step::Wait(seconds) => {
                        now += Duration::from_secs(seconds.into());
                        let mut gone = names(table.expire(now));
                        gone.sort_unstable();
                        let too_old = |(_, used, busy): &(u8, Instant, usize)| *busy == 0 && now >= *used + Duration::from_secs(10);
                        let mut expected: Vec<u8> = model.iter().filter(|entry| too_old(entry)).map(|entry| entry.0).collect();
                        expected.sort_unstable();
                        model.retain(|entry| !too_old(entry));
                        prop_assert_eq!(gone, expected);
                    }
                    Step::Use(name) => {
                        if !model.iter().any(|entry| entry.0 == name) {
                            let victim = model.iter().filter(|entry| entry.2 == 0).min_by_key(|entry| entry.1).map(|entry| entry.0);
                            let room = if model.len() < 3 { Ok(None) } else { victim.map(Some).ok_or(Full) };
                            let made = table.make_room().map(|gone| gone.map(|session| session.0));
                            prop_assert_eq!(made, room);
                            match victim {
                                Some(victim) if model.len() == 3 => model.retain(|entry| entry.0 != victim),
                                None if model.len() == 3 => continue,
                                _ => {}
                            }
                            begin(&mut table, name, now);
                            model.push((name, now, 0));
                        }
                        let key = table.get(&id(name)).expect("it is there").1.clone();
                        table.begin(&key, now);
                        let entry = model.iter_mut().find(|entry| entry.0 == name).expect("it is there");
                        *entry = (name, now, entry.2 + 1);
                    }
                    Step::Leave(name) => {
                        if let Some(key) = table.get(&id(name)).map(|session| session.1.clone()) {
                            table.end(&key, now);
                        }
                        if let Some(entry) = model.iter_mut().find(|entry| entry.0 == name) {
                            *entry = (name, now, entry.2.saturating_sub(1));
                        }
                    }
                }
                prop_assert!(table.iter().count() <= 3);
                prop_assert_eq!(table.iter().count(), model.len());
            }
        }
    }
}
