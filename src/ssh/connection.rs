//! One connection, from its acceptance to its end.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use russh::{Disconnect, server};
use tokio::{net::TcpStream, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    backend::{Backend, SshServer},
    connection_state::ConnectionState,
    flow::Gate,
    handler::Handler,
    limits::Limits,
    unauthenticated::UnauthenticatedSlot,
};

/// How long a client has to close its connection before the server drops it.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Connection<B> {
    pub(super) server: Arc<SshServer<B>>,
    pub(super) protocol: Arc<server::Config>,
    pub(super) limits: Arc<Limits>,
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) peer: SocketAddr,
}

impl<B: Backend> Connection<B> {
    pub(super) async fn run(self, socket: TcpStream, unauthenticated: UnauthenticatedSlot) {
        let peer = self.peer;
        match self.run_session(socket, unauthenticated).await {
            Ok(()) => tracing::debug!(%peer, "ssh connection closed"),
            Err(error) => tracing::debug!(%peer, %error, "ssh connection ended"),
        }
    }

    async fn run_session(&self, socket: TcpStream, unauthenticated: UnauthenticatedSlot) -> Result<(), russh::Error> {
        socket.set_nodelay(true)?;
        let state = ConnectionState::new();
        let deadline = state.opened + Duration::from_secs(self.server.config.ssh.handshake_seconds);
        let idle = Duration::from_secs(self.server.config.ssh.idle_seconds);
        let cut = CancellationToken::new();
        let gate = Gate::new(socket, Arc::clone(&state.flow), cut.clone());
        let (server, tracker) = (Arc::clone(&self.server), self.tracker.clone());
        let (limits, evicted) = (Arc::clone(&self.limits), unauthenticated.evicted.clone());
        let handler = Handler::new(server, tracker, limits, self.peer, Arc::clone(&state), unauthenticated);
        let started = tokio::select! {
            started = tokio::time::timeout_at(deadline, server::run_stream(Arc::clone(&self.protocol), gate, handler)) => started,
            () = evicted.cancelled() => return Err(russh::Error::ConnectionTimeout),
            () = self.shutdown.cancelled() => return Ok(()),
        };
        let mut session = started.map_err(|_| russh::Error::ConnectionTimeout)??;
        let handle = session.handle();
        // The library runs the session in a task of its own, which ends when its stream is closed.
        let _cut = cut.clone().drop_guard();
        let mut running = state.running.subscribe();
        let (mut authenticated, mut stopping) = (false, false);
        let why = loop {
            tokio::select! {
                ended = &mut session => return ended,
                () = state.authenticated.cancelled(), if !authenticated => authenticated = true,
                () = expired(deadline, &evicted), if !authenticated => {
                    if state.authenticated.is_cancelled() {
                        continue;
                    }
                    cut.cancel();
                    let _ = session.await;
                    return Err(russh::Error::ConnectionTimeout);
                }
                () = tokio::time::sleep_until(state.active_at() + idle), if authenticated => {
                    if state.active_at() + idle <= Instant::now() {
                        break "the connection was idle for too long";
                    }
                }
                () = self.shutdown.cancelled(), if !stopping => stopping = true,
                () = none_runs(&mut running), if stopping => {
                    // OpenSSH forgets an exit status that it has just read when a disconnect message follows. It closes
                    // the connection by itself.
                    if let Ok(ended) = tokio::time::timeout(DISCONNECT_TIMEOUT, &mut session).await {
                        return ended;
                    }
                    break "the server is stopping";
                }
                () = self.abort.cancelled() => break "the server is stopping",
            }
        };
        let disconnect = async {
            let _ = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new()).await;
            (&mut session).await
        };
        if let Ok(ended) = tokio::time::timeout(DISCONNECT_TIMEOUT, disconnect).await {
            return ended;
        }
        cut.cancel();
        session.await
    }
}

/// Until an unauthenticated client has no more time, or another has got its place.
async fn expired(deadline: Instant, evicted: &CancellationToken) {
    tokio::select! {
        () = tokio::time::sleep_until(deadline) => {}
        () = evicted.cancelled() => {}
    }
}

async fn none_runs(running: &mut watch::Receiver<usize>) {
    let _ = running.wait_for(|running| *running == 0).await;
}
