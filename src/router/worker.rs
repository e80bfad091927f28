//! Worker threads: each has a runtime of its own, accepts from every listener, and keeps its own pool.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream as StdStream},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::{
    io::Interest,
    net::TcpStream,
    runtime::LocalOptions,
    sync::mpsc::{Receiver, Sender, channel},
};
use tokio_util::sync::CancellationToken;

use super::{
    client_limits::{ClientSlot, Refusal},
    error_page::ErrorPage,
    http_connection,
    protocol::Protocol,
    refusals::RefusalKind,
    routes::RouterState,
    socket,
    thread_state::ThreadState,
    transport, tunnel,
};

/// A listener from which a worker is to accept, until it is closed.
pub(super) struct Accept {
    pub(super) address: SocketAddr,
    /// The descriptor that all workers share; each waits for it by its own runtime.
    pub(super) socket: Arc<TcpListener>,
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
                        runtime.block_on(run(ThreadState::new(thread_shared, count), accepts, thread_stages));
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

async fn run(worker: Rc<ThreadState>, mut accepts: Receiver<Accept>, stages: Stages) {
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
    let Accept { address, socket: listener, closed } = accept;
    let listener = match socket::watch(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%address, %error, "cannot accept connections");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.async_io(Interest::READABLE, |socket| socket::accept(socket)) => accepted,
            () = closed.cancelled() => return,
            () = stages.draining.cancelled() => return,
        };
        match accepted {
            Ok((stream, peer)) => match admit(&worker, stream, peer, address) {
                Ok(Some(accepted)) => {
                    let serving = serve(Rc::clone(&worker), accepted, stages.closing.clone());
                    drop(worker.connections.spawn_local(serving));
                }
                Ok(None) => {}
                Err(error) => worker.shared.refusals.log(RefusalKind::NoSocket, &error),
            },
            Err(error) => {
                // Out of file descriptors, or a connection that ended at once: neither ends the listener.
                worker.shared.refusals.log(RefusalKind::NoSocket, &format_args!("{address}: cannot accept: {error}"));
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
    slot: ClientSlot,
}

/// Admits a connection, if its client and its app may have another; else it is refused.
fn admit(
    worker: &ThreadState,
    stream: StdStream,
    peer: SocketAddr,
    listener: SocketAddr,
) -> io::Result<Option<Accepted>> {
    // It is none if it is about to be closed.
    let Some(routed) = worker.shared.listener(&listener) else { return Ok(None) };
    let protocol = routed.protocol;
    match worker.shared.limits.admit(peer.ip(), routed.app.as_ref()) {
        Ok(slot) => Ok(Some(Accepted { stream: TcpStream::from_std(stream)?, peer, listener, protocol, slot })),
        Err(refusal) => {
            worker.shared.refusals.log(refusal.kind(), &refusal);
            refuse(&stream, protocol, &refusal);
            Ok(None)
        }
    }
}

/// Answers a connection without waiting for anything. The client gets the page unless its request comes just now.
fn refuse(mut stream: &StdStream, protocol: Protocol, refusal: &Refusal) {
    match protocol {
        Protocol::Http => {
            // What has come is read, since the kernel resets a connection that is closed with unread bytes. A client that has
            // gone away needs no page.
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write(&ErrorPage::refusal(&refusal.to_string()));
        }
        Protocol::Tcp | Protocol::Unknown => {}
    }
}

/// Serves a connection: its transport first, then what its listener is for.
async fn serve(worker: Rc<ThreadState>, accepted: Accepted, closing: CancellationToken) {
    let Accepted { stream, peer, listener, protocol, slot } = accepted;
    let (stream, transport) = transport::establish(stream, peer, listener);
    match protocol {
        Protocol::Http => http_connection::serve(worker, stream, transport, slot, closing).await,
        Protocol::Tcp => tunnel::serve_tcp(worker, stream, transport, slot).await,
        // `Listeners` opens none.
        Protocol::Unknown => {}
    }
}
