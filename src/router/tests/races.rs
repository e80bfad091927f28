//! Races between an instance that closes its connections and the next request, run often. They are slow, and part of
//! `make test-all`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use tokio::{io::AsyncWriteExt as _, task::JoinSet};

use super::kit::*;

const RUNS: usize = 4_000;

/// What an instance does with its connections.
#[derive(Clone, Copy)]
enum Closing {
    /// After each response, within a third of a millisecond.
    AtOnce,
    /// When nothing has come for this time.
    Idle(Duration),
}

/// Answers every request on the instance's connections with `answer`, and closes them.
fn serve(instance: &mut Instance, answer: &'static str, closing: Closing) {
    let mut connections = instance.take_connections();
    instance.spawn(async move {
        let (mut serving, mut count) = (JoinSet::new(), 0_u64);
        while let Some(mut peer) = connections.recv().await {
            count += 1;
            serving.spawn(async move {
                let idle = match closing {
                    Closing::AtOnce => DEADLINE,
                    Closing::Idle(time) => time,
                };
                while let Ok(Some(_)) = tokio::time::timeout(idle, peer.message()).await {
                    if !peer.try_send(answer).await {
                        return;
                    }
                    if matches!(closing, Closing::AtOnce) {
                        let until = Instant::now() + Duration::from_micros(count % 64 * 5);
                        while Instant::now() < until {
                            tokio::task::yield_now().await;
                        }
                        return;
                    }
                }
            });
        }
    });
}

/// Sends requests from several clients; returns how many were not answered by 200. `pause` comes before each but the first, by
/// the number of the request.
async fn count_lost(
    address: std::net::SocketAddr,
    count: usize,
    request: &'static str,
    pause: impl Fn(usize) -> Duration + Copy + Send + 'static,
) -> usize {
    let lost = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for _ in 0..count {
        let lost = Arc::clone(&lost);
        clients.spawn(async move {
            let mut client = Peer::connect(address).await;
            for n in 0..RUNS.div_ceil(count) {
                if n > 0 {
                    tokio::time::sleep(pause(n)).await;
                }
                if client.request(request).await.status() != 200 {
                    lost.fetch_add(1, SeqCst);
                }
            }
        });
    }
    while let Some(client) = clients.join_next().await {
        client.unwrap();
    }
    lost.load(SeqCst)
}

const POST: &str = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\n\r\nx";
const SILENT: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const ANNOUNCING: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nkeep-alive: timeout=2\r\n\r\nok";

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "slow"]
async fn an_instance_that_closes_after_its_response_loses_no_request() {
    for answer in
        [SILENT, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok", "HTTP/1.0 200 OK\r\n\r\nok"]
    {
        for request in [POST, GET] {
            let mut one = Instance::by_hand("one").await;
            serve(&mut one, answer, Closing::AtOnce);
            let (_router, address) = Router::serving(&[&one]).await;
            let lost = count_lost(address, 16, request, |_| Duration::ZERO).await;
            assert_eq!(lost, 0, "of {RUNS}, {request:?} {answer:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "slow"]
async fn an_instance_that_closes_idle_connections_loses_no_request() {
    let races =
        [(SILENT, 200, 16), (SILENT, 2_000, 128), (ANNOUNCING, 2_000, 128)].map(|(answer, idle, clients)| async move {
            let mut one = Instance::by_hand("one").await;
            let idle = Duration::from_millis(idle);
            serve(&mut one, answer, Closing::Idle(idle));
            let (_router, address) = Router::serving(&[&one]).await;
            // The end of the connection and the next request meet.
            let before = idle.saturating_sub(Duration::from_millis(2));
            let pause = move |n: usize| before + Duration::from_micros(n as u64 % 64 * 50);
            assert_eq!(count_lost(address, clients, POST, pause).await, 0, "of {RUNS}, {answer:?} {idle:?}");
        });
    futures_util::future::join_all(races).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
#[ignore = "slow"]
async fn an_early_answer_to_an_upload_is_never_lost() {
    const BYTES: usize = 1 << 20;
    for reads_on in [true, false] {
        let mut one = Instance::by_hand("one").await;
        let mut connections = one.take_connections();
        one.spawn(async move {
            let mut serving = JoinSet::new();
            while let Some(mut peer) = connections.recv().await {
                serving.spawn(async move {
                    peer.head().await;
                    peer.try_send(
                        "HTTP/1.1 413 Content Too Large\r\ncontent-length: 9\r\nconnection: close\r\n\r\ntoo large",
                    )
                    .await;
                    if reads_on {
                        let _ = peer.stream.shutdown().await;
                        peer.rest().await;
                    }
                });
            }
        });
        let (_router, address) = Router::serving(&[&one]).await;
        let request: Arc<str> =
            format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {BYTES}\r\n\r\n{}", "0".repeat(BYTES)).into();
        let mut clients = JoinSet::new();
        for _ in 0..4 {
            let request = Arc::clone(&request);
            clients.spawn(async move {
                for _ in 0..RUNS / 4 {
                    let mut client = Peer::connect(address).await;
                    assert!(client.try_send(&request).await, "everything is sent");
                    let answer = client.message().await.expect("a response");
                    assert_eq!((answer.status(), answer.text()), (413, "too large"));
                }
            });
        }
        while let Some(client) = clients.join_next().await {
            client.unwrap();
        }
    }
}
