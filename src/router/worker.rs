//! Worker threads: each has a runtime of its own, accepts from every listener, and keeps its own pool.

use std::{
    cell::Cell,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hyper::{header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    runtime::LocalOptions,
    sync::mpsc::{Receiver, Sender, channel},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    body::Activity,
    headers::Peer,
    pool::{self, Pool},
    protocol::Protocol,
    proxy::{self, Client},
    routes::Shared,
    tunnel,
};

/// How long a client may take for a request's head, and idle between two.
const HEAD: Duration = Duration::from_mins(1);

/// Connections of clients to one worker; more wait in the kernel's queue.
const MOST_CONNECTIONS: usize = 20_000;

/// A listener that a worker is to accept from, until it is closed.
pub(super) struct Accept {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) socket: TcpListener,
    pub(super) closed: CancellationToken,
}

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) pool: Rc<Pool>,
    pub(super) connections: TaskTracker,
    /// Whether clients are told that each answer is the last on its connection.
    pub(super) draining: Cell<bool>,
}

/// The steps to the end of a worker.
#[derive(Clone, Default)]
struct Ends {
    /// Accepts no more, and says so with each answer.
    draining: CancellationToken,
    /// Closes connections between two requests.
    closing: CancellationToken,
    /// Drops what is left.
    ended: CancellationToken,
}

/// A worker, as the control thread knows it.
pub(super) struct Handle {
    pub(super) listeners: Sender<Accept>,
    ends: Ends,
    thread: JoinHandle<()>,
}

/// Starts the threads.
pub(super) fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Vec<Handle>> {
    (0..count)
        .map(|n| {
            let (listeners, accepts) = channel(64);
            let ends = Ends::default();
            let (shared, its_ends) = (Arc::clone(shared), ends.clone());
            // A local runtime stays on the thread that makes it.
            let (made, is_made) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("worker {n}")).spawn(move || {
                match tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => {
                        let _ = made.send(Ok(()));
                        runtime.block_on(work(shared, accepts, its_ends));
                    }
                    Err(error) => drop(made.send(Err(error))),
                }
            })?;
            is_made.recv().map_err(io::Error::other)??;
            Ok(Handle { listeners, ends, thread })
        })
        .collect()
}

/// Lets clients send what they are about to send for as long as `linger`, lets requests in flight end for as long as
/// `grace`, and ends the threads.
pub(super) fn drain(workers: Vec<Handle>, linger: Duration, grace: Duration) {
    let wait = |limit: Duration| {
        let until = Instant::now() + limit;
        while workers.iter().any(|worker| !worker.thread.is_finished()) && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    };
    for worker in &workers {
        worker.ends.draining.cancel();
    }
    wait(linger);
    for worker in &workers {
        worker.ends.closing.cancel();
    }
    wait(grace.saturating_sub(linger));
    for worker in workers {
        worker.ends.ended.cancel();
        if worker.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

async fn work(shared: Arc<Shared>, mut accepts: Receiver<Accept>, ends: Ends) {
    let draining = Cell::new(false);
    let worker = Rc::new(Worker { shared, pool: Rc::default(), connections: TaskTracker::new(), draining });
    let balancer = Arc::clone(&worker.shared.balancer);
    let sweeping = proxy::sweep(Rc::clone(&worker.pool), move |instance| balancer.is_listed(instance));
    let listening = async {
        while let Some(accept) = accepts.recv().await {
            worker.connections.spawn_local(listen(Rc::clone(&worker), accept, ends.clone()));
        }
        std::future::pending::<()>().await;
    };
    let draining = async {
        ends.draining.cancelled().await;
        worker.draining.set(true);
        worker.connections.close();
        worker.connections.wait().await;
    };
    tokio::select! {
        () = sweeping => {}
        () = listening => {}
        () = draining => {}
        () = ends.ended.cancelled() => {}
    }
}

async fn listen(worker: Rc<Worker>, accept: Accept, ends: Ends) {
    let Accept { address, protocol, socket, closed } = accept;
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%address, %error, "cannot accept");
            return;
        }
    };
    loop {
        let accept = async {
            while worker.connections.len() >= MOST_CONNECTIONS {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            socket.accept().await
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = closed.cancelled() => return,
            () = ends.draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                pool::tune(&stream);
                let task = Rc::clone(&worker);
                match protocol {
                    Protocol::Http => {
                        let closing = ends.closing.clone();
                        drop(worker.connections.spawn_local(serve_http(task, address, stream, peer, closing)));
                    }
                    Protocol::Tcp => drop(worker.connections.spawn_local(tunnel::serve(task, address, stream))),
                }
            }
            Err(error) => {
                // Out of descriptors, or a connection that ended at once: neither ends the listener.
                tracing::debug!(%address, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

async fn serve_http(
    worker: Rc<Worker>,
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
        // See `idle`.
        .header_read_timeout(None)
        // A client that goes takes its request with it, so that its instance need not go on.
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
        tracing::trace!(%error, "a client's connection broke");
    }
}

/// Waits until a connection has had no request for too long, be it that none came or that its head does not end.
async fn idle(activity: &Activity) {
    while let Some(rest) = HEAD.checked_sub(activity.idle().unwrap_or_default()) {
        tokio::time::sleep(rest.max(Duration::from_secs(1))).await;
    }
}
