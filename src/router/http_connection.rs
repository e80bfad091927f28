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
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    body::ResponseBody,
    client_limits::ClientSlot,
    client_stream::ClientStream,
    headers::{MAX_HEAD_BYTES, MAX_HEAD_LINES},
    proxy::{self, Client},
    socket::ClientSocket,
    thread_state::ThreadState,
    transport::{HttpVersion, Transport},
    upload::{LINGER_IDLE_TIMEOUT, LINGER_TIMEOUT},
};

/// Size of the buffer for what is read and not looked at, bytes.
const LINGER_BUFFER_BYTES: usize = 16 * 1024;

/// Serves the connection until it ends, is idle for too long, or, between two requests, makes room for another or `closing`
/// is cancelled.
pub(super) async fn serve<S>(
    worker: Rc<ThreadState>,
    stream: S,
    transport: Transport,
    slot: ClientSlot,
    closing: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + ClientSocket + Unpin + Send + 'static,
{
    let client = Rc::new(Client::new(worker, transport, slot));
    match transport.http {
        HttpVersion::Http1 => serve_http1(client, stream, closing).await,
    }
}

async fn serve_http1<S>(client: Rc<Client>, stream: S, closing: CancellationToken)
where
    S: AsyncRead + AsyncWrite + ClientSocket + Unpin + Send + 'static,
{
    let answering = Rc::clone(&client);
    let service = service_fn(move |request| {
        let client = Rc::clone(&answering);
        async move { Ok::<_, std::convert::Infallible>(answer_http1(&client, request).await) }
    });
    let stream = ClientStream::new(stream, client.line.clone(), &client.worker.shared.timeouts);
    let mut connection = http1::Builder::new()
        // `ClientStream` enforces the timeout.
        .header_read_timeout(None)
        // When a client disconnects, its request is cancelled, so that the instance need not go on.
        .half_close(false)
        .max_buf_size(MAX_HEAD_BYTES)
        .max_header_size(MAX_HEAD_BYTES)
        .max_headers(MAX_HEAD_LINES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let ended = tokio::select! {
        biased;
        ended = &mut connection => ended,
        () = idle(&client) => return,
        () = closing.cancelled() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    let refused = ended.as_ref().is_err_and(hyper::Error::is_parse);
    if let Err(error) = ended {
        tracing::trace!(%error, "a client's connection failed");
    }
    // None after an upgrade.
    let Some(parts) = connection.into_parts() else { return };
    let mut stream = parts.io.into_inner();
    let page =
        if refused { Some(proxy::refuse_unparsed(&client)) } else { client.line.is_late().then(proxy::refuse_late) };
    if let Some(page) = &page {
        // Fails if hyper's own response, which came together with the one before, has ended the stream.
        if stream.write_all(page).await.is_ok() {
            let _ = stream.shutdown().await;
        }
    }
    if page.is_some() || client.activity.is_unread() {
        linger(stream, &closing).await;
    }
}

/// Reads what the client still sends, for a while, after the router has said that it sends no more: if the socket were closed
/// with bytes that nobody has read, the kernel would reset the connection, and the client might lose the response (RFC 9112,
/// 9.6).
async fn linger<S: AsyncRead + Unpin>(mut stream: S, closing: &CancellationToken) {
    let mut bytes = vec![0; LINGER_BUFFER_BYTES];
    let read = async {
        while matches!(timeout(LINGER_IDLE_TIMEOUT, stream.read(&mut bytes)).await, Ok(Ok(count)) if count > 0) {}
    };
    tokio::select! {
        () = read => {}
        () = tokio::time::sleep(LINGER_TIMEOUT) => {}
        () = closing.cancelled() => {}
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

/// Waits until the connection has had no request for too long, or has none when it should make room.
async fn idle(client: &Client) {
    let timeouts = &client.worker.shared.timeouts;
    loop {
        // A head that has begun has a time of its own.
        let limit = if client.line.is_in_head() { timeouts.idle + timeouts.head } else { timeouts.idle };
        let Some(rest) = limit.checked_sub(client.activity.idle().unwrap_or_default()) else { return };
        tokio::select! {
            biased;
            () = client.activity.unwanted() => if client.activity.idle().is_some() { return },
            () = tokio::time::sleep(rest.max(Duration::from_secs(1))) => {}
        }
    }
}
