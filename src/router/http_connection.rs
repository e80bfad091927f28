//! An HTTP connection of a client, from its acceptance to its end.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use hyper::{header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    headers::Peer,
    proxy::{self, Client},
    thread_state::ThreadState,
};

/// How long a client may take to send the head of a request, and how long its connection may be idle between two.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Serves the connection until it ends, is idle for too long, or, between two requests, `closing` is cancelled.
pub(super) async fn serve(
    worker: Rc<ThreadState>,
    listener: SocketAddr,
    stream: TcpStream,
    peer: SocketAddr,
    closing: CancellationToken,
) {
    let peer = peer.ip().to_canonical();
    let trusted = worker.shared.trusted.contains(&peer);
    let address = HeaderValue::try_from(peer.to_string()).unwrap_or(HeaderValue::from_static("unknown"));
    let peer = Peer { address, port: HeaderValue::from(listener.port()), trusted };
    let activity = Activity::new();
    let client = Rc::new(Client { worker, listener, peer, activity: Rc::clone(&activity) });
    let service = service_fn(move |request| {
        let client = Rc::clone(&client);
        async move { Ok::<_, std::convert::Infallible>(proxy::answer(&client, request).await) }
    });
    let connection = http1::Builder::new()
        // `idle` below enforces the timeout.
        .header_read_timeout(None)
        // When a client disconnects, its request is cancelled, so that the instance need not go on.
        .half_close(false)
        .max_buf_size(256 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        biased;
        ended = connection.as_mut() => ended,
        () = idle(&activity) => return,
        () = closing.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a client's connection failed");
    }
}

/// Waits until the connection has had no request for too long: none was sent, or only a part of a head.
async fn idle(activity: &Activity) {
    while let Some(rest) = IDLE_TIMEOUT.checked_sub(activity.idle().unwrap_or_default()) {
        tokio::time::sleep(rest.max(Duration::from_secs(1))).await;
    }
}
