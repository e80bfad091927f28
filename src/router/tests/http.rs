//! Which instance gets a request, which headers the request has, and when it is retried.

use std::{net::SocketAddr, sync::atomic::Ordering::SeqCst};

use futures_util::stream::{FuturesUnordered, StreamExt as _};
use tokio::io::AsyncWriteExt as _;

use super::kit::*;
use crate::router::protocol::{Protocol, Service, Table};

#[tokio::test]
async fn requests_are_routed_by_host_and_path_with_forwarding_headers() {
    let (one, two) = (Instance::echo("one").await, Instance::echo("two").await);
    let (router, address) = (Router::start(), free());
    let service =
        |name: &str, instance: &Instance| Service { key: name.parse().unwrap(), targets: vec![instance.target()] };
    router
        .put(Table {
            version: 1,
            listeners: vec![listener(
                address,
                Protocol::Http,
                &[
                    ("a.test", "/", "one/web/1"),
                    ("a.test", "/api", "two/web/1"),
                    ("*.b.test", "/", "two/web/1"),
                    ("c.test", "/", "none/web/1"),
                ],
            )],
            services: vec![
                service("one/web/1", &one),
                service("two/web/1", &two),
                Service { key: "none/web/1".parse().unwrap(), targets: vec![] },
            ],
        })
        .await;
    let mut client = Peer::connect(address).await;
    let asked = "GET /x?y=1 HTTP/1.1\r\nhost: a.test:99\r\nx-forwarded-for: 6.6.6.6\r\nx-forwarded-for: 7.7.7.7\r\n\
                 x-forwarded-proto: https\r\nx-request-id: forged\r\nx-real-ip: 6.6.6.6\r\nforwarded: for=6.6.6.6\r\n\
                 connection: keep-alive, x-secret\r\nx-secret: 1\r\nte: trailers\r\n\r\n";
    let answer = client.request(asked).await;
    assert_eq!(answer.status(), 200);
    let (name, head) = answer.text().split_once('\n').unwrap();
    assert_eq!(name, "one");
    let got = Message { head: head.to_owned(), body: Vec::new() };
    assert!(head.starts_with("GET /x?y=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(got.header("host"), Some("a.test:99"));
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    assert_eq!(got.header("x-forwarded-port"), Some(address.port().to_string().as_str()));
    assert_eq!(got.header("x-forwarded-host"), Some("a.test:99"));
    let id = got.header("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    for removed in ["x-real-ip", "forwarded", "x-secret", "te", "connection"] {
        assert_eq!(got.header(removed), None, "{removed}");
    }
    let ask = |host: &str, path: &str| format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n");
    for (host, path, expected) in
        [("a.test", "/api/x", "two"), ("a.test", "/apix", "one"), ("X.B.test:80", "/", "two"), ("a.test", "/", "one")]
    {
        let answer = client.request(&ask(host, path)).await;
        assert!(answer.text().starts_with(expected), "{host}{path}: {}", answer.text());
    }
    assert_eq!(client.request(&ask("nobody.test", "/")).await.status(), 404);
    let none = client.request(&ask("c.test", "/")).await;
    assert_eq!(none.status(), 503);
    assert!(none.text().contains(none.header("x-request-id").unwrap()), "the page shows the request's id");
    assert_eq!(one.accepted.load(SeqCst), 1, "upstreams are reused");
}

#[tokio::test]
async fn an_instance_that_refuses_connections_is_skipped_for_every_method() {
    let (bad, good) = (Instance::refusing("bad").await, Instance::echo("good").await);
    let (_router, address) = Router::serving(&[&bad, &good]).await;
    let mut client = Peer::connect(address).await;
    for _ in 0..4 {
        let answer = client.request("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc").await;
        assert!(answer.text().starts_with("good\n") && answer.text().ends_with("abc"), "{}", answer.text());
    }
    let (router, address) = Router::serving(&[&bad]).await;
    let mut unanswered = router.link.unanswered();
    let answer = Peer::connect(address).await.request("GET /x?secret HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!(answer.status(), 502);
    let report = soon("the server gets a report", unanswered.recv()).await.unwrap();
    assert_eq!(
        (report.service.to_string().as_str(), report.status, report.instance.as_ref()),
        (SERVICE, 502, Some(&bad.id))
    );
    assert_eq!((report.method.as_str(), report.path.as_str()), ("GET", "/x"));
    assert_eq!(Some(report.request_id.as_str()), answer.header("x-request-id"));
}

#[tokio::test]
async fn a_post_that_reached_an_instance_is_never_sent_twice() {
    let (mut one, mut two) = (Instance::by_hand("one").await, Instance::by_hand("two").await);
    let (_router, address) = Router::serving(&[&one, &two]).await;
    let mut client = Peer::connect(address).await;
    // The first request is answered, so the second one is sent on a reused upstream.
    for round in ["first", "second"] {
        let asked = format!("POST /{round} HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n");
        client.send(&asked).await;
        let mut peer = tokio::select! { peer = one.connection() => peer, peer = two.connection() => peer };
        peer.message().await.unwrap();
        peer.send(OK).await;
        assert_eq!(client.message().await.unwrap().status(), 200);
        client.send(&asked).await;
        let reached = tokio::select! {
            // The same upstream, or one to the instance whose turn it is.
            message = peer.message() => { assert!(message.is_some()); drop(peer); None }
            other = one.connection() => Some(other),
            other = two.connection() => Some(other),
        };
        if let Some(mut other) = reached {
            other.message().await.unwrap();
        }
        assert_eq!(client.message().await.unwrap().status(), 502);
    }
    assert!(
        one.connections.try_recv().is_err() && two.connections.try_recv().is_err(),
        "the request was not sent again"
    );
}

#[tokio::test]
async fn a_get_on_a_reused_upstream_that_breaks_is_retried() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().status(), 200);
    client.send(GET).await;
    peer.message().await.unwrap();
    drop(peer);
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
    // On a new upstream it is not retried: the instance may have acted on the request.
    let mut client = Peer::connect(address).await;
    drop(peer);
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    drop(peer);
    assert_eq!(client.message().await.unwrap().status(), 502);
}

#[tokio::test]
async fn the_instance_with_the_fewest_requests_gets_the_next_one() {
    let mut instances = [Instance::by_hand("a").await, Instance::by_hand("b").await, Instance::by_hand("c").await];
    let (_router, address) = Router::serving(&instances.each_ref()).await;
    let mut clients = Vec::new();
    for _ in 0..6 {
        let mut client = Peer::connect(address).await;
        client.send(GET).await;
        clients.push(client);
    }
    let mut peers = Vec::new();
    for instance in &mut instances {
        for _ in 0..2 {
            let mut peer = instance.connection().await;
            peer.message().await.unwrap();
            peers.push((instance.id.clone(), peer));
        }
        assert!(instance.connections.try_recv().is_err(), "each instance gets its share");
    }
    // One instance answers both of its requests: it gets the next two.
    for (_, peer) in &mut peers[2..4] {
        peer.send(OK).await;
    }
    let mut answers: FuturesUnordered<_> = clients
        .iter_mut()
        .map(|client| async move {
            assert_eq!(client.message().await.unwrap().status(), 200);
            client
        })
        .collect();
    let mut free = [answers.next().await.unwrap(), answers.next().await.unwrap()];
    for client in &mut free {
        client.send(GET).await;
    }
    let (left, right) = peers[2..4].split_at_mut(1);
    assert!(left[0].1.message().await.is_some() && right[0].1.message().await.is_some());
}

#[tokio::test]
async fn an_upgrade_is_a_tunnel_that_half_closes_and_counts_until_its_end() {
    let mut one = Instance::by_hand("one").await;
    let (router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client
        .send(
            "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\n",
        )
        .await;
    let mut peer = one.connection().await;
    let asked = peer.message().await.unwrap();
    assert_eq!(asked.header("upgrade"), Some("websocket"));
    assert_eq!(asked.header("connection"), Some("upgrade"));
    peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nhello").await;
    let head = client.head().await.unwrap();
    assert!(head.starts_with("HTTP/1.1 101 ") && head.to_lowercase().contains("upgrade: websocket"), "{head}");
    assert_eq!(client.take(5).await, b"hello");
    client.send("ping").await;
    assert_eq!(peer.take(4).await, b"ping");
    router.put(table(2, address, Protocol::Http, &[])).await;
    let drained = router.link.drained(&one.id);
    tokio::pin!(drained);
    client.stream.shutdown().await.unwrap();
    assert_eq!(peer.rest().await, "", "the client's half-close arrives");
    peer.send("after the end").await;
    assert_eq!(client.take(13).await, b"after the end");
    assert!(futures_util::poll!(&mut drained).is_pending(), "the tunnel counts");
    drop(peer);
    assert_eq!(client.rest().await, "");
    soon("the instance is drained", drained).await;
}

#[tokio::test]
async fn h2c_is_not_forwarded_and_an_upgrade_without_a_request_is_refused() {
    let mut one = Instance::by_hand("one").await;
    let (_router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client
        .send("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: x\r\n\r\n")
        .await;
    let mut peer = one.connection().await;
    let asked = peer.message().await.unwrap();
    assert_eq!((asked.header("upgrade"), asked.header("http2-settings")), (None, None));
    peer.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n").await;
    assert_eq!(client.message().await.unwrap().status(), 502);
}

#[tokio::test]
async fn a_tcp_mapping_carries_bytes_and_half_closes() {
    let mut one = Instance::by_hand("one").await;
    let refusing = Instance::refusing("bad").await;
    let (router, address) = (Router::start(), free());
    router.put(table(1, address, Protocol::Tcp, &[&refusing, &one])).await;
    let mut client = Peer::connect(address).await;
    client.send("hello").await;
    let mut peer = one.connection().await;
    assert_eq!(peer.take(5).await, b"hello");
    router.put(table(2, address, Protocol::Tcp, &[])).await;
    client.stream.shutdown().await.unwrap();
    assert_eq!(peer.rest().await, "");
    let drained = router.link.drained(&one.id);
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending());
    peer.send("bye").await;
    drop(peer);
    assert_eq!(client.rest().await, "bye");
    soon("the instance is drained", drained).await;
    // The port changes its protocol without being closed.
    let echo = Instance::echo("echo").await;
    router.put(table(3, address, Protocol::Http, &[&echo])).await;
    assert_eq!(Peer::connect(address).await.request(GET).await.status(), 200);
}

#[tokio::test]
async fn two_ports_of_one_instance_share_no_connection() {
    let (one, mut two) = (Instance::echo("p8080").await, Instance::echo("p9090").await);
    two.id = one.id.clone();
    let (router, address) = (Router::start(), free());
    let service =
        |name: &str, instance: &Instance| Service { key: name.parse().unwrap(), targets: vec![instance.target()] };
    let routes = [("*", "/", "one/web/1"), ("*", "/two", "two/web/1")];
    let listeners = vec![listener(address, Protocol::Http, &routes)];
    router
        .put(Table { version: 1, listeners, services: vec![service("one/web/1", &one), service("two/web/1", &two)] })
        .await;
    let mut client = Peer::connect(address).await;
    for _ in 0..3 {
        assert!(client.request(GET).await.text().starts_with("p8080\n"));
        assert!(client.request("GET /two HTTP/1.1\r\nhost: a\r\n\r\n").await.text().starts_with("p9090\n"));
    }
}

#[tokio::test]
async fn a_port_in_use_is_reported_and_opened_when_it_is_free() {
    let echo = Instance::echo("one").await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, other): (SocketAddr, _) = (taken.local_addr().unwrap(), free());
    let router = Router::start();
    let mut wanted = table(1, address, Protocol::Http, &[&echo]);
    wanted.listeners.push(listener(other, Protocol::Http, &[("*", "/", SERVICE)]));
    router.link.publish(wanted.clone());
    let failed = soon("the table is in force", router.link.applied(1)).await;
    assert_eq!(failed.iter().map(|(address, _)| *address).collect::<Vec<_>>(), [address]);
    assert_eq!(Peer::connect(other).await.request(GET).await.status(), 200, "the other listener is open");
    drop(taken);
    soon("the listener is opened", async {
        while !router.link.applied(1).await.is_empty() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(Peer::connect(address).await.request(GET).await.status(), 200);
}
