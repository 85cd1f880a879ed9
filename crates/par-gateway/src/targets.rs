//! The replicas of one agent, and which of them takes a call: the less busy of two, in a group that is chosen by its
//! share. Calls of a session go to the replica that has it, and a replica that is leaving gets no others.

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use par_model::ReplicaId;

use crate::backend::Backend;
use crate::session::SessionKey;

/// Made whenever something about them changes, not per call.
#[derive(Debug)]
pub struct Targets {
    groups: Vec<Group>,
    /// The sum of all shares.
    total: u32,
    leaving: Vec<Arc<Backend>>,
}

/// Replicas that are alike: those of one release.
#[derive(Debug)]
struct Group {
    share: u32,
    replicas: Vec<Arc<Backend>>,
}

/// Where a call may go now.
#[derive(Debug)]
pub(crate) enum Picked<'a> {
    One(&'a Arc<Backend>),
    /// Those that may take it could not be reached just now.
    Wait,
    /// There is none that takes new calls.
    None,
}

impl Targets {
    /// Each group with its share of new calls, in thousandths; shares that do not sum up to 1,000 are taken as
    /// proportions, and a group without replicas has none. The home of what belongs to a session that is not named, and
    /// the place of each session, follow from the ids of the replicas, not from their order.
    pub fn new(groups: Vec<(u16, Vec<Arc<Backend>>)>, leaving: Vec<Arc<Backend>>) -> Arc<Self> {
        let groups: Vec<Group> = groups
            .into_iter()
            .filter(|(_, replicas)| !replicas.is_empty())
            .map(|(share, replicas)| Group {
                share: u32::from(share),
                replicas,
            })
            .collect();
        Arc::new(Self {
            total: groups.iter().map(|group| group.share).sum(),
            groups,
            leaving,
        })
    }

    /// An agent that has one replica.
    pub fn one(backend: Arc<Backend>) -> Arc<Self> {
        Self::new(vec![(1000, vec![backend])], Vec::new())
    }

    /// All replicas, those that are leaving last.
    pub fn backends(&self) -> impl Iterator<Item = &Arc<Backend>> {
        let ready = self.groups.iter().flat_map(|group| &group.replicas);
        ready.chain(&self.leaving)
    }

    pub(crate) fn leaving(&self) -> &[Arc<Backend>] {
        &self.leaving
    }

    /// `missed` are those that this call could not reach.
    pub(crate) fn pick(&self, session: Option<SessionKey>, missed: &[ReplicaId]) -> Picked<'_> {
        match session {
            Some(session) => self.pick_for(session, missed),
            None => self.pick_any(missed),
        }
    }

    fn pick_any(&self, missed: &[ReplicaId]) -> Picked<'_> {
        match &self.groups[..] {
            [] => Picked::None,
            [only] => only.pick(missed).map_or(Picked::Wait, Picked::One),
            _ => {
                let point = below(self.total);
                self.first_from(point, |group| group.pick(missed))
            }
        }
    }

    fn pick_for(&self, session: SessionKey, missed: &[ReplicaId]) -> Picked<'_> {
        let point = session.point(self.total);
        let chosen = self.first_from(point, |group| group.appointed(session, missed));
        if let Picked::One(backend) = chosen
            && backend.has(session)
        {
            return chosen;
        }
        // It began when the replicas were others.
        match self.backends().find(|backend| backend.has(session)) {
            // As long as it may be there, it cannot be anywhere else.
            Some(owner) if missed.contains(&owner.replica()) => Picked::Wait,
            Some(owner) => Picked::One(owner),
            None => chosen,
        }
    }

    /// The group at a point of all shares decides; the others do if it has nobody.
    fn first_from<'a>(
        &'a self,
        point: u32,
        pick: impl Fn(&'a Group) -> Option<&'a Arc<Backend>>,
    ) -> Picked<'a> {
        if self.groups.is_empty() {
            return Picked::None;
        }
        let mut end = 0;
        let at = self.groups.iter().position(|group| {
            end += group.share;
            point < end
        });
        let (before, from) = self.groups.split_at(at.unwrap_or_default());
        let picked = from.iter().chain(before).find_map(pick);
        picked.map_or(Picked::Wait, Picked::One)
    }
}

impl Group {
    /// The less busy of two that chance names.
    fn pick(&self, missed: &[ReplicaId]) -> Option<&Arc<Backend>> {
        let all = &self.replicas[..];
        if let [only] = all {
            return Some(only).filter(|only| !missed.contains(&only.replica()));
        }
        let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
        let first = below(count);
        let second = (first + 1 + below(count - 1)) % count;
        let (first, second) = (&all[first as usize], &all[second as usize]);
        let usable = |backend: &Backend| {
            !backend.is_shunned() && (missed.is_empty() || !missed.contains(&backend.replica()))
        };
        match (usable(first), usable(second)) {
            (true, true) if second.in_flight() < first.in_flight() => Some(second),
            (true, _) => Some(first),
            (false, true) => Some(second),
            (false, false) => self.best(missed, |backend| std::cmp::Reverse(backend.in_flight())),
        }
    }

    fn appointed(&self, session: SessionKey, missed: &[ReplicaId]) -> Option<&Arc<Backend>> {
        self.best(missed, |backend| session.suits(backend.replica()))
    }

    /// One that is shunned only if all are.
    fn best<K: Ord>(
        &self,
        missed: &[ReplicaId],
        key: impl Fn(&Backend) -> K,
    ) -> Option<&Arc<Backend>> {
        let untried = self.replicas.iter();
        let untried = untried.filter(|backend| !missed.contains(&backend.replica()));
        untried.max_by_key(|backend| (!backend.is_shunned(), key(backend)))
    }
}

/// A number below `end`, by a generator of this thread (xorshift64*).
fn below(end: u32) -> u32 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(RandomState::new().hash_one(()) | 1);
    }
    let word = STATE.with(|state| {
        let mut word = state.get();
        word ^= word >> 12;
        word ^= word << 25;
        word ^= word >> 27;
        state.set(word);
        word.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32
    });
    u32::try_from((word * u64::from(end)) >> 32).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backends(range: std::ops::Range<u64>) -> Vec<Arc<Backend>> {
        let agent = "a".parse().expect("an id");
        range
            .map(|number| Backend::new(&agent, ReplicaId(number), "/nowhere".into()))
            .collect()
    }

    fn one(picked: &Picked<'_>) -> ReplicaId {
        match picked {
            Picked::One(backend) => backend.replica(),
            Picked::Wait | Picked::None => panic!("{picked:?}"),
        }
    }

    #[test]
    fn a_group_gets_its_share_of_calls() {
        let targets = Targets::new(vec![(900, backends(0..3)), (100, backends(3..5))], vec![]);
        let to_canary = (0..10_000)
            .filter(|_| one(&targets.pick(None, &[])) >= ReplicaId(3))
            .count();
        // Six standard deviations.
        assert!((820..1180).contains(&to_canary), "{to_canary}");
    }

    #[test]
    fn calls_without_load_are_spread_over_all_replicas() {
        for count in [2, 3, 10] {
            let targets = Targets::new(vec![(1000, backends(0..count))], vec![]);
            let mut calls = vec![0_u64; usize::try_from(count).expect("small")];
            for _ in 0..count * 1000 {
                let ReplicaId(replica) = one(&targets.pick(None, &[]));
                calls[usize::try_from(replica).expect("small")] += 1;
            }
            assert!(
                calls.iter().all(|calls| (800..1200).contains(calls)),
                "{calls:?}"
            );
        }
    }

    #[test]
    fn the_less_busy_of_two_takes_the_call() {
        let two = backends(0..2);
        let _busy = two[0].begin_call();
        let targets = Targets::new(vec![(1000, two)], vec![]);
        for _ in 0..100 {
            assert_eq!(one(&targets.pick(None, &[])), ReplicaId(1));
        }
    }

    #[test]
    fn the_busiest_of_many_takes_nothing() {
        let many = backends(0..5);
        let _busy = many[2].begin_call();
        let targets = Targets::new(vec![(1000, many)], vec![]);
        for _ in 0..1000 {
            assert_ne!(one(&targets.pick(None, &[])), ReplicaId(2));
        }
    }

    #[test]
    fn one_that_was_missed_is_passed_over_and_when_all_were_the_call_waits() {
        let targets = Targets::new(vec![(1000, backends(0..2)), (0, backends(2..3))], vec![]);
        for _ in 0..100 {
            assert_eq!(one(&targets.pick(None, &[ReplicaId(0)])), ReplicaId(1));
        }
        let missed = [ReplicaId(0), ReplicaId(1)];
        assert_eq!(one(&targets.pick(None, &missed)), ReplicaId(2));
        let missed = [ReplicaId(0), ReplicaId(1), ReplicaId(2)];
        assert!(matches!(targets.pick(None, &missed), Picked::Wait));
    }

    #[test]
    fn one_that_is_shunned_is_taken_only_if_all_are() {
        let two = backends(0..2);
        two[0].shun();
        let targets = Targets::new(vec![(1000, two.clone())], vec![]);
        for _ in 0..100 {
            assert_eq!(one(&targets.pick(None, &[])), ReplicaId(1));
        }
        two[1].shun();
        one(&targets.pick(None, &[]));
    }

    #[test]
    fn a_session_stays_with_the_replica_that_has_it() {
        let (old, new) = (backends(0..2), backends(2..4));
        let session = SessionKey::of(b"s");
        let before = Targets::new(vec![(1000, old.clone())], vec![]);
        let Picked::One(owner) = before.pick(Some(session), &[]) else {
            panic!("one is ready");
        };
        owner.keep(session);
        let after = Targets::new(vec![(1000, new.clone())], old);
        assert_eq!(one(&after.pick(Some(session), &[])), owner.replica());
        let Picked::Wait = after.pick(Some(session), &[owner.replica()]) else {
            panic!("it has nowhere else to go");
        };
        assert!(one(&after.pick(Some(SessionKey::of(b"other")), &[])) >= ReplicaId(2));
        assert!(one(&after.pick(None, &[])) >= ReplicaId(2));
        let gone = Targets::new(vec![(1000, new)], vec![]);
        assert!(one(&gone.pick(Some(session), &[])) >= ReplicaId(2));
    }

    #[test]
    fn nobody_new_goes_to_one_that_is_leaving() {
        let leaving = Targets::new(vec![], backends(0..1));
        assert!(matches!(leaving.pick(None, &[]), Picked::None));
        assert!(matches!(
            leaving.pick(Some(SessionKey::home()), &[]),
            Picked::None
        ));
    }

    #[test]
    fn sessions_are_spread_by_share_too() {
        let targets = Targets::new(vec![(900, backends(0..2)), (100, backends(2..3))], vec![]);
        let mut calls = [0_u32; 3];
        for number in 0..10_000_u32 {
            let session = SessionKey::of(&number.to_le_bytes());
            calls[usize::try_from(one(&targets.pick(Some(session), &[])).0).expect("small")] += 1;
        }
        assert!((820..1180).contains(&calls[2]), "{calls:?}");
        assert!(calls[0].abs_diff(calls[1]) < 600, "{calls:?}");
    }
}
