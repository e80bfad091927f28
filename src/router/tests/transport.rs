//! HTTP and TCP mappings are served on any stream.

use std::{net::SocketAddr, rc::Rc, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream},
    task::LocalSet,
};
use tokio_util::sync::CancellationToken;

use super::kit::*;
use crate::{
    config::Config,
    router::{
        client_limits::ClientSlot,
        descriptors::DescriptorBudget,
        http_connection,
        protocol::Protocol,
        routes::RouterState,
        socket::ClientSocket,
        thread_state::ThreadState,
        transport::{HttpVersion, Transport},
        tunnel,
        unanswered::FailureReporter,
    },
};

impl ClientSocket for DuplexStream {
    fn unacknowledged(&self) -> Option<u32> {
        None
    }

    fn discard_unsent(&self) {}
}

/// A worker's state with a table for this instance, and an encrypted connection of a client to it.
fn encrypted(instance: &Instance, protocol: Protocol) -> (Rc<ThreadState>, Transport, ClientSlot) {
    let (reporter, _) = FailureReporter::new();
    let budget = DescriptorBudget::new(1000, 1, 0);
    let shared = Arc::new(RouterState::new(&Config::default().router, budget, reporter));
    let listener = "10.9.8.7:443".parse().unwrap();
    shared.apply(table(1, listener, protocol, &[instance]));
    let peer: SocketAddr = "[::ffff:192.0.2.7]:50000".parse().unwrap();
    let slot = shared.limits.admit(peer.ip(), None).unwrap();
    (ThreadState::new(shared, 1), Transport { peer, listener, encrypted: true, http: HttpVersion::Http1 }, slot)
}

async fn answered(mut client: DuplexStream, request: &str) -> String {
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("the end of the connection", client.read_to_string(&mut answer)).await.unwrap();
    answer
}

#[tokio::test]
async fn http_is_served_on_any_stream_with_what_its_transport_says() {
    let echo = Instance::echo("one").await;
    let (worker, transport, slot) = encrypted(&echo, Protocol::Http);
    let (client, stream) = tokio::io::duplex(1024);
    let serving = http_connection::serve(worker, stream, transport, slot, CancellationToken::new());
    let request = "GET / HTTP/1.1\r\nhost: a.test\r\nconnection: close\r\n\r\n";
    let (answer, ()) = LocalSet::new().run_until(async { tokio::join!(answered(client, request), serving) }).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    for header in ["x-forwarded-for: 192.0.2.7", "x-forwarded-proto: https", "x-forwarded-port: 443"] {
        assert!(answer.contains(&format!("\r\n{header}\r\n")), "{header}: {answer}");
    }
}

#[tokio::test]
async fn a_tcp_mapping_is_served_on_any_stream() {
    let mut one = Instance::by_hand("one").await;
    let (worker, transport, slot) = encrypted(&one, Protocol::Tcp);
    let (client, stream) = tokio::io::duplex(1024);
    let instance = async {
        let mut peer = one.connection().await;
        assert_eq!(peer.take(5).await, b"hello");
        peer.send("bye").await;
    };
    let (answer, (), ()) =
        tokio::join!(answered(client, "hello"), tunnel::serve_tcp(worker, stream, transport, slot), instance);
    assert_eq!(answer, "bye");
}
