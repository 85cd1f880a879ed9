//! The gate holds every protocol against the same snapshot, and a new one at once.

use std::sync::{Arc, Mutex};

use par_access::{Access, KeptToken, NewToken, Policy, Standing, Tokens};
use par_gateway::{Decided, Gate};

use crate::channel::{Channel, grpc};
use crate::house::House;
use crate::worker::Worker;

fn token(seed: u8, scope: &str) -> (NewToken, KeptToken) {
    let token = NewToken::from_random([seed; 40]);
    let kept = KeptToken {
        id: token.id,
        name: scope.replace(':', "-").parse().expect("a name"),
        hash: token.hash(),
        standing: Standing {
            scopes: [scope.parse().expect("a scope")].into(),
            ..Standing::default()
        },
        created_at_ms: 0,
        expires_at_ms: None,
    };
    (token, kept)
}

#[tokio::test]
async fn grpc_is_refused_by_the_rules_of_http_and_in_its_own_words() {
    let (right, kept_right) = token(1, "call:a");
    let (wrong_scope, kept_wrong) = token(2, "call:b");
    let unknown = NewToken::from_random([3; 40]);
    let access = Access {
        policy: Arc::new(Policy::default()),
        tokens: Arc::new(Tokens::new([kept_right, kept_wrong], |standing| standing)),
        ..Access::default()
    };
    let told = Arc::new(Mutex::new(Vec::<Decided>::new()));
    let hearing = Arc::clone(&told);
    let told_on = move |decided| hearing.lock().expect("whole").push(decided);
    let gate = Gate::new(access, told_on, || false);
    let house = House::behind(gate.clone());
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let bearer = |token: &NewToken| format!("Bearer {}", token.expose());
    for (credential, code) in [
        (None, "16"),
        (Some(bearer(&unknown)), "16"),
        (Some(bearer(&wrong_scope)), "7"),
        (Some(bearer(&right)), "0"),
    ] {
        for name in ["authorization", "x-par-authorization"] {
            let metadata: Vec<(&str, &str)> =
                credential.iter().map(|it| (name, it.as_str())).collect();
            let answered = channel.ask(grpc("/agents/a/p.S/M", &metadata), "x").await;
            assert_eq!(answered.outcome().0, code, "{name}: {answered:?}");
            assert!(!answered.body.contains("par_"), "{answered:?}");
        }
    }
    let denied = told.lock().expect("whole").clone();
    assert_eq!(denied.len(), 6, "{denied:?}");
    assert!(
        denied
            .iter()
            .all(|it| !it.allowed && it.target == "a" && it.action == "call")
    );
    gate.change(|access| access.tokens = Arc::default());
    let revoked = channel
        .ask(
            grpc("/agents/a/p.S/M", &[("authorization", &bearer(&right))]),
            "x",
        )
        .await;
    assert_eq!(revoked.outcome().0, "16", "{revoked:?}");
}
