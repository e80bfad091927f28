//! Worker threads: each has a runtime of its own, accepts from every listener, and keeps its own pool.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    net::TcpStream,
    runtime::LocalOptions,
    sync::mpsc::{Receiver, Sender, channel},
};
use tokio_util::sync::CancellationToken;

use super::{http_connection, protocol::Protocol, routes::RouterState, thread_state::ThreadState, transport, tunnel};

/// Maximum number of clients' connections to one worker; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 20_000;

/// A listener from which a worker is to accept, until it is closed.
pub(super) struct Accept {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) socket: TcpListener,
    pub(super) closed: CancellationToken,
}

/// The stages of stopping a worker.
#[derive(Clone, Default)]
struct Stages {
    /// It accepts no more connections, and each response tells its client to close the connection.
    draining: CancellationToken,
    /// Connections are closed between two requests.
    closing: CancellationToken,
    /// The connections that are left are dropped.
    ended: CancellationToken,
}

/// A worker, as the control thread knows it.
pub(super) struct ThreadHandle {
    pub(super) listeners: Sender<Accept>,
    stages: Stages,
    thread: JoinHandle<()>,
}

/// Starts the threads.
pub(super) fn start(count: usize, shared: &Arc<RouterState>) -> io::Result<Vec<ThreadHandle>> {
    (0..count)
        .map(|n| {
            let (listeners, accepts) = channel(64);
            let stages = Stages::default();
            let (thread_shared, thread_stages) = (Arc::clone(shared), stages.clone());
            // A local runtime must be made on its own thread.
            let (started, is_started) = std::sync::mpsc::sync_channel(1);
            let thread = std::thread::Builder::new().name(format!("worker {n}")).spawn(move || {
                match tokio::runtime::Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => {
                        let _ = started.send(Ok(()));
                        runtime.block_on(run(thread_shared, accepts, thread_stages));
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })?;
            is_started.recv().map_err(io::Error::other)??;
            Ok(ThreadHandle { listeners, stages, thread })
        })
        .collect()
}

/// Stops the threads: clients may send further requests for `linger`, and requests in flight have until `grace` to end.
pub(super) fn drain(workers: Vec<ThreadHandle>, linger: Duration, grace: Duration) {
    let wait = |limit: Duration| {
        let until = Instant::now() + limit;
        while workers.iter().any(|worker| !worker.thread.is_finished()) && Instant::now() < until {
            std::thread::park_timeout(Duration::from_millis(20));
        }
    };
    for worker in &workers {
        worker.stages.draining.cancel();
    }
    wait(linger);
    for worker in &workers {
        worker.stages.closing.cancel();
    }
    wait(grace.saturating_sub(linger));
    for worker in workers {
        worker.stages.ended.cancel();
        if worker.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

async fn run(shared: Arc<RouterState>, mut accepts: Receiver<Accept>, stages: Stages) {
    let worker = ThreadState::new(shared);
    let balancer = Arc::clone(&worker.shared.balancer);
    let sweeping = worker.pool.sweep_periodically(move |instance| balancer.is_listed(instance));
    let listening = async {
        while let Some(accept) = accepts.recv().await {
            worker.connections.spawn_local(listen(Rc::clone(&worker), accept, stages.clone()));
        }
        std::future::pending::<()>().await;
    };
    let draining = async {
        stages.draining.cancelled().await;
        worker.draining.set(true);
        worker.connections.close();
        worker.connections.wait().await;
    };
    tokio::select! {
        () = sweeping => {}
        () = listening => {}
        () = draining => {}
        () = stages.ended.cancelled() => {}
    }
}

async fn listen(worker: Rc<ThreadState>, accept: Accept, stages: Stages) {
    let Accept { address, protocol, socket: listener, closed } = accept;
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "cannot accept connections");
            return;
        }
    };
    loop {
        let accept = async {
            while worker.connections.len() >= MAX_CONNECTIONS {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            listener.accept().await
        };
        let accepted = tokio::select! {
            accepted = accept => accepted,
            () = closed.cancelled() => return,
            () = stages.draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => {
                let accepted = Accepted { stream, peer, listener: address, protocol };
                let serving = serve(Rc::clone(&worker), accepted, stages.closing.clone());
                drop(worker.connections.spawn_local(serving));
            }
            Err(error) => {
                // Out of file descriptors, or a connection that ended at once: neither ends the listener.
                tracing::debug!(%address, %error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

/// A connection that was accepted just now.
struct Accepted {
    stream: TcpStream,
    peer: SocketAddr,
    listener: SocketAddr,
    protocol: Protocol,
}

/// Serves a connection: its transport first, then what its listener is for.
async fn serve(worker: Rc<ThreadState>, accepted: Accepted, closing: CancellationToken) {
    let Accepted { stream, peer, listener, protocol } = accepted;
    let (stream, transport) = transport::establish(stream, peer, listener);
    match protocol {
        Protocol::Http => http_connection::serve(worker, stream, transport, closing).await,
        Protocol::Tcp => tunnel::serve_tcp(worker, stream, transport).await,
        // `Listeners` opens none.
        Protocol::Unknown => {}
    }
}
