//! The control thread: applies the server's route tables, reports the result, and hands over to a new router.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::mpsc,
    time::MissedTickBehavior,
};
use tokio_util::sync::CancellationToken;

use super::{
    balancer::Hold,
    error::RouterError,
    listeners::Listeners,
    protocol::{FromRouter, Table, ToRouter, Unanswered},
    routes::RouterState,
    takeover::{Inherited, Neighbours, Predecessor, RouterDir},
    worker::ThreadHandle,
};

/// How long the server has to take a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// The time between two attempts to open listeners that could not be opened.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The server's connection.
struct ServerConnection {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl ServerConnection {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }
}

/// The next line of the server. Never returns while no server is connected.
async fn next(server: &mut Option<ServerConnection>) -> Option<String> {
    match server {
        Some(server) => server.lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// Sends a message to the server; one that does not take it is disconnected.
async fn send(server: &mut Option<ServerConnection>, message: &FromRouter) {
    let Some(connected) = server else { return };
    let Ok(mut text) = serde_json::to_vec(message) else { return };
    text.push(b'\n');
    let sent = tokio::time::timeout(SEND_TIMEOUT, connected.write.write_all(&text)).await;
    if !matches!(sent, Ok(Ok(()))) {
        *server = None;
    }
}

/// The route table in force, and its listeners.
struct ActiveTable<'a> {
    shared: &'a RouterState,
    workers: &'a [ThreadHandle],
    listeners: Listeners,
    table: Table,
    failed: Vec<(SocketAddr, String)>,
}

impl ActiveTable<'_> {
    /// Puts a table in force; the routes first, so that no new listener is without them.
    async fn apply(&mut self, table: Table) {
        self.table = table.clone();
        self.shared.apply(table);
        self.failed = self.listeners.apply(&self.table.listeners, self.workers).await;
    }

    /// Tries again to open the listeners that could not be opened; returns whether anything changed.
    async fn retry(&mut self) -> bool {
        let failed = self.listeners.apply(&self.table.listeners, self.workers).await;
        let changed = failed != self.failed;
        self.failed = failed;
        changed
    }

    fn applied(&self) -> FromRouter {
        let draining = self.shared.balancer.draining();
        FromRouter::Applied { version: self.table.version, draining, failed: self.failed.clone() }
    }
}

/// Waits until the predecessor has ended: until then its instances do not count as drained.
async fn predecessor_ends(predecessor: &mut Option<Predecessor>) {
    match predecessor {
        Some(predecessor) => predecessor.ended().await,
        None => std::future::pending().await,
    }
}

/// Runs until `shutdown` or a handover. Returns the connections to the predecessor and the successor, which stay open until
/// this router has ended.
pub(super) async fn run(
    mut data_dir: RouterDir,
    shared: Arc<RouterState>,
    workers: &[ThreadHandle],
    mut unanswered: mpsc::Receiver<Unanswered>,
    shutdown: CancellationToken,
) -> Result<Neighbours, RouterError> {
    let (listeners, table, failed) = (Listeners::default(), Table::default(), Vec::new());
    let mut active = ActiveTable { shared: &shared, workers, listeners, table, failed };
    let mut server: Option<ServerConnection> = None;
    let mut held: Vec<Hold> = Vec::new();
    if let Some(Inherited { table, sockets, active: instances }) = data_dir.inherited() {
        shared.apply(table.clone());
        held.extend(instances.into_iter().map(|instance| shared.balancer.hold(instance)));
        for (address, protocol, socket) in sockets {
            if let Err(error) = active.listeners.adopt(address, protocol, socket, workers).await {
                tracing::error!(%address, %error, "cannot take over a listener");
            }
        }
        active.apply(table).await;
        tracing::info!(version = active.table.version, "took over from the previous router");
    }
    let mut predecessor = data_dir.confirm()?;
    if predecessor.is_none() {
        held.clear();
    }
    let control = data_dir.control()?;
    let successors = data_dir.successors()?;
    let mut retry = tokio::time::interval(RETRY_INTERVAL);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tracing::info!("ready");
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Neighbours { predecessor, successor: None }),
            accepted = control.accept() => match accepted {
                // The new connection is a restarted server's, and the old one a dead server's.
                Ok((stream, _)) => server = Some(ServerConnection::new(stream)),
                Err(error) => tracing::warn!(%error, "cannot accept the server's connection"),
            },
            line = next(&mut server) => match line.map(|line| serde_json::from_str::<ToRouter>(&line)) {
                Some(Ok(ToRouter::Table(new))) => {
                    if new.version >= active.table.version {
                        active.apply(new).await;
                    }
                    send(&mut server, &active.applied()).await;
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the server sent an invalid message");
                    server = None;
                }
                None => server = None,
            },
            drained = shared.balancer.drained() => {
                for instance in drained {
                    send(&mut server, &FromRouter::Drained(instance)).await;
                }
            }
            Some(report) = unanswered.recv() => send(&mut server, &FromRouter::Unanswered(report)).await,
            _ = retry.tick(), if !active.failed.is_empty() => {
                if active.retry().await {
                    send(&mut server, &active.applied()).await;
                }
            }
            () = predecessor_ends(&mut predecessor) => {
                predecessor = None;
                held.clear();
            }
            accepted = successors.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                match data_dir.hand_over(stream, &active.table, &active.listeners, shared.balancer.active()).await {
                    Ok(successor) => {
                        tracing::info!("handed over to a new router");
                        active.listeners.close();
                        return Ok(Neighbours { predecessor, successor: Some(successor) });
                    }
                    Err(error) => tracing::warn!(%error, "a new router did not take over"),
                }
            }
        }
    }
}
