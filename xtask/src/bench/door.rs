//! What the front door costs: the gateway alone with all limits, with those that it has unless told otherwise, and with
//! none, in turns, before a worker that does nothing. Its framing is never off, so it is measured by itself.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixListener;
use std::time::Instant;

use par_door::{Framing, Names, Quota, Rate};
use par_gateway::{Config, Routes};
use serde::Serialize;

use super::extent::Extent;
use super::known::{GRACE, answer_all, call, gateway, table};
use super::load::{Sample, load};
use super::progress;
use super::statistics::median;
use super::workshop::Workshop;

const AT_A_TIME: usize = 16;
/// A ratio near 1 wants more rounds than one that is not.
const MORE_ROUNDS: usize = 5;
const FRAMED: u32 = 100_000;
/// As a program sends it.
const REQUEST: &[u8] = b"POST /agents/a0/invoke HTTP/1.1\r\nhost: 127.0.0.1:8000\r\nuser-agent: python-httpx/0.28.1\r\n\
    accept: */*\r\naccept-encoding: gzip, deflate\r\nconnection: keep-alive\r\ncontent-type: application/json\r\n\
    content-length: 7\r\n\r\n{\"x\":1}";

#[derive(Serialize)]
pub(crate) struct Door {
    /// Calls per second.
    pub(crate) without: f64,
    pub(crate) as_usual: f64,
    pub(crate) with_all: f64,
    /// Of each round, and their median.
    pub(crate) usual_ratio: f64,
    pub(crate) all_ratio: f64,
    /// To follow the framing of one request.
    pub(crate) framing_ns: f64,
}

fn without() -> Config {
    Config {
        max_connections_per_address: 0,
        per_caller: Quota::default(),
        per_agent: Quota::default(),
        ..Config::default()
    }
}

fn with_all() -> Config {
    let quota = Quota {
        calls: 100_000,
        rate: Rate::new(10_000_000, 10_000_000),
    };
    Config {
        per_caller: quota,
        per_agent: quota,
        names: Names::of(
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            vec!["par.example.com".to_owned()],
            vec!["https://app.example.com".to_owned()],
        ),
        ..Config::default()
    }
}

pub(crate) async fn measure(workshop: &Workshop, extent: &Extent) -> anyhow::Result<Door> {
    progress("the front door, with limits and without")?;
    let socket = workshop.folder().join("door.sock");
    answer_all(UnixListener::bind(&socket)?);
    let routes = Routes::default();
    let table = table(1, &socket);
    let (mut gateways, mut calls) = (vec![], vec![]);
    for config in [without(), Config::default(), with_all()] {
        let gateway = gateway(&routes, config)?;
        calls.push(call(gateway.local_addr(), &routes, &table).await?);
        gateways.push(gateway);
    }
    let mut samples = [vec![], vec![], vec![]];
    for _ in 0..extent.rounds * MORE_ROUNDS {
        for (call, samples) in calls.iter().zip(&mut samples) {
            samples.push(load(call, AT_A_TIME, extent.round / 2).await?);
        }
    }
    for gateway in gateways {
        gateway.shutdown(GRACE).await;
    }
    let per_second = |samples: &[Sample]| median(samples.iter().map(|it| it.per_second).collect());
    let [without, as_usual, with_all] = &samples;
    let ratio = |samples: &[Sample]| {
        let pairs = samples.iter().zip(without);
        median(
            pairs
                .map(|(with, without)| with.per_second / without.per_second)
                .collect(),
        )
    };
    Ok(Door {
        without: per_second(without),
        as_usual: per_second(as_usual),
        with_all: per_second(with_all),
        usual_ratio: ratio(as_usual),
        all_ratio: ratio(with_all),
        framing_ns: framing(),
    })
}

fn framing() -> f64 {
    let mut framing = Framing::default();
    let begun = Instant::now();
    for _ in 0..FRAMED {
        let framed = framing.feed(black_box(REQUEST)).is_ok();
        assert!(black_box(framed), "it is framed as HTTP");
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(FRAMED)
}
