//! The server's side of the router's socket: publishes tables, and knows what came of them.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{broadcast, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::protocol::{FromRouter, Table, ToRouter, Unanswered};
use crate::model::InstanceId;

/// Between two attempts to reach the router.
const RETRY: Duration = Duration::from_millis(50);

/// Unanswered requests that wait to be read.
const UNANSWERED: usize = 256;

/// The way to the router; cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    table: watch::Sender<Option<Table>>,
    state: watch::Receiver<State>,
    connected: watch::Receiver<bool>,
    unanswered: broadcast::Sender<Unanswered>,
}

/// What the router said last.
#[derive(Debug, Clone, Default)]
struct State {
    version: u64,
    failed: Vec<(SocketAddr, String)>,
    /// Instances that may still get or answer requests.
    active: HashSet<InstanceId>,
}

impl Link {
    /// Keeps connected to the router's socket, by a task on `tracker`, until `cancel`.
    pub fn start(socket: PathBuf, tracker: &TaskTracker, cancel: CancellationToken) -> Self {
        let (table, tables) = watch::channel(None);
        let (states, state) = watch::channel(State::default());
        let (connections, connected) = watch::channel(false);
        let unanswered = broadcast::Sender::new(UNANSWERED);
        let tell = unanswered.clone();
        tracker.spawn(async move {
            let task = Task { tables, states, connections, unanswered: tell };
            tokio::select! {
                () = task.run(socket) => {}
                () = cancel.cancelled() => {}
            }
        });
        Self { table, state, connected, unanswered }
    }

    /// Puts a table in force, now or as soon as there is a router; the latest counts.
    pub fn publish(&self, table: Table) {
        self.table.send_replace(Some(table));
    }

    /// Waits until this version, or a later one, is in force; returns the listeners that could not be opened.
    pub async fn applied(&self, version: u64) -> Vec<(SocketAddr, String)> {
        let mut state = self.state.clone();
        match state.wait_for(|state| state.version >= version).await {
            Ok(state) => state.failed.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until the instance neither gets nor answers requests.
    pub async fn drained(&self, instance: &InstanceId) {
        let mut state = self.state.clone();
        let _ = state.wait_for(|state| state.version > 0 && !state.active.contains(instance)).await;
    }

    /// Whether a router is there.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Requests that no instance answers, from now on; who reads too slowly misses some.
    pub fn unanswered(&self) -> broadcast::Receiver<Unanswered> {
        self.unanswered.subscribe()
    }

    /// The version that the router said last to be in force; 0 if it never did.
    pub fn applied_version(&self) -> u64 {
        self.state.borrow().version
    }
}

struct Task {
    tables: watch::Receiver<Option<Table>>,
    states: watch::Sender<State>,
    connections: watch::Sender<bool>,
    unanswered: broadcast::Sender<Unanswered>,
}

impl Task {
    async fn run(mut self, socket: PathBuf) {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    self.connections.send_replace(true);
                    let ended = self.converse(stream).await;
                    self.connections.send_replace(false);
                    // What is in force at the next router is not known until it says so.
                    self.states.send_modify(|state| state.version = 0);
                    match ended {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%error, "the router is gone"),
                    }
                }
                Err(error) => tracing::trace!(%error, "no router yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Ends well when nobody publishes any more.
    async fn converse(&mut self, stream: UnixStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        // Instances of tables that were sent; what the router says is told by them.
        let mut sent: Option<(u64, HashSet<InstanceId>)> = None;
        self.tables.mark_changed();
        loop {
            tokio::select! {
                changed = self.tables.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let Some(table) = self.tables.borrow_and_update().clone() else { continue };
                    let targets = table.services.iter().flat_map(|service| &service.targets);
                    let listed: HashSet<_> = targets.map(|target| target.instance.clone()).collect();
                    // From the moment of sending, the router may use them.
                    self.states.send_modify(|state| state.active.extend(listed.iter().cloned()));
                    sent = Some((table.version, listed));
                    let mut text = serde_json::to_vec(&ToRouter::Table(table))?;
                    text.push(b'\n');
                    write.write_all(&text).await?;
                }
                line = lines.next_line() => {
                    let line = line?.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
                    match serde_json::from_str(&line)? {
                        FromRouter::Applied { version, draining, failed } => {
                            let Some((latest, listed)) = &sent else { continue };
                            // An answer to an older table says nothing of instances that a newer one lists.
                            let active = listed.iter().cloned().chain(draining).collect();
                            if version == *latest {
                                self.states.send_replace(State { version, failed, active });
                            } else if version > *latest {
                                tracing::error!(version, latest, "the router has a newer table than this server made");
                            }
                        }
                        FromRouter::Unanswered(one) => {
                            // Nobody may want to know.
                            let _ = self.unanswered.send(one);
                        }
                        FromRouter::Drained(instance) => {
                            let listed = sent.as_ref().is_some_and(|(_, listed)| listed.contains(&instance));
                            if !listed {
                                self.states.send_if_modified(|state| state.active.remove(&instance));
                            }
                        }
                    }
                }
            }
        }
    }
}
