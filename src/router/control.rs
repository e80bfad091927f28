//! The control thread: applies the server's route tables, reports the result, and hands over to a new router.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::{
    balancer::Hold,
    error::RouterError,
    listeners::Listeners,
    protocol::{Applied, FromRouter, Hello, Table, Unanswered, unknown::Unknown},
    routes::RouterState,
    server_connection::{Received, ServerConnection, receive, send},
    takeover::{Inherited, Neighbours, Predecessor, RouterDir},
    worker::ThreadHandle,
};

/// The time between two attempts to open listeners that could not be opened.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The route table in force, and its listeners.
struct ActiveTable<'a> {
    shared: &'a RouterState,
    workers: &'a [ThreadHandle],
    listeners: Listeners,
    table: Table,
    failed: Vec<(SocketAddr, String)>,
    /// What was ignored in the messages of servers.
    unknown: Unknown,
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
        FromRouter::Applied(Applied {
            version: self.table.version,
            draining,
            failed: self.failed.clone(),
            ignored: self.unknown.count(),
        })
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
    let (listeners, table, failed) = (Listeners::new(shared.descriptors.listeners()), Table::default(), Vec::new());
    let unknown = Unknown::default();
    let mut active = ActiveTable { shared: &shared, workers, listeners, table, failed, unknown };
    let mut server: Option<ServerConnection> = None;
    let mut held: Vec<Hold> = Vec::new();
    if let Some(Inherited { table, sockets, active: instances, unknown }) = data_dir.inherited() {
        active.unknown = unknown;
        shared.apply(table.clone());
        held.extend(instances.into_iter().map(|instance| shared.balancer.hold(instance)));
        for (address, protocol, socket) in sockets {
            active.listeners.adopt(address, protocol, socket, workers).await;
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
            received = receive(&mut server, &mut active.unknown) => match received {
                Some(Received::Greeting) => send(&mut server, &FromRouter::Hello(Hello::router())).await,
                Some(Received::Table(new)) => {
                    if new.version >= active.table.version {
                        active.apply(new).await;
                    }
                    send(&mut server, &active.applied()).await;
                }
                // The answer tells the server that the router ignores something.
                Some(Received::Unknown) => send(&mut server, &active.applied()).await,
                None => {}
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
