//! Bodies in both directions, and what happens when one side stops in the middle.

use super::kit::*;
use crate::router::protocol::Protocol;

#[tokio::test]
async fn a_body_in_transit_is_not_cut_and_its_end_drains_the_instance() {
    let mut one = Instance::by_hand("one").await;
    let other = Instance::echo("other").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n").await;
    let head = client.head().await.unwrap();
    assert!(head.to_lowercase().contains("transfer-encoding: chunked"), "{head}");
    assert_eq!(client.take(10).await, b"5\r\nfirst\r\n", "streamed");

    router.put(table(2, address, Protocol::Http, &[&other])).await;
    assert!(Peer::connect(address).await.request(GET).await.text().starts_with("other"));
    let drained = router.link.drained(&one.id);
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending());
    peer.send("4\r\nlast\r\n").await;
    assert_eq!(client.take(9).await, b"4\r\nlast\r\n");
    assert!(futures_util::poll!(&mut drained).is_pending());
    peer.send("0\r\n\r\n").await;
    assert_eq!(client.take(5).await, b"0\r\n\r\n");
    soon("the instance is drained", drained).await;
    assert_eq!(peer.rest().await, "", "no upstream to a removed instance is kept");
    assert!(client.request(GET).await.text().starts_with("other"), "the client's connection stays open");
}

#[tokio::test]
async fn an_older_table_is_ignored() {
    let (one, two) = (Instance::echo("one").await, Instance::echo("two").await);
    let (router, address) = (Router::start(), free());
    router.put(table(7, address, Protocol::Http, &[&one])).await;
    router.link.publish(table(6, address, Protocol::Http, &[&two]));
    // The router reads tables in order: when this one is applied, the older one was read.
    router.put(table(7, address, Protocol::Http, &[&one])).await;
    assert!(Peer::connect(address).await.request(GET).await.text().starts_with("one"));
    assert_eq!(router.link.status().table, 7);
}

#[tokio::test]
async fn a_request_body_is_streamed_with_trailers_and_an_expectation() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n";
    client.send(head).await;
    let mut peer = one.connection().await;
    let asked = peer.head().await.unwrap().to_lowercase();
    assert!(asked.contains("transfer-encoding: chunked") && !asked.contains("expect"), "{asked}");
    assert_eq!(client.head().await.unwrap(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("3\r\nabc\r\n").await;
    assert_eq!(peer.take(8).await, b"3\r\nabc\r\n", "streamed");
    client.send("0\r\nx-sum: 1\r\n\r\n").await;
    peer.take(3).await;
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
    // A GET request may have a body, too.
    client.send("GET / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n").await;
    // It is sent on a new upstream, since it has a body and nothing is known of the instance.
    let mut peer = one.connection().await;
    assert_eq!(peer.message().await.unwrap().body, b"abc");
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
}

#[tokio::test]
async fn an_early_response_arrives_and_its_upstream_is_not_reused() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\nabc").await;
    let mut peer = one.connection().await;
    peer.head().await.unwrap();
    peer.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\n\r\nbig").await;
    let answer = client.message().await.unwrap();
    assert_eq!((answer.status(), answer.text()), (413, "big"));
    let mut another = Peer::connect(address).await;
    another.send(GET).await;
    let mut fresh = one.connection().await;
    assert!(fresh.message().await.unwrap().head.starts_with("GET / "));
    fresh.send(OK).await;
    assert_eq!(another.message().await.unwrap().text(), "ok");
    assert_eq!(peer.rest().await, "abc", "the upstream of the unfinished upload is closed");
}

#[tokio::test]
async fn a_client_that_disconnects_cancels_its_request() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    for begun in ["", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"] {
        let mut client = Peer::connect(address).await;
        client.send(GET).await;
        let mut peer = one.connection().await;
        peer.message().await.unwrap();
        peer.send(begun).await;
        if !begun.is_empty() {
            client.head().await.unwrap();
            client.take(3).await;
        }
        drop(client);
        assert_eq!(peer.rest().await, "");
    }
    let mut client = Peer::connect(address).await;
    client.send("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc").await;
    let mut peer = one.connection().await;
    peer.head().await.unwrap();
    drop(client);
    assert_eq!(peer.rest().await, "abc", "a truncated upload does not look complete");
    router.put(table(2, address, Protocol::Http, &[])).await;
    soon("no request is in flight", router.link.drained(&one.id)).await;
}

#[tokio::test]
async fn a_truncated_response_is_truncated_for_the_client() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    for begun in [
        "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let mut client = Peer::connect(address).await;
        client.send(GET).await;
        let mut peer = one.connection().await;
        peer.message().await.unwrap();
        peer.send(begun).await;
        drop(peer);
        let received = client.rest().await;
        assert!(received.contains("abc") && !received.contains("0\r\n\r\n"), "{received}");
    }
}

#[tokio::test]
async fn responses_without_a_body_and_http_1_0_are_handled() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send("HEAD / HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 1234\r\n\r\n").await;
    let head = client.head().await.unwrap();
    assert!(head.contains("content-length: 1234"), "{head}");
    for answer in
        ["HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\netag: \"x\"\r\ncontent-length: 5\r\n\r\n"]
    {
        client.send(GET).await;
        peer.message().await.unwrap();
        peer.send(answer).await;
        let head = client.head().await.unwrap();
        assert_eq!(head.split(' ').nth(1), answer.split(' ').nth(1));
    }
    client.send(GET).await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n").await;
    peer.send("HTTP/1.0 200 OK\r\n\r\nuntil the end").await;
    drop(peer);
    assert_eq!(client.message().await.unwrap().text(), "until the end");

    let mut old = Peer::connect(address).await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    let mut peer = one.connection().await;
    let asked = peer.message().await.unwrap();
    assert!(asked.head.starts_with("GET / HTTP/1.1\r\n") && asked.header("host").is_some(), "{}", asked.head);
    peer.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let received = old.rest().await;
    assert!(received.starts_with("HTTP/1.0 200 OK\r\n") && received.ends_with("\r\n\r\nok"), "{received}");
    assert!(!received.to_lowercase().contains("transfer-encoding"), "{received}");
}
