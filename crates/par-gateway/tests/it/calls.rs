//! gRPC: which agent is called, what it learns, and what is said when none answers.

use http::{HeaderMap, HeaderValue};
use par_gateway::{Config, Route};
use par_model::headers::MAX_HOPS;

use crate::channel::{Channel, MOMENT, grpc, head, hear};
use crate::house::{House, ready, rest};
use crate::wire::soon;
use crate::worker::Worker;

#[tokio::test]
async fn the_path_names_the_agent_and_the_rest_is_the_method() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    let backend = house.publish_a();
    let channel = Channel::to(house.address).await;
    for path in ["/agents/a/p.S/M", "/agents/%61/p.S/M"] {
        let answered = channel.ask(grpc(path, &[]), "x").await;
        assert_eq!(answered.outcome(), ("0", ""));
        assert!(
            answered.body.starts_with("POST http://gate:8000/p.S/M\n"),
            "{answered:?}"
        );
    }
    rest(&backend).await;
}

#[tokio::test]
async fn the_metadata_names_the_agent_and_keeps_its_name() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    for path in ["/p.S/M", "/agents/a/p.S/M"] {
        let answered = channel.ask(grpc(path, &[("x-agent-id", "a")]), "x").await;
        assert_eq!(answered.outcome(), ("0", ""));
        for seen in ["POST http://gate:8000/p.S/M\n", "x-agent-id=a\n"] {
            assert!(answered.body.contains(seen), "{seen}: {answered:?}");
        }
    }
}

#[tokio::test]
async fn a_call_that_names_no_agent_or_two_learns_what_to_do() {
    let house = House::new();
    house.publish_a();
    let channel = Channel::to(house.address).await;
    for (path, metadata, words) in [
        (
            "/p.S/M",
            &[][..],
            "send its id as metadata `x-agent-id`, or call /agents/{id}/",
        ),
        (
            "/agents/b/p.S/M",
            &[("x-agent-id", "a")],
            "leave one of them out",
        ),
        (
            "/p.S/M",
            &[("x-agent-id", "a"), ("x-agent-id", "a")],
            "not one agent id",
        ),
    ] {
        let answered = channel.ask(grpc(path, metadata), "x").await;
        let (code, message) = answered.refusal();
        assert_eq!(code, "3");
        assert!(message.contains(words), "{message}");
    }
}

#[tokio::test]
async fn an_agent_that_cannot_be_called_is_told_by_the_code() {
    let house = House::with(Config {
        hold: MOMENT,
        ..Config::default()
    });
    let vanished = house.backend("vanished", house.socket("vanished"));
    house.publish([
        ("down", Route::Down),
        ("soon", Route::Soon),
        ("vanished", ready(&vanished)),
    ]);
    let channel = Channel::to(house.address).await;
    for (agent, outcome) in [
        ("ghost", ("5", "Agent ghost not found")),
        ("down", ("14", "Agent down unavailable")),
        ("soon", ("14", "Agent soon unavailable")),
        ("vanished", ("14", "Agent vanished unavailable")),
    ] {
        let answered = channel
            .ask(grpc("/p.S/M", &[("x-agent-id", agent)]), "x")
            .await;
        assert_eq!(answered.refusal(), outcome);
    }
}

#[tokio::test]
async fn a_call_waits_for_the_replica_that_comes_and_a_health_check_does_not() {
    let house = House::with(Config {
        hold: crate::wire::LONG,
        ..Config::default()
    });
    house.publish([("a", Route::Soon)]);
    let channel = Channel::to(house.address).await;
    let mut held = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    held.say("x");
    held.end();
    let health = grpc("/agents/a/grpc.health.v1.Health/Check", &[]);
    // It has passed after the call that waits, through the same connection.
    assert_eq!(channel.ask(health, "x").await.refusal().0, "14");
    let _worker = Worker::grpc_echo(&house.socket("a"));
    house.publish_a();
    let answered = held.whole().await;
    assert_eq!((answered.outcome(), &*answered.body), (("0", ""), "x"));
}

#[tokio::test]
async fn a_call_to_a_worker_that_just_vanished_is_sent_to_the_next_one() {
    let house = House::with(Config {
        hold: crate::wire::LONG,
        ..Config::default()
    });
    let withdrawn_too_late = house.backend("a", house.socket("vanished"));
    house.publish([("a", ready(&withdrawn_too_late))]);
    let channel = Channel::to(house.address).await;
    let mut call = channel.begin(grpc("/agents/a/p.S/M", &[])).await;
    call.say("x");
    call.end();
    let _worker = Worker::grpc_echo(&house.socket("a"));
    house.publish_a();
    let answered = call.whole().await;
    assert_eq!((answered.outcome(), &*answered.body), (("0", ""), "x"));
}

#[tokio::test]
async fn metadata_and_trailers_pass_both_ways_with_duplicates() {
    let house = House::new();
    let twice = |headers: &HeaderMap| -> Vec<String> {
        let both = headers.get_all("x-sum-bin").iter();
        both.map(|value| value.to_str().expect("text").to_owned())
            .collect()
    };
    let _worker = Worker::grpc(&house.socket("a"), move |request, mut respond| async move {
        assert_eq!(twice(request.headers()), ["AAE=", "/w"]);
        let mut body = request.into_body();
        while hear(&mut body).await.is_some() {}
        let trailers = soon(body.trailers()).await.expect("an end");
        assert_eq!(twice(&trailers.expect("trailers")), ["AAE=", "/w"]);
        let mut response = head();
        *response.headers_mut() = sums();
        let mut answer = respond.send_response(response, false).expect("a head");
        answer.send_data("x".into(), false).expect("sent");
        answer.send_trailers(sums()).expect("an end");
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let request = grpc(
        "/agents/a/p.S/M",
        &[("x-sum-bin", "AAE="), ("x-sum-bin", "/w")],
    );
    let mut call = channel.begin(request).await;
    call.say("x");
    call.sending.send_trailers(sums()).expect("an end");
    let answered = call.whole().await;
    assert_eq!(twice(&answered.headers), ["AAE=", "/w"]);
    assert_eq!(twice(&answered.trailers), ["AAE=", "/w"]);
}

fn sums() -> HeaderMap {
    ["AAE=", "/w"]
        .map(|sum| {
            let name = "x-sum-bin".parse().expect("a name");
            (name, HeaderValue::from_static(sum))
        })
        .into_iter()
        .collect()
}

#[tokio::test]
async fn an_answer_that_is_all_head_stays_one() {
    let house = House::new();
    let _worker = Worker::grpc(&house.socket("a"), |_, mut respond| async move {
        let mut response = head();
        let status = HeaderValue::from_static("7");
        response.headers_mut().insert("grpc-status", status);
        respond.send_response(response, true).expect("a head");
    });
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let answered = channel.ask(grpc("/agents/a/p.S/M", &[]), "x").await;
    assert_eq!(answered.refusal(), ("7", ""));
}

#[tokio::test]
async fn nobody_on_the_public_door_can_say_who_calls_by_grpc() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::to(house.address).await;
    let forged = [
        ("x-par-caller", "b"),
        ("x-par-hops", "1"),
        ("x-par-parent", "1"),
        ("x-forwarded-for", "10.0.0.1"),
        ("x-forwarded-host", "evil"),
        ("x-forwarded-prefix", "/evil"),
    ];
    let answered = channel.ask(grpc("/agents/a/p.S/M", &forged), "x").await;
    for told in [
        "x-forwarded-for=10.0.0.1, 127.0.0.1\n",
        "x-forwarded-host=gate:8000\n",
        "x-forwarded-prefix=/agents/a\n",
        "x-forwarded-proto=http\n",
        "te=trailers\n",
    ] {
        assert!(answered.body.contains(told), "{told}: {answered:?}");
    }
    for gone in ["x-par-", "evil", "\nhost="] {
        assert!(!answered.body.contains(gone), "{gone}: {answered:?}");
    }
}

#[tokio::test]
async fn the_agent_learns_which_agent_calls_by_grpc() {
    let house = House::new();
    let _worker = Worker::grpc_mirror(&house.socket("a"));
    house.publish_a();
    let channel = Channel::through(&house.internal_door()).await;
    let said = [("x-par-caller", "somebody"), ("x-par-hops", "3")];
    let answered = channel.ask(grpc("/agents/a/p.S/M", &said), "x").await;
    for told in ["x-par-caller=caller\n", "x-par-hops=3\n"] {
        assert!(answered.body.contains(told), "{told}: {answered:?}");
    }
    assert!(!answered.body.contains("somebody"), "{answered:?}");
    let last = MAX_HOPS.to_string();
    let one_more = (MAX_HOPS + 1).to_string();
    for (hops, code) in [(&*last, "0"), (&one_more, "9"), ("many", "3")] {
        let request = grpc("/agents/a/p.S/M", &[("x-par-hops", hops)]);
        assert_eq!(channel.ask(request, "x").await.outcome().0, code, "{hops}");
    }
}
