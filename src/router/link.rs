//! The server's connection to the router: sends route tables, and keeps what the router reports.

use std::{collections::HashSet, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    sync::{broadcast, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::protocol::{FromRouter, Table, ToRouter, Unanswered};
use crate::model::InstanceId;

/// The time between two attempts to connect to the router.
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Maximum number of reports of unanswered requests that wait to be read.
const MAX_QUEUED_REPORTS: usize = 256;

/// The connection to the router; cheap to clone.
#[derive(Debug, Clone)]
pub struct Link {
    table: watch::Sender<Option<Table>>,
    status: watch::Receiver<RouterStatus>,
    connected: watch::Receiver<bool>,
    unanswered: broadcast::Sender<Unanswered>,
}

/// What the router reported last.
#[derive(Debug, Clone, Default)]
struct RouterStatus {
    version: u64,
    failed: Vec<(SocketAddr, String)>,
    /// Instances that may get requests or have requests in flight.
    active: HashSet<InstanceId>,
}

impl Link {
    /// Connects to the router's socket, and reconnects, in a task on `tracker` until `cancel`.
    pub fn start(socket: PathBuf, tracker: &TaskTracker, cancel: CancellationToken) -> Self {
        let (table, tables) = watch::channel(None);
        let (statuses, status) = watch::channel(RouterStatus::default());
        let (connections, connected) = watch::channel(false);
        let unanswered = broadcast::Sender::new(MAX_QUEUED_REPORTS);
        let reports = unanswered.clone();
        tracker.spawn(async move {
            let task = LinkTask { tables, statuses, connections, unanswered: reports };
            tokio::select! {
                () = task.run(socket) => {}
                () = cancel.cancelled() => {}
            }
        });
        Self { table, status, connected, unanswered }
    }

    /// Sends a route table to the router, now or when it is connected. Only the latest table is sent.
    pub fn publish(&self, table: Table) {
        self.table.send_replace(Some(table));
    }

    /// Waits until this version, or a later one, is in force; returns the listeners that could not be opened.
    pub async fn applied(&self, version: u64) -> Vec<(SocketAddr, String)> {
        let mut status = self.status.clone();
        match status.wait_for(|status| status.version >= version).await {
            Ok(status) => status.failed.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until the instance gets no new requests and has none in flight.
    pub async fn drained(&self, instance: &InstanceId) {
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| status.version > 0 && !status.active.contains(instance)).await;
    }

    /// Whether the router is connected.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Reports of requests that no instance answers, from now on; a slow reader misses some.
    pub fn unanswered(&self) -> broadcast::Receiver<Unanswered> {
        self.unanswered.subscribe()
    }

    /// The version of the table in force, as the router reported it last; 0 if the router has not reported any.
    pub fn applied_version(&self) -> u64 {
        self.status.borrow().version
    }
}

struct LinkTask {
    tables: watch::Receiver<Option<Table>>,
    statuses: watch::Sender<RouterStatus>,
    connections: watch::Sender<bool>,
    unanswered: broadcast::Sender<Unanswered>,
}

impl LinkTask {
    async fn run(mut self, socket: PathBuf) {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    self.connections.send_replace(true);
                    let ended = self.exchange(stream).await;
                    self.connections.send_replace(false);
                    // Another router may answer next: its table is not known until it reports it.
                    self.statuses.send_modify(|status| status.version = 0);
                    match ended {
                        Ok(()) => return,
                        Err(error) => tracing::warn!(%error, "lost the connection to the router"),
                    }
                }
                Err(error) => tracing::trace!(%error, "the router is not running yet"),
            }
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
    }

    /// Returns `Ok` when every `Link` is dropped.
    async fn exchange(&mut self, stream: UnixStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        // Version and instances of the table that was sent last.
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
                    // The router may use them as soon as the table is sent.
                    self.statuses.send_modify(|status| status.active.extend(listed.iter().cloned()));
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
                            // An answer to an older table does not know the instances of a newer one.
                            let active = listed.iter().cloned().chain(draining).collect();
                            if version == *latest {
                                self.statuses.send_replace(RouterStatus { version, failed, active });
                            } else if version > *latest {
                                tracing::error!(version, latest, "the router has a newer table than this server published");
                            }
                        }
                        FromRouter::Unanswered(report) => {
                            // There may be no reader.
                            let _ = self.unanswered.send(report);
                        }
                        FromRouter::Drained(instance) => {
                            let listed = sent.as_ref().is_some_and(|(_, listed)| listed.contains(&instance));
                            if !listed {
                                self.statuses.send_if_modified(|status| status.active.remove(&instance));
                            }
                        }
                    }
                }
            }
        }
    }
}
