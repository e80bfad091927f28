//! The control thread: takes tables from the server, tells what came of them, and hands over to a successor.

use std::sync::Arc;

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};
use tokio_util::sync::CancellationToken;

use super::{
    RouterError,
    listeners::Listeners,
    protocol::{FromRouter, Table, ToRouter},
    routes::Shared,
    takeover::Place,
    worker::Handle,
};

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
    if connected.write.write_all(&text).await.is_err() {
        *server = None;
    }
}

pub(super) async fn run(
    mut place: Place,
    shared: Arc<Shared>,
    workers: &[Handle],
    shutdown: CancellationToken,
) -> Result<(), RouterError> {
    let mut listeners = Listeners::default();
    let mut table = Table::default();
    let mut failed = Vec::new();
    let mut server: Option<Server> = None;
    let control = place.control()?;
    if let Some(inherited) = place.inherited() {
        for (address, protocol, socket) in inherited.sockets {
            if let Err(error) = listeners.adopt(address, protocol, socket, workers).await {
                tracing::error!(%address, %error, "cannot take over a listener");
            }
        }
        table = inherited.table;
        failed = listeners.apply(&table.listeners, workers).await;
        shared.apply(table.clone());
        tracing::info!(version = table.version, "took over from the router before");
    }
    place.confirm()?;
    let successors = place.successors()?;
    tracing::info!("ready");
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = control.accept() => match accepted {
                // A restarted server is the one that counts; an older connection is a dead server's.
                Ok((stream, _)) => server = Some(Server::new(stream)),
                Err(error) => tracing::warn!(%error, "cannot accept the server"),
            },
            line = next(&mut server) => match line.map(|line| serde_json::from_str::<ToRouter>(&line)) {
                Some(Ok(ToRouter::Table(new))) => {
                    if new.version >= table.version {
                        failed = listeners.apply(&new.listeners, workers).await;
                        table = new.clone();
                        shared.apply(new);
                    }
                    let draining = shared.balancer.draining();
                    let applied = FromRouter::Applied { version: table.version, draining, failed: failed.clone() };
                    say(&mut server, &applied).await;
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
            accepted = successors.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                match place.hand_over(stream, &table, &listeners).await {
                    Ok(()) => {
                        tracing::info!("handed over to a new router");
                        listeners.close();
                        return Ok(());
                    }
                    Err(error) => tracing::warn!(%error, "a new router did not take over"),
                }
            }
        }
    }
}
