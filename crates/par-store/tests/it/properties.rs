//! Whatever is committed, in whatever order: the store is as the dumb model says, before and after reopening.

use par_store::{Bounds, Store};
use proptest::prelude::*;

use super::folder;
use super::model::{Model, Op, RELEASES};

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..3_u8, any::<Option<u16>>(), 0..6000_u16)
            .prop_map(|(agent, secret, size)| Op::Deploy { agent, secret, size }),
        3 => (0..3_u8, 0..4_u8, any::<Option<u16>>(), any::<bool>())
            .prop_map(|(agent, back, canary, up)| Op::Serve { agent, back, canary, up }),
        1 => (0..3_u8, 1..8_u32, any::<bool>())
            .prop_map(|(agent, number, failed)| Op::Conclude { agent, number, failed }),
        1 => (0..3_u8).prop_map(|agent| Op::Remove { agent }),
        1 => (any::<u64>(), 0..3_u8, any::<u32>())
            .prop_map(|(replica, agent, pid)| Op::Born { replica, agent, pid }),
        1 => any::<u64>().prop_map(|replica| Op::Died { replica }),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Commit(Vec<Op>),
    Reopen,
    /// As if somebody else had been faster.
    Late(Vec<Op>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => proptest::collection::vec(op(), 0..4).prop_map(Step::Commit),
        1 => Just(Step::Reopen),
        1 => proptest::collection::vec(op(), 1..3).prop_map(Step::Late),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn it_is_as_the_model_says(steps in proptest::collection::vec(step(), 1..24)) {
        let folder = folder();
        let bounds = Bounds { releases: RELEASES, ..Bounds::default() };
        let open = || Store::open(folder.path(), bounds).expect("it opens");
        let mut store = open();
        let mut model = Model::default();
        let mut expected = store.revision().expect("read");
        for step in steps {
            match step {
                Step::Commit(ops) => {
                    let changes = model.apply(&ops);
                    expected = store.commit(expected, &changes).expect("committed");
                }
                Step::Reopen => {
                    drop(store);
                    store = open();
                }
                Step::Late(ops) => {
                    let changes = model.clone().apply(&ops);
                    let old = par_store::Revision(expected.0 + 1);
                    prop_assert!(store.commit(old, &changes).is_err());
                }
            }
            prop_assert_eq!(&Model::of(&store), &model);
            prop_assert_eq!(store.revision().expect("read"), expected);
        }
    }
}
