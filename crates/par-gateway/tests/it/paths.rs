//! Which agent a path leads to, by what the agents saw: the one that was named, or none.

use http::Response;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::channel::Channel;
use crate::house::{House, ready};
use crate::wire::ask;
use crate::worker::{Worker, full};

/// Two agents that say what they were asked.
fn house() -> (
    House,
    [Worker; 2],
    UnboundedReceiver<(&'static str, String)>,
) {
    let house = House::new();
    let (seen, was_seen) = unbounded_channel();
    let workers = ["a", "b"].map(|name| {
        let seen = seen.clone();
        Worker::http(&house.socket(name), move |request| {
            let target = request.uri().to_string();
            seen.send((name, target)).expect("the test waits");
            async { Response::new(full("seen")) }
        })
    });
    let backends = ["a", "b"].map(|name| (name, house.backend(name, house.socket(name))));
    house.publish(
        backends
            .iter()
            .map(|(name, backend)| (*name, ready(backend))),
    );
    (house, workers, was_seen)
}

/// An agent and what it is asked, or a status of ours.
type Fate = Result<(&'static str, &'static str), &'static str>;

/// What each path comes to.
const PATHS: &[(&str, Fate)] = &[
    ("/agents/a/x", Ok(("a", "/x"))),
    ("/agents/a", Ok(("a", "/"))),
    ("/agents/a/", Ok(("a", "/"))),
    ("/agents/a?x=/agents/b", Ok(("a", "/?x=/agents/b"))),
    // A name is decoded once, and never the rest.
    ("/agents/%61/x", Ok(("a", "/x"))),
    ("/agents/%2561/x", Err("404")),
    ("/agents/a/%2e%2e/b/x", Ok(("a", "/%2e%2e/b/x"))),
    ("/agents/a/%252e%252e/x", Ok(("a", "/%252e%252e/x"))),
    ("/agents/a/x%2fy", Ok(("a", "/x%2fy"))),
    ("/agents/a/%00", Ok(("a", "/%00"))),
    // Nothing climbs from one agent to another, or out of the agents.
    ("/agents/a/../b/x", Ok(("a", "/../b/x"))),
    (
        "/agents/a/../../supervisor/status",
        Ok(("a", "/../../supervisor/status")),
    ),
    ("/agents/../supervisor/status", Err("404")),
    ("/agents/./a/x", Err("404")),
    ("/agents/%2e%2e/a/x", Err("404")),
    ("/agents/a%2f..%2fb/x", Err("404")),
    ("/agents/a%2fx", Err("404")),
    ("/agents/a%5c..%5cb/x", Err("404")),
    // Names that are almost names.
    ("/agents/A/x", Err("404")),
    ("/agents/a%00/x", Err("404")),
    ("/agents/a%20/x", Err("404")),
    ("/agents/%c1%a1/x", Err("404")),    // an overlong `a`
    ("/agents/%ef%bd%81/x", Err("404")), // a wide `a`
    ("/agents/%u0061/x", Err("404")),
    ("/agents/%6/x", Err("404")),
    ("/agents/a;b/x", Err("404")),
    ("/agents/a;/x", Err("404")),
    ("/agents/a%3bb/x", Err("404")),
    ("/agents/a%3fx", Err("404")),
    ("/agents//a/x", Err("404")),
    // What is not below `/agents/` is the control API's, as it came.
    ("//agents/a/x", Err("200")),
    ("/Agents/a/x", Err("200")),
    ("/%61gents/a/x", Err("200")),
    ("/agents%2fa/x", Err("200")),
    ("/./agents/a/x", Err("200")),
    ("/x/../agents/a/x", Err("200")),
    ("/agents", Err("200")),
    ("/agents/", Err("200")),
    ("*", Err("200")),
];

#[tokio::test]
async fn a_path_leads_to_the_agent_that_it_names_and_to_no_other() {
    let (house, _workers, mut seen) = house();
    for (path, expected) in PATHS {
        let method = if *path == "*" { "OPTIONS" } else { "GET" };
        let request = format!("{method} {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
        let answer = ask(house.address, request).await;
        let reached = seen.try_recv().ok();
        match expected {
            Ok((agent, target)) => {
                assert_eq!(
                    reached,
                    Some((*agent, (*target).to_owned())),
                    "{path}: {answer}"
                );
            }
            Err(status) => {
                assert_eq!(reached, None, "{path}");
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status}")),
                    "{path}: {answer}"
                );
            }
        }
    }
}

#[tokio::test]
async fn the_same_paths_lead_to_the_same_agents_over_http_2() {
    let (house, _workers, mut seen) = house();
    let channel = Channel::to(house.address).await;
    for (path, expected) in PATHS.iter().filter(|(path, _)| path.starts_with('/')) {
        let uri = http::Uri::builder()
            .scheme("http")
            .authority("g")
            .path_and_query(*path)
            .build()
            .expect("a target");
        let mut request = http::Request::new(());
        *request.uri_mut() = uri;
        let answered = channel.ask(request, "").await;
        let reached = seen.try_recv().ok();
        match expected {
            Ok((agent, target)) => {
                assert_eq!(reached, Some((*agent, (*target).to_owned())), "{path}")
            }
            Err(status) => {
                assert_eq!(reached, None, "{path}");
                assert_eq!(answered.status.to_string(), *status, "{path}");
            }
        }
    }
}
