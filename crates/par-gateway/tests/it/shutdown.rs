//! The end: nobody comes in, what was begun is finished, and the wait for it is bounded.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Response;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};

use crate::house::House;
use crate::wire::{Wire, soon};
use crate::worker::{Worker, full};

/// Answers when it is allowed to.
fn patient_worker(house: &House) -> (Worker, Arc<Semaphore>, mpsc::UnboundedReceiver<()>) {
    let permits = Arc::new(Semaphore::new(0));
    let allowed = Arc::clone(&permits);
    let (asked, was_asked) = mpsc::unbounded_channel();
    let worker = Worker::http(&house.socket("a"), move |_| {
        let (allowed, asked) = (Arc::clone(&allowed), asked.clone());
        async move {
            asked.send(()).expect("the test waits");
            allowed.acquire().await.expect("open").forget();
            Response::new(full("late"))
        }
    });
    (worker, permits, was_asked)
}

#[tokio::test]
async fn a_call_in_flight_is_finished_and_nobody_comes_in_any_more() {
    let house = House::new();
    let (_worker, permits, mut asked) = patient_worker(&house);
    house.publish_a();
    let mut idle = Wire::to(house.address).await;
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    soon(asked.recv()).await.expect("asked");
    let address = house.address;
    let shutdown = tokio::spawn(house.gateway.shutdown(Duration::from_secs(60)));
    assert_eq!(idle.read_to_end().await, "");
    soon(async { while TcpStream::connect(address).await.is_ok() {} }).await;
    permits.add_permits(1);
    assert!(wire.read_to_end().await.ends_with("late"));
    soon(shutdown).await.expect("ended");
}

#[tokio::test]
async fn a_call_that_outlasts_the_grace_is_ended() {
    let house = House::new();
    let (_worker, _permits, mut asked) = patient_worker(&house);
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\n\r\n")
        .await;
    soon(asked.recv()).await.expect("asked");
    let begun = Instant::now();
    soon(house.gateway.shutdown(Duration::from_millis(100))).await;
    assert!(begun.elapsed() >= Duration::from_millis(100));
    assert_eq!(wire.read_to_end().await, "");
}
