//! Requests that two servers could interpret differently: they are refused, or forwarded in an unambiguous form.

use std::sync::atomic::Ordering::SeqCst;

use super::kit::*;

#[tokio::test]
async fn ambiguous_requests_are_refused_and_end_the_connection() {
    let echo = Instance::echo("one").await;
    let (_router, address) = Router::serving(&[&echo]).await;
    let next = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";
    let huge = format!("GET / HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "x".repeat(512 * 1024));
    let many = format!("GET / HTTP/1.1\r\nhost: a\r\n{}\r\n", "x: y\r\n".repeat(17_000));
    let cases = [
        ("two lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"),
        ("a list of lengths", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1, 1\r\n\r\na"),
        ("a signed length", "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +1\r\n\r\na"),
        ("xchunked", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n"),
        ("chunked twice", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        ("two codings", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        (
            "two lines",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ),
        ("chunked in 1.0", "POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("space before the colon", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n"),
        ("a folded line", "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\n transfer-encoding: chunked\r\n\r\n"),
        ("a line that begins with a tab", "POST / HTTP/1.1\r\nhost: a\r\n\ttransfer-encoding: chunked\r\n\r\n"),
        ("a vertical tab", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \u{b}chunked\r\n\r\n0\r\n\r\n"),
        ("a bare return", "GET / HTTP/1.1\r\nhost: a\r\nx: y\rtransfer-encoding: chunked\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("an invalid host", "GET / HTTP/1.1\r\nhost: a/b c\r\n\r\n"),
        ("a user name before the host", "GET http://root@a/ HTTP/1.1\r\nhost: a\r\n\r\n"),
        ("a bad chunk", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"),
        (
            "a chunk size that overflows",
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n",
        ),
        ("a chunk without a line end", "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\nabc"),
        ("another version", "GET / HTTP/3.1\r\nhost: a\r\n\r\n"),
        ("CONNECT", "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"),
        ("a huge header", &huge),
        ("many headers", &many),
    ];
    for (case, bytes) in cases {
        let mut client = Peer::connect(address).await;
        // The router reads the rest of a request that it refuses, and does not look at it.
        client.try_send(bytes).await;
        client.try_send(next).await;
        let received = client.rest().await;
        assert!(!received.contains("/smuggled"), "{case}: {received}");
        assert!(!received.contains(" 200 "), "{case}: {received}");
        assert!(received.starts_with("HTTP/1.1 4") || received.starts_with("HTTP/1.1 505 "), "{case}: {received}");
    }
}

#[tokio::test]
async fn a_length_beside_chunked_is_removed_and_the_connection_ends() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    for order in ["content-length: 4\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 4"]
    {
        let mut client = Peer::connect(address).await;
        client
            .send(&format!(
                "POST / HTTP/1.1\r\nhost: a\r\n{order}\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
            ))
            .await;
        let mut peer = one.connection().await;
        let asked = peer.message().await.unwrap();
        assert_eq!(asked.header("transfer-encoding"), Some("chunked"));
        assert_eq!((asked.header("content-length"), asked.body.len()), (None, 0));
        peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok").await;
        drop(peer);
        let received = client.rest().await;
        assert_eq!(received.matches("HTTP/1.1").count(), 1, "{received}");
    }
    assert_eq!(one.accepted.load(SeqCst), 2, "the bytes after the body are not read as a request");
}

#[tokio::test]
async fn an_instance_cannot_answer_a_later_request() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    let extra = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nforged";
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send(&format!("{OK}{extra}")).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let answer = client.message().await.unwrap();
    assert_eq!((answer.header("content-length"), answer.text()), (None, "ok"));
    client.send(GET).await;
    let asked = peer.message().await.unwrap();
    assert!(asked.head.starts_with("GET / "));
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!").await;
    assert_eq!(client.message().await.unwrap().status(), 502);
}

#[tokio::test]
async fn the_host_of_an_absolute_target_is_used() {
    let echo = Instance::echo("one").await;
    let (_router, address) = Router::serving(&[&echo]).await;
    let answer = Peer::connect(address).await.request("GET http://b.test:8/x?y HTTP/1.1\r\nhost: a.test\r\n\r\n").await;
    let got = Message { head: answer.text().to_owned(), body: Vec::new() };
    assert!(got.head.starts_with("one\nGET /x?y HTTP/1.1\r\n"), "{}", got.head);
    assert_eq!((got.header("host"), got.header("x-forwarded-host")), (Some("b.test:8"), Some("b.test:8")));
}
