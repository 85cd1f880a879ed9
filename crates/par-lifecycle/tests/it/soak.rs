//! A million steps, in worlds that are numbered: a world that broke is lived again by its number.

use std::collections::BTreeMap;
use std::panic;

use par_lifecycle::Settings;

use crate::ledger::Ledger;
use crate::properties;
use crate::step::Step;
use crate::watch::Watch;
use crate::world::World;

const WORLDS: u64 = 101;
/// Those of which something comes.
const STEPS: usize = 10_000;
/// All that can be told: in so many steps, each happens often.
const KINDS: usize = 20;

/// A xorshift: good enough for dice, and cheap.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }
}

#[test]
fn a_million_steps_break_nothing() {
    let mut told = BTreeMap::new();
    let mut steps = 0;
    for seed in 1..=WORLDS {
        let ended = panic::catch_unwind(|| live(seed));
        let watch = ended.unwrap_or_else(|_| panic!("the world of seed {seed} broke"));
        steps += watch.looks;
        for (what, times) in watch.told {
            *told.entry(what).or_insert(0) += times;
        }
    }
    assert!(steps >= 1_000_000, "only {steps}");
    let rare: Vec<_> = told.iter().filter(|(_, times)| **times < 200).collect();
    assert!(told.len() == KINDS && rare.is_empty(), "{told:?}");
}

/// The world of this number, to its end.
fn live(seed: u64) -> Watch {
    let crowded = seed.is_multiple_of(2);
    let settings: Settings = match crowded {
        true => properties::crowded(),
        false => properties::roomy(),
    };
    let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let mut world = World::new(settings.clone());
    let mut watch = Watch::new();
    let mut ledger = (!crowded).then(|| Ledger::new(settings));
    while watch.looks < STEPS {
        let Some(moment) = world.step(Step::of(numbers.next())) else {
            continue;
        };
        watch.look(&moment, &mut world);
        if let Some(ledger) = &mut ledger {
            ledger.note(&moment, &world);
        }
        if watch.looks.is_multiple_of(64) {
            watch.look_around(&world);
        }
        if watch.looks.is_multiple_of(8) {
            ledger.iter().for_each(|it| it.compare(&world));
        }
    }
    watch
}
