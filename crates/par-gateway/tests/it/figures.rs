//! What is counted.

use std::time::Duration;

use par_gateway::{Bell, Route, Routes};
use par_telemetry::metrics::{Format, Page};
use tokio::sync::mpsc;

use crate::channel::{Channel, grpc};
use crate::house::House;
use crate::wire::{Wire, get, soon};
use crate::worker::Worker;

fn figures(routes: &Routes) -> String {
    let mut page = Page::new(Format::Prometheus);
    routes.write_figures(&mut page);
    page.finish()
}

/// Waits until the page has all the lines: a call is over a moment after its answer.
async fn shows(house: &House, lines: &[&str]) {
    let mut text = String::new();
    let all = async {
        loop {
            text = figures(&house.routes);
            if lines
                .iter()
                .all(|line| text.lines().any(|found| found == *line))
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let shown = tokio::time::timeout(Duration::from_secs(10), all).await;
    assert!(shown.is_ok(), "not all of {lines:#?} in\n{text}");
}

#[tokio::test]
async fn calls_are_counted_by_agent_surface_and_outcome() {
    let house = House::new();
    let _worker = Worker::named(&house.socket("a"), "a");
    let _other = Worker::grpc_mirror(&house.socket("b"));
    let b = house.backend("b", house.socket("b"));
    let a = house.backend("a", house.socket("a"));
    house.publish([
        ("a", crate::house::ready(&a)),
        ("b", crate::house::ready(&b)),
        ("down", Route::Down),
    ]);
    let mut wire = Wire::to(house.address).await;
    for _ in 0..3 {
        wire.send("GET /agents/a/x HTTP/1.1\r\nhost: g\r\n\r\n")
            .await;
        wire.answer().await;
    }
    get(house.address, "/agents/down/x").await;
    for ghost in ["ghost", "other", "third"] {
        get(house.address, &format!("/agents/{ghost}/x")).await;
    }
    let channel = Channel::to(house.address).await;
    channel.ask(grpc("/agents/b/p.S/M", &[]), "x").await;
    channel.ask(grpc("/agents/down/p.S/M", &[]), "x").await;
    channel.ask(grpc("/p.S/M", &[]), "x").await;
    get(house.address, "/supervisor/status").await;
    shows(
        &house,
        &[
            r#"par_gateway_calls_total{agent="a",surface="http",outcome="2xx"} 3"#,
            r#"par_gateway_calls_total{agent="b",surface="grpc",outcome="OK"} 1"#,
            r#"par_gateway_calls_total{agent="down",surface="http",outcome="5xx"} 1"#,
            r#"par_gateway_calls_total{agent="down",surface="grpc",outcome="UNAVAILABLE"} 1"#,
            r#"par_gateway_calls_total{agent="_unknown",surface="http",outcome="4xx"} 3"#,
            r#"par_gateway_calls_total{agent="_unknown",surface="grpc",outcome="INVALID_ARGUMENT"} 1"#,
            r#"http_server_request_duration_seconds_count{agent="a"} 3"#,
            r#"rpc_server_call_duration_seconds_count{agent="b"} 1"#,
            r#"par_gateway_replicas{agent="a",role="ready"} 1"#,
            r#"par_gateway_replicas{agent="down",role="ready"} 0"#,
            r#"par_gateway_calls_in_flight{agent="a"} 0"#,
        ],
    )
    .await;
    assert!(!figures(&house.routes).contains("ghost"));
}

#[tokio::test]
async fn counts_go_on_when_another_table_is_published() {
    let house = House::new();
    for round in 1..=3 {
        house.publish([("a", Route::Down)]);
        house
            .routes
            .change(|table| table.set(&crate::house::agent("b"), Route::Soon));
        get(house.address, "/agents/a/x").await;
        let line =
            format!(r#"par_gateway_calls_total{{agent="a",surface="http",outcome="5xx"}} {round}"#);
        shows(&house, &[&line]).await;
    }
}

#[tokio::test]
async fn one_whose_caller_left_is_counted_as_such() {
    let house = House::new();
    let (asked, mut was_asked) = mpsc::unbounded_channel();
    let _worker = Worker::http(&house.socket("a"), move |_| {
        asked.send(()).expect("the test waits");
        std::future::pending()
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/x HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    soon(was_asked.recv()).await.expect("asked");
    shows(&house, &[r#"par_gateway_calls_in_flight{agent="a"} 1"#]).await;
    drop(wire);
    shows(
        &house,
        &[
            r#"par_gateway_calls_total{agent="a",surface="http",outcome="left"} 1"#,
            r#"par_gateway_calls_in_flight{agent="a"} 0"#,
        ],
    )
    .await;
}

#[tokio::test]
async fn wake_ups_and_those_who_wait_are_counted() {
    let house = House::new();
    house.publish([("a", Route::Asleep(Bell::new()))]);
    let calls: Vec<_> = (0..5)
        .map(|_| tokio::spawn(get(house.address, "/agents/a/x")))
        .collect();
    let waiting = r#"par_gateway_calls_waiting{agent="a"} 5"#;
    shows(
        &house,
        &[waiting, r#"par_gateway_wakeups_total{agent="a"} 1"#],
    )
    .await;
    let _worker = Worker::named(&house.socket("a"), "a");
    house.publish_a();
    for call in calls {
        soon(call).await.expect("an answer");
    }
    shows(&house, &[r#"par_gateway_calls_waiting{agent="a"} 0"#]).await;
}
