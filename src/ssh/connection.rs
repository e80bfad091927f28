//! One connection, from its acceptance to its end.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use russh::{Disconnect, server};
use tokio::{net::TcpStream, sync::watch, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Door, Sessions,
    flow::{Flow, Gate},
    handler::Handler,
    limits::{Place, Unauthenticated},
};

/// What a client has to take a farewell.
const FAREWELL: Duration = Duration::from_secs(2);

pub(super) struct Connection<S> {
    pub(super) door: Arc<Door<S>>,
    pub(super) protocol: Arc<server::Config>,
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
    pub(super) abort: CancellationToken,
    pub(super) peer: SocketAddr,
}

/// What a connection's task, its handler and its commands share.
pub(super) struct Link {
    pub(super) flow: Arc<Flow>,
    pub(super) authenticated: CancellationToken,
    /// Commands that run.
    pub(super) running: watch::Sender<usize>,
    opened: Instant,
    active_at: AtomicU64,
}

impl Link {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            flow: Arc::default(),
            authenticated: CancellationToken::new(),
            running: watch::Sender::new(0),
            opened: Instant::now(),
            active_at: AtomicU64::new(0),
        })
    }

    /// Notes traffic.
    pub(super) fn touch(&self) {
        let now = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active_at.store(now, Ordering::Relaxed);
    }

    fn active_at(&self) -> Instant {
        self.opened + Duration::from_millis(self.active_at.load(Ordering::Relaxed))
    }
}

impl<S: Sessions> Connection<S> {
    pub(super) async fn run(self, socket: TcpStream, (place, unauthenticated): (Place, Unauthenticated)) {
        let peer = self.peer;
        match self.converse(socket, unauthenticated).await {
            Ok(()) => tracing::debug!(%peer, "ssh connection closed"),
            Err(error) => tracing::debug!(%peer, %error, "ssh connection ended"),
        }
        drop(place);
    }

    async fn converse(&self, socket: TcpStream, unauthenticated: Unauthenticated) -> Result<(), russh::Error> {
        socket.set_nodelay(true)?;
        let link = Link::new();
        let deadline = link.opened + Duration::from_secs(self.door.config.ssh.handshake_seconds);
        let idle = Duration::from_secs(self.door.config.ssh.idle_seconds);
        let cut = CancellationToken::new();
        let gate = Gate::new(socket, Arc::clone(&link.flow), cut.clone());
        let handler =
            Handler::new(Arc::clone(&self.door), self.tracker.clone(), self.peer, Arc::clone(&link), unauthenticated);
        let greeted = tokio::select! {
            greeted = tokio::time::timeout_at(deadline, server::run_stream(Arc::clone(&self.protocol), gate, handler)) => greeted,
            () = self.shutdown.cancelled() => return Ok(()),
        };
        let mut session = greeted.map_err(|_| russh::Error::ConnectionTimeout)??;
        let handle = session.handle();
        // The library runs the session in a task of its own, which ends when its stream is cut.
        let _cut = cut.clone().drop_guard();
        let mut running = link.running.subscribe();
        let (mut known, mut stopping) = (false, false);
        let why = loop {
            tokio::select! {
                ended = &mut session => return ended,
                () = link.authenticated.cancelled(), if !known => known = true,
                () = tokio::time::sleep_until(deadline), if !known => {
                    cut.cancel();
                    let _ = session.await;
                    return Err(russh::Error::ConnectionTimeout);
                }
                () = tokio::time::sleep_until(link.active_at() + idle), if known => {
                    if link.active_at() + idle <= Instant::now() {
                        break "closed after a long time without traffic";
                    }
                }
                () = self.shutdown.cancelled(), if !stopping => stopping = true,
                () = none_runs(&mut running), if stopping => {
                    // OpenSSH forgets an exit status that it has just read when it reads a farewell: it goes by itself.
                    if let Ok(ended) = tokio::time::timeout(FAREWELL, &mut session).await {
                        return ended;
                    }
                    break "the server is stopping";
                }
                () = self.abort.cancelled() => break "the server is stopping",
            }
        };
        let farewell = async {
            let _ = handle.disconnect(Disconnect::ByApplication, why.to_owned(), String::new()).await;
            (&mut session).await
        };
        if let Ok(ended) = tokio::time::timeout(FAREWELL, farewell).await {
            return ended;
        }
        cut.cancel();
        session.await
    }
}

async fn none_runs(running: &mut watch::Receiver<usize>) {
    let _ = running.wait_for(|running| *running == 0).await;
}
