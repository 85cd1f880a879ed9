//! What reaches the agent, and what comes back.

use http::{HeaderValue, Response};
use tokio::io::AsyncWriteExt;

use crate::house::House;
use crate::wire::{Wire, ask, get};
use crate::worker::{Worker, full, read_head};

#[tokio::test]
async fn the_path_below_the_agent_and_the_query_pass_unchanged() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    for (asked, seen) in [
        ("/agents/a/x%2Fy?q=1&q=2", "/x%2Fy?q=1&q=2"),
        ("/agents/a", "/"),
        ("/agents/a?x", "/?x"),
        ("/agents/a/", "/"),
        ("/agents/a//b/../c?d=/e?f", "//b/../c?d=/e?f"),
        ("/agents/%61/%2e%2E", "/%2e%2E"),
        ("http://elsewhere/agents/a/x", "/x"),
    ] {
        let answer = get(house.address, asked).await;
        assert!(
            answer.contains(&format!("\r\n\r\nGET {seen}\n")),
            "{asked}: {answer}"
        );
    }
}

#[tokio::test]
async fn any_method_passes() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    for method in ["OPTIONS", "DELETE", "PATCH", "PURGE"] {
        let request =
            format!("{method} /agents/a/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n");
        let answer = ask(house.address, request).await;
        assert!(
            answer.contains(&format!("\r\n\r\n{method} /x\n")),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn an_answer_to_head_keeps_its_length_and_has_no_body() {
    let house = House::new();
    let _worker = Worker::named(&house.socket("a"), "twelve bytes");
    house.publish_a();
    let request = "HEAD /agents/a/x HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n";
    let answer = ask(house.address, request).await;
    assert!(answer.contains("content-length: 12\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn duplicate_headers_are_kept_both_ways() {
    let house = House::new();
    let _worker = Worker::http(&house.socket("a"), |request| async move {
        let count = request.headers().get_all("x-twice").iter().count();
        let mut response = Response::new(full(format!("{count} lines")));
        for cookie in ["a=1", "b=2"] {
            response
                .headers_mut()
                .append("set-cookie", HeaderValue::from_static(cookie));
        }
        response
    });
    house.publish_a();
    let request = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nx-twice: 1\r\nx-twice: 1\r\nconnection: close\r\n\r\n";
    let answer = ask(house.address, request).await;
    assert!(answer.ends_with("2 lines"), "{answer}");
    assert!(
        answer.contains("set-cookie: a=1\r\nset-cookie: b=2\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_compressed_body_passes_untouched() {
    let house = House::new();
    let packed: &[u8] = &[0x1f, 0x8b, 8, 0, 0, 0xff, 0, 3];
    let _worker = Worker::http(&house.socket("a"), move |request| async move {
        assert_eq!(request.headers()["accept-encoding"], "gzip, br");
        let mut response = Response::new(full(packed));
        let gzip = HeaderValue::from_static("gzip");
        response.headers_mut().insert("content-encoding", gzip);
        response
    });
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send("GET /agents/a/ HTTP/1.1\r\nhost: g\r\naccept-encoding: gzip, br\r\n\r\n")
        .await;
    let head = wire.read_until("\r\n\r\n").await;
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert_eq!(wire.read_exactly(packed.len()).await, packed);
}

#[tokio::test]
async fn headers_of_one_connection_go_no_further() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let request = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nconnection: close, x-hop\r\nx-hop: 1\r\nkeep-alive: 5\r\n\
                   proxy-authorization: b\r\nproxy-connection: c\r\nte: trailers, deflate\r\nupgrade: h2c\r\n\
                   x-kept: 1\r\n\r\n";
    let answer = ask(house.address, request).await;
    for gone in [
        "connection=",
        "x-hop=",
        "keep-alive=",
        "proxy-",
        "upgrade=",
        "deflate",
    ] {
        assert!(!answer.contains(gone), "{gone}: {answer}");
    }
    for kept in ["x-kept=1\n", "te=trailers\n"] {
        assert!(answer.contains(kept), "{kept}: {answer}");
    }
}

#[tokio::test]
async fn connection_cannot_name_what_frames_or_addresses_the_message() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let request = "POST /agents/a/ HTTP/1.1\r\nhost: g\r\nconnection: close, host, content-length, x-forwarded-for\r\n\
                   content-length: 3\r\n\r\nabc";
    let answer = ask(house.address, request).await;
    for kept in [
        "host=g\n",
        "content-length=3\n",
        "x-forwarded-for=127.0.0.1\n",
        "body=abc\n",
    ] {
        assert!(answer.contains(kept), "{kept}: {answer}");
    }
}

#[tokio::test]
async fn headers_of_the_agents_connection_go_no_further() {
    let house = House::new();
    let _worker = Worker::http(&house.socket("a"), |_| async {
        let mut response = Response::new(full("x"));
        let headers = response.headers_mut();
        headers.insert("connection", HeaderValue::from_static("x-hop"));
        headers.insert("x-hop", HeaderValue::from_static("1"));
        headers.insert("keep-alive", HeaderValue::from_static("timeout=5"));
        headers.insert("x-kept", HeaderValue::from_static("1"));
        response
    });
    house.publish_a();
    let answer = get(house.address, "/agents/a/").await;
    assert!(
        !answer.contains("x-hop") && !answer.contains("keep-alive"),
        "{answer}"
    );
    assert!(answer.contains("x-kept: 1\r\n"), "{answer}");
}

#[tokio::test]
async fn the_agent_learns_how_it_was_reached() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let request = "GET /agents/a/ HTTP/1.1\r\nhost: example.org:8000\r\nx-forwarded-for: 10.0.0.1\r\n\
                   x-forwarded-for: 10.0.0.2\r\nx-forwarded-proto: gopher\r\nx-forwarded-host: evil\r\n\
                   x-forwarded-prefix: /evil\r\nconnection: close\r\n\r\n";
    let answer = ask(house.address, request).await;
    for told in [
        "host=example.org:8000\n",
        "x-forwarded-for=10.0.0.1, 10.0.0.2, 127.0.0.1\n",
        "x-forwarded-proto=http\n",
        "x-forwarded-host=example.org:8000\n",
        "x-forwarded-prefix=/agents/a\n",
    ] {
        assert!(answer.contains(told), "{told}: {answer}");
    }
    assert!(!answer.contains("evil"), "{answer}");
}

#[tokio::test]
async fn nobody_on_the_public_door_can_say_who_calls() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let request = "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nx-par-caller: b\r\nX-Par-Hops: 1\r\nx-par-other: 1\r\n\
                   connection: close\r\n\r\n";
    let answer = ask(house.address, request).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(!answer.contains("x-par-"), "{answer}");
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_agent() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let request = "POST /agents/a/ HTTP/1.1\r\nhost: g\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\
                   connection: close\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n";
    let answer = ask(house.address, request).await;
    assert!(answer.contains("trailer=x-sum\n"), "{answer}");
    assert!(answer.contains("body=abc\ntrailer x-sum=6\n"), "{answer}");
}

#[tokio::test]
async fn trailers_of_an_answer_reach_the_caller_that_takes_them() {
    let house = House::new();
    let _worker = Worker::saying(
        &house.socket("a"),
        "HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n",
    );
    house.publish_a();
    let request =
        "GET /agents/a/ HTTP/1.1\r\nhost: g\r\nte: trailers\r\nconnection: te, close\r\n\r\n";
    let answer = ask(house.address, request).await;
    assert!(answer.contains("trailer: x-sum\r\n"), "{answer}");
    assert!(
        answer.ends_with("3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_http_1_0_caller_gets_an_answer_without_chunks_that_ends_with_the_connection() {
    let house = House::new();
    let _worker = Worker::raw(&house.socket("a"), |mut stream| async move {
        let head = read_head(&mut stream).await;
        assert!(head.starts_with("GET / HTTP/1.1\r\n") && head.contains("host: localhost\r\n"));
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        stream.write_all(answer.as_bytes()).await.expect("sent");
    });
    house.publish_a();
    let answer = ask(house.address, "GET /agents/a/ HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200"), "{answer}");
    assert!(answer.ends_with("\r\n\r\nabc"), "{answer}");
    assert!(!answer.contains("chunked"), "{answer}");
}

#[tokio::test]
async fn a_caller_that_waits_for_100_continue_gets_it() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    wire.send(
        "POST /agents/a/ HTTP/1.1\r\nhost: g\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
    )
    .await;
    assert_eq!(
        wire.read_until("\r\n\r\n").await,
        "HTTP/1.1 100 Continue\r\n\r\n"
    );
    wire.send("abc").await;
    let answer = wire.answer().await;
    assert!(answer.contains("body=abc\n"), "{answer}");
}

#[tokio::test]
async fn many_requests_share_one_connection_on_both_sides() {
    let house = House::new();
    let worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    for number in 0..50 {
        wire.send(format!(
            "GET /agents/a/{number} HTTP/1.1\r\nhost: g\r\n\r\n"
        ))
        .await;
        let answer = wire.answer().await;
        assert!(answer.contains(&format!("GET /{number}\n")), "{answer}");
    }
    assert_eq!(worker.connections(), 1);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let house = House::new();
    let _worker = Worker::mirror(&house.socket("a"));
    house.publish_a();
    let mut wire = Wire::to(house.address).await;
    let post =
        |name| format!("POST /agents/a/{name} HTTP/1.1\r\nhost: g\r\ncontent-length: 3\r\n\r\nabc");
    wire.send(format!("{}{}{}", post("1"), post("2"), post("3")))
        .await;
    for name in ["1", "2", "3"] {
        let answer = wire.answer().await;
        assert!(
            answer.contains(&format!("POST /{name}\n")) && answer.contains("body=abc"),
            "{answer}"
        );
    }
}
