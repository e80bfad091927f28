//! Restarts of the server and of the router.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
};

use tokio::{io::AsyncWriteExt as _, net::UnixStream, task::JoinSet};
use tokio_util::task::TaskTracker;

use super::kit::*;
use crate::router::{Link, protocol::Protocol};

#[tokio::test]
async fn the_table_survives_the_server_and_the_link_reconnects() {
    let (mut one, two) = (Instance::by_hand("one").await, Instance::echo("two").await);
    let (router, address) = Router::serving(&[&one]).await;
    let mut client = Peer::connect(address).await;
    client.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    // Another server connects: the router closes the first link, which reconnects. What the other sends is ignored.
    let mut connected = router.link.connected();
    let mut other = UnixStream::connect(router.dir.path().join("router.sock")).await.unwrap();
    soon("the older connection ends", connected.wait_for(|connected| !connected)).await.unwrap();
    soon("the link reconnects", connected.wait_for(|connected| *connected)).await.unwrap();
    let _ = other.write_all(b"nonsense\n").await;
    router.put(table(2, address, Protocol::Http, &[&two])).await;
    // A restarted server learns from the router that the removed instance still has a request in flight.
    router.ends.cancel();
    let again = Link::start(router.dir.path().join("router.sock"), &TaskTracker::new(), router.shutdown.clone());
    again.publish(table(3, address, Protocol::Http, &[&two]));
    soon("in force", again.applied(3)).await;
    let drained = again.drained(&one.id);
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending());
    peer.send(OK).await;
    assert_eq!(client.message().await.unwrap().text(), "ok");
    soon("the instance is drained", drained).await;
}

#[tokio::test]
async fn shutdown_cuts_no_body_and_closes_idle_connections() {
    let mut one = Instance::by_hand("one").await;
    let (mut router, address) = Router::serving(&[&one]).await;
    let (mut busy, mut idle) = (Peer::connect(address).await, Peer::connect(address).await);
    idle.send(GET).await;
    let mut peer = one.connection().await;
    peer.message().await.unwrap();
    peer.send(OK).await;
    assert_eq!(idle.message().await.unwrap().text(), "ok");
    busy.send(GET).await;
    // On the same upstream, if the same worker serves both clients.
    let mut peer = tokio::select! {
        message = peer.message() => { message.unwrap(); peer }
        mut another = one.connection() => { another.message().await.unwrap(); another }
    };
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst").await;
    busy.head().await.unwrap();
    assert_eq!(busy.take(5).await, b"first");
    router.shutdown.cancel();
    assert_eq!(idle.rest().await, "");
    soon("the listener is closed", async { while tokio::net::TcpStream::connect(address).await.is_ok() {} }).await;
    peer.send("last").await;
    assert_eq!(busy.take(4).await, b"last");
    router.ended().await;
}

#[tokio::test]
async fn a_takeover_loses_no_request_under_load() {
    let (a, b) = (Instance::echo("a").await, Instance::echo("b").await);
    let mut slow = Instance::by_hand("slow").await;
    let (mut router, address) = Router::serving(&[&slow]).await;
    let mut streaming = Peer::connect(address).await;
    streaming.send(GET).await;
    let mut peer = slow.connection().await;
    peer.message().await.unwrap();
    peer.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nfirst").await;
    streaming.head().await.unwrap();
    router.put(table(2, address, Protocol::Http, &[&slow, &a, &b])).await;
    router.put(table(3, address, Protocol::Http, &[&a, &b])).await;

    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut load = JoinSet::new();
    for n in 0..8 {
        let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
        load.spawn(async move {
            let mut client = Peer::connect(address).await;
            while !stop.load(SeqCst) {
                // Half of the clients keep their connection for as long as they can, the other half never do.
                let keep = n % 2 == 0;
                let option = if keep { "keep-alive" } else { "close" };
                let asked = format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\nconnection: {option}\r\n\r\nx");
                let answer = client.request(&asked).await;
                assert_eq!(answer.status(), 200);
                answered.fetch_add(1, SeqCst);
                if !keep || answer.header("connection") == Some("close") {
                    client = Peer::connect(address).await;
                }
            }
        });
    }
    let more = async |than: usize| {
        let from = answered.load(SeqCst);
        soon("requests are answered", async {
            while answered.load(SeqCst) < from + than {
                tokio::task::yield_now().await;
            }
        })
        .await;
    };
    let mut before = Vec::new();
    for _ in 0..3 {
        more(100).await;
        let mut connected = router.link.connected();
        connected.mark_unchanged();
        let (shutdown, thread) = run(&router.dir);
        soon("the older router closes the server's connection", connected.wait_for(|connected| !connected))
            .await
            .unwrap();
        before.push(router.thread.replace(thread).unwrap());
        router.shutdown = shutdown;
        soon("the newer router has the table", router.link.applied(3)).await;
        more(100).await;
    }
    let link = router.link.clone();
    let drained = link.drained(&slow.id);
    tokio::pin!(drained);
    assert!(futures_util::poll!(&mut drained).is_pending(), "the first router still has a request in flight");
    peer.send("last").await;
    assert_eq!(streaming.take(9).await, b"firstlast");
    stop.store(true, SeqCst);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    soon("the instance is drained", drained).await;
    for thread in before {
        let ended = tokio::task::spawn_blocking(move || thread.join().unwrap());
        soon("an older router ends", ended).await.unwrap().unwrap();
    }
    router.shutdown.cancel();
    router.ended().await;
}
