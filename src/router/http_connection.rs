//! HTTP on a client's connection, whatever its transport is: from the first request to the end of the connection.

use std::{rc::Rc, time::Duration};

use hyper::{
    Request, Response, StatusCode,
    body::Incoming,
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use super::{
    activity::Activity,
    body::ResponseBody,
    proxy::{self, Client},
    thread_state::ThreadState,
    transport::{HttpVersion, Transport},
};

/// How long a client may take to send the head of a request, and how long its connection may be idle between two.
const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Serves the connection until it ends, is idle for too long, or, between two requests, `closing` is cancelled.
pub(super) async fn serve<S>(worker: Rc<ThreadState>, stream: S, transport: Transport, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let client = Rc::new(Client::new(worker, transport));
    match transport.http {
        HttpVersion::Http1 => serve_http1(client, stream, closing).await,
    }
}

async fn serve_http1<S>(client: Rc<Client>, stream: S, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let activity = Rc::clone(&client.activity);
    let service = service_fn(move |request| {
        let client = Rc::clone(&client);
        async move { Ok::<_, std::convert::Infallible>(answer_http1(&client, request).await) }
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

async fn answer_http1(client: &Client, request: Request<Incoming>) -> Response<ResponseBody> {
    let mut response = proxy::answer(client, request).await;
    // A client that is told to close does not send its next request on a connection that is being closed.
    if client.worker.draining.get() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Waits until the connection has had no request for too long: none was sent, or only a part of a head.
async fn idle(activity: &Activity) {
    while let Some(rest) = IDLE_TIMEOUT.checked_sub(activity.idle().unwrap_or_default()) {
        tokio::time::sleep(rest.max(Duration::from_secs(1))).await;
    }
}
