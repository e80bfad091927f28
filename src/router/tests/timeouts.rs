//! Clients that are slow, and clients that do nothing.

use std::time::Duration;

use super::kit::*;
use crate::config;

/// Time-outs of a second.
fn short() -> config::Router {
    config::Router { head_seconds: 1, body_seconds: 1, send_seconds: 1, idle_seconds: 1, ..config::Router::default() }
}

/// Less than the time-outs.
const PAUSE: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_head_must_come_as_a_whole_in_time() {
    let echo = Instance::echo("one").await;
    // An idle connection does not count against it.
    let (_router, address) = Router::serving_with(config::Router { idle_seconds: 60, ..short() }, &[&echo]).await;
    let mut kept = Peer::connect(address).await;
    assert_eq!(kept.request(GET).await.status(), 200);
    let body = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc";
    assert_eq!(kept.request(body).await.status(), 200);
    let mut silent = Peer::connect(address).await;
    let (mut read, mut slow) = Peer::connect(address).await.split();
    let sending = async {
        while slow.try_send("GET / HTTP/1.1\r\n").await && slow.try_send("x: ").await {
            while slow.try_send("y").await {
                tokio::time::sleep(PAUSE).await;
            }
        }
    };
    let refused = async {
        let answer = read.message().await.unwrap();
        assert_eq!(answer.status(), 408);
        assert_eq!(answer.header("connection"), Some("close"));
        read.rest().await
    };
    tokio::select! {
        rest = refused => assert_eq!(rest, ""),
        () = sending => {}
    }
    assert_eq!(silent.rest().await, "", "a client that sends nothing gets nothing");
    assert_eq!(kept.request(GET).await.status(), 200);
}

#[tokio::test]
async fn an_idle_connection_is_closed_between_two_requests() {
    let echo = Instance::echo("one").await;
    let (_router, address) = Router::serving_with(config::Router { head_seconds: 60, ..short() }, &[&echo]).await;
    let mut client = Peer::connect(address).await;
    assert_eq!(client.request(GET).await.status(), 200);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn a_body_that_stops_is_refused_and_one_that_moves_is_not() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving_with(short(), &[&one]).await;
    let mut reports = router.link.unanswered();
    for framing in ["content-length: 12", "transfer-encoding: chunked"] {
        let mut client = Peer::connect(address).await;
        client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\n{framing}\r\n\r\n")).await;
        let mut peer = one.connection().await;
        peer.head().await.unwrap();
        // Twice the time-out in all, a byte at a time; of a chunk, its head as well.
        for byte in if framing.starts_with('c') { "123456789abc" } else { "2\r\nab\r\n0\r\n\r\n" }.chars() {
            tokio::time::sleep(PAUSE / 2).await;
            client.send(&byte.to_string()).await;
        }
        peer.send(OK).await;
        assert_eq!(client.message().await.unwrap().text(), "ok", "{framing}");
        // The connection is closed when it is idle.
        assert_eq!(client.rest().await, "");
    }
    let mut client = Peer::connect(address).await;
    client.send("POST /late HTTP/1.1\r\nhost: a\r\ncontent-length: 12\r\n\r\n123").await;
    let mut peer = one.connection().await;
    assert!(peer.rest().await.ends_with("\r\n\r\n123"), "the instance sees that the body is incomplete");
    let answer = client.message().await.unwrap();
    assert_eq!((answer.status(), answer.header("connection")), (408, Some("close")));
    let report = soon("a report", reports.recv()).await.unwrap();
    assert_eq!((report.status, report.path.as_str()), (408, "/late"));
}

#[tokio::test]
async fn a_body_that_no_instance_takes_is_not_late() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving_with(short(), &[&one]).await;
    let mut client = Peer::connect(address).await;
    // More than the kernel's buffers have.
    let count = 64 << 20;
    client.send(&format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {count}\r\n\r\n")).await;
    let mut peer = one.connection().await;
    peer.head().await.unwrap();
    let (mut read, mut write) = client.split();
    let body = "x".repeat(count);
    let sending = async { write.send(&body).await };
    let taking = async {
        tokio::time::sleep(4 * PAUSE).await;
        peer.take(count).await;
        peer.send(OK).await;
        assert_eq!(read.message().await.unwrap().text(), "ok");
    };
    tokio::join!(sending, taking);
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_disconnected_and_one_that_reads_slowly_is_not() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving_with(short(), &[&one]).await;
    // More than the kernel's buffers have.
    let count = 64 << 20;
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {count}\r\n\r\n");
    let body = "x".repeat(count);
    let (mut slow, mut deaf) = (Peer::connect_small(64 << 10, address).await, Peer::connect(address).await);
    slow.send(GET).await;
    let mut to_slow = one.connection().await;
    to_slow.message().await.unwrap();
    deaf.send(GET).await;
    let mut to_deaf = one.connection().await;
    to_deaf.message().await.unwrap();
    let disconnected = async {
        to_deaf.send(&head).await;
        assert!(!to_deaf.try_send(&body).await, "the router closes the upstream of a client that reads nothing");
        assert!(deaf.rest().await.len() < count);
    };
    let served = async {
        let sending = async {
            to_slow.send(&head).await;
            to_slow.send(&body).await;
        };
        let reading = async {
            slow.head().await.unwrap();
            // Too little at a time for the router's next write, and for longer than the time-out in all.
            for _ in 0..12 {
                tokio::time::sleep(PAUSE).await;
                slow.take(64 << 10).await;
            }
            slow.take(count - 12 * (64 << 10)).await;
        };
        tokio::join!(sending, reading);
    };
    tokio::join!(disconnected, served);
}
