//! Worker threads: each has a runtime of its own, accepts from every listener, and keeps its own pool.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use hyper::{header::HeaderValue, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::mpsc::{Receiver, Sender, channel},
    task::LocalSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    pool::Pool,
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
}

/// A worker, as the control thread knows it.
pub(super) struct Handle {
    pub(super) listeners: Sender<Accept>,
    draining: CancellationToken,
    ended: CancellationToken,
    thread: JoinHandle<()>,
}

/// Starts the threads.
pub(super) fn start(count: usize, shared: &Arc<Shared>) -> io::Result<Vec<Handle>> {
    (0..count)
        .map(|n| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            let (listeners, accepts) = channel(64);
            let (draining, ended) = (CancellationToken::new(), CancellationToken::new());
            let shared = Arc::clone(shared);
            let (drain, end) = (draining.clone(), ended.clone());
            let thread = std::thread::Builder::new().name(format!("worker {n}")).spawn(move || {
                let local = LocalSet::new();
                runtime.block_on(local.run_until(work(shared, accepts, drain, end)));
            })?;
            Ok(Handle { listeners, draining, ended, thread })
        })
        .collect()
}

/// Lets requests in flight end, for as long as `grace`, and ends the threads.
pub(super) fn drain(workers: Vec<Handle>, grace: Duration) {
    let until = std::time::Instant::now() + grace;
    for worker in &workers {
        worker.draining.cancel();
    }
    for worker in workers {
        while !worker.thread.is_finished() && std::time::Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(20));
        }
        worker.ended.cancel();
        let _ = worker.thread.join();
    }
}

async fn work(shared: Arc<Shared>, mut accepts: Receiver<Accept>, draining: CancellationToken, end: CancellationToken) {
    let worker = Rc::new(Worker { shared, pool: Rc::default(), connections: TaskTracker::new() });
    let balancer = Arc::clone(&worker.shared.balancer);
    let sweeping = proxy::sweep(Rc::clone(&worker.pool), move |instance| balancer.is_listed(instance));
    let listening = async {
        while let Some(accept) = accepts.recv().await {
            worker.connections.spawn_local(listen(Rc::clone(&worker), accept, draining.clone()));
        }
        std::future::pending::<()>().await;
    };
    let draining = async {
        draining.cancelled().await;
        worker.connections.close();
        worker.connections.wait().await;
    };
    tokio::select! {
        () = sweeping => {}
        () = listening => {}
        () = draining => {}
        () = end.cancelled() => {}
    }
}

async fn listen(worker: Rc<Worker>, accept: Accept, draining: CancellationToken) {
    let Accept { address, protocol, socket, closed } = accept;
    let socket = match tokio::net::TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(%address, %error, "cannot accept");
            return;
        }
    };
    loop {
        if worker.connections.len() >= MOST_CONNECTIONS {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        }
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = closed.cancelled() => return,
            () = draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (task, draining) = (Rc::clone(&worker), draining.clone());
                match protocol {
                    Protocol::Http => {
                        drop(worker.connections.spawn_local(serve_http(task, address, stream, peer, draining)));
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
    draining: CancellationToken,
) {
    let _ = stream.set_nodelay(true);
    let port = HeaderValue::from(listener.port());
    let client = Rc::new(Client { worker, listener, port, peer: peer.ip().to_canonical() });
    let service = service_fn(move |request| {
        let client = Rc::clone(&client);
        async move { Ok::<_, std::convert::Infallible>(proxy::answer(&client, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .half_close(true)
        .max_buf_size(256 * 1024)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = draining.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "a client's connection broke");
    }
}
