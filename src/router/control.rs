//! The control thread: takes tables from the server, tells what came of them, and hands over to a successor.

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
    RouterError,
    balancer::Hold,
    listeners::Listeners,
    protocol::{FromRouter, Table, ToRouter, Unanswered},
    routes::Shared,
    takeover::{Inherited, Neighbours, Place, Predecessor},
    worker::Handle,
};

/// How long the server has to take a message.
const PATIENCE: Duration = Duration::from_secs(5);

/// Between two attempts to open what could not be opened.
const RETRY: Duration = Duration::from_secs(1);

/// The server, while it is connected.
struct Server {
    lines: Lines<BufReader<OwnedReadHalf>>,
    write: OwnedWriteHalf,
}

impl Server {
    fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write }
    }
}

/// The next line of the server; never without one.
async fn next(server: &mut Option<Server>) -> Option<String> {
    match server {
        Some(server) => server.lines.next_line().await.ok().flatten(),
        None => std::future::pending().await,
    }
}

/// Says something to the server; one that does not listen is gone.
async fn say(server: &mut Option<Server>, message: &FromRouter) {
    let Some(connected) = server else { return };
    let Ok(mut text) = serde_json::to_vec(message) else { return };
    text.push(b'\n');
    let said = tokio::time::timeout(PATIENCE, connected.write.write_all(&text)).await;
    if !matches!(said, Ok(Ok(()))) {
        *server = None;
    }
}

/// What is in force.
struct Force<'a> {
    shared: &'a Shared,
    workers: &'a [Handle],
    listeners: Listeners,
    table: Table,
    failed: Vec<(SocketAddr, String)>,
}

impl Force<'_> {
    /// Puts a table in force; routes come first, so that no new listener is without them.
    async fn apply(&mut self, table: Table) {
        self.table = table.clone();
        self.shared.apply(table);
        self.failed = self.listeners.apply(&self.table.listeners, self.workers).await;
    }

    /// Tries once more what could not be opened; whether something changed.
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

/// Until the router before has answered its last request, its instances are not drained.
async fn predecessor_ends(predecessor: &mut Option<Predecessor>) {
    match predecessor {
        Some(predecessor) => predecessor.ended().await,
        None => std::future::pending().await,
    }
}

/// Ends with the routers on both sides of this one, if there are any: they are to know when this one has ended.
pub(super) async fn run(
    mut place: Place,
    shared: Arc<Shared>,
    workers: &[Handle],
    mut unanswered: mpsc::Receiver<Unanswered>,
    shutdown: CancellationToken,
) -> Result<Neighbours, RouterError> {
    let (listeners, table, failed) = (Listeners::default(), Table::default(), Vec::new());
    let mut force = Force { shared: &shared, workers, listeners, table, failed };
    let mut server: Option<Server> = None;
    let mut held: Vec<Hold> = Vec::new();
    if let Some(Inherited { table, sockets, active }) = place.inherited() {
        shared.apply(table.clone());
        held.extend(active.into_iter().map(|instance| shared.balancer.hold(instance)));
        for (address, protocol, socket) in sockets {
            if let Err(error) = force.listeners.adopt(address, protocol, socket, workers).await {
                tracing::error!(%address, %error, "cannot take over a listener");
            }
        }
        force.apply(table).await;
        tracing::info!(version = force.table.version, "took over from the router before");
    }
    let mut predecessor = place.confirm()?;
    if predecessor.is_none() {
        held.clear();
    }
    let control = place.control()?;
    let successors = place.successors()?;
    let mut retry = tokio::time::interval(RETRY);
    retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tracing::info!("ready");
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(Neighbours { predecessor, successor: None }),
            accepted = control.accept() => match accepted {
                // A restarted server is the one that counts; an older connection is a dead server's.
                Ok((stream, _)) => server = Some(Server::new(stream)),
                Err(error) => tracing::warn!(%error, "cannot accept the server"),
            },
            line = next(&mut server) => match line.map(|line| serde_json::from_str::<ToRouter>(&line)) {
                Some(Ok(ToRouter::Table(new))) => {
                    if new.version >= force.table.version {
                        force.apply(new).await;
                    }
                    say(&mut server, &force.applied()).await;
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "the server said something that is not understood");
                    server = None;
                }
                None => server = None,
            },
            drained = shared.balancer.drained() => {
                for instance in drained {
                    say(&mut server, &FromRouter::Drained(instance)).await;
                }
            }
            Some(one) = unanswered.recv() => say(&mut server, &FromRouter::Unanswered(one)).await,
            _ = retry.tick(), if !force.failed.is_empty() => {
                if force.retry().await {
                    say(&mut server, &force.applied()).await;
                }
            }
            () = predecessor_ends(&mut predecessor) => {
                predecessor = None;
                held.clear();
            }
            accepted = successors.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                match place.hand_over(stream, &force.table, &force.listeners, shared.balancer.active()).await {
                    Ok(successor) => {
                        tracing::info!("handed over to a new router");
                        force.listeners.close();
                        return Ok(Neighbours { predecessor, successor: Some(successor) });
                    }
                    Err(error) => tracing::warn!(%error, "a new router did not take over"),
                }
            }
        }
    }
}
