//! The server's connection to the router: sends route tables, and keeps what the router reports.

use std::{collections::HashSet, io, net::SocketAddr, path::PathBuf, time::Duration};

use futures_util::StreamExt as _;
use tokio::{
    io::AsyncWriteExt as _,
    net::UnixStream,
    sync::{broadcast, watch},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::protocol::{Applied, FromRouter, Hello, Table, ToRouter, Unanswered, VERSION, line, unknown::Unknown, v1};
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

/// The state of the connection to the router.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LinkStatus {
    /// Version of the messages that server and router speak with each other, once they have greeted.
    pub protocol: Option<u32>,
    /// The version of the table in force, as the router reported it last; 0 if the router has not reported any.
    pub table: u64,
    /// How often this server has ignored a message, or a part of one, that it does not know.
    pub ignored: u64,
    /// How often the router has, as it reported last.
    pub ignored_by_router: u64,
}

/// What is known of the router.
#[derive(Debug, Clone, Default)]
struct RouterStatus {
    link: LinkStatus,
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
            let task = LinkTask { tables, statuses, connections, unanswered: reports, unknown: Unknown::default() };
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
        match status.wait_for(|status| status.link.table >= version).await {
            Ok(status) => status.failed.clone(),
            Err(_) => Vec::new(),
        }
    }

    /// Waits until the instance gets no new requests and has none in flight.
    pub async fn drained(&self, instance: &InstanceId) {
        let mut status = self.status.clone();
        let _ = status.wait_for(|status| status.link.table > 0 && !status.active.contains(instance)).await;
    }

    /// Whether the router is connected.
    pub fn connected(&self) -> watch::Receiver<bool> {
        self.connected.clone()
    }

    /// Reports of requests that no instance answers, from now on; a slow reader misses some.
    pub fn unanswered(&self) -> broadcast::Receiver<Unanswered> {
        self.unanswered.subscribe()
    }

    /// The state of the connection.
    pub fn status(&self) -> LinkStatus {
        self.status.borrow().link.clone()
    }
}

struct LinkTask {
    tables: watch::Receiver<Option<Table>>,
    statuses: watch::Sender<RouterStatus>,
    connections: watch::Sender<bool>,
    unanswered: broadcast::Sender<Unanswered>,
    unknown: Unknown,
}

/// Version and instances of the table that was sent last.
struct SentTable {
    version: u64,
    instances: HashSet<InstanceId>,
}

impl LinkTask {
    async fn run(mut self, socket: PathBuf) {
        loop {
            match UnixStream::connect(&socket).await {
                Ok(stream) => {
                    self.connections.send_replace(true);
                    let ended = self.exchange(stream).await;
                    self.connections.send_replace(false);
                    // Another router may answer next: its version and its table are not known until it reports them.
                    self.statuses.send_modify(|status| {
                        status.link.protocol = None;
                        status.link.table = 0;
                    });
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
    async fn exchange(&mut self, stream: UnixStream) -> io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = line::lines(read, line::MAX_FROM_ROUTER);
        write.write_all(&line::encode(&v1::greeting(Hello::server()))?).await?;
        // How the router has greeted. Until then no table is sent: the form that it reads is not known.
        let mut router: Option<Hello> = None;
        let mut sent: Option<SentTable> = None;
        self.tables.mark_changed();
        loop {
            tokio::select! {
                changed = self.tables.changed(), if router.is_some() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let (Some(table), Some(router)) = (self.tables.borrow_and_update().clone(), &router) else { continue };
                    let (version, instances) = (table.version, instances(&table));
                    let Some(line) = router.to_router(&ToRouter::Table(table))? else {
                        tracing::error!("the router accepts no route table: it keeps the one that it has");
                        continue;
                    };
                    if line.len() > line::MAX_TO_ROUTER {
                        let bytes = line.len();
                        tracing::error!(version, bytes, "the route table is too large: the router keeps the one that it has");
                        continue;
                    }
                    // The router may use them as soon as the table is sent.
                    self.statuses.send_modify(|status| status.active.extend(instances.iter().cloned()));
                    sent = Some(SentTable { version, instances });
                    write.write_all(&line).await?;
                }
                line = lines.next() => {
                    let line = line.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
                    let message = line::decode(&line, &mut self.unknown)?;
                    let ignored = self.unknown.count();
                    self.statuses.send_if_modified(|status| {
                        std::mem::replace(&mut status.link.ignored, ignored) != ignored
                    });
                    match message {
                        Some(FromRouter::Hello(hello)) => self.greeted(&mut router, hello),
                        Some(FromRouter::Applied(applied)) => {
                            // A router of version 1 takes the greeting for a table, and answers as to every table.
                            if router.is_none() {
                                self.greeted(&mut router, v1::router());
                            }
                            if let Some(sent) = &sent {
                                self.applied(sent, applied);
                            }
                        }
                        Some(FromRouter::Unanswered(report)) => {
                            // There may be no reader.
                            let _ = self.unanswered.send(report);
                        }
                        Some(FromRouter::Drained(instance)) => {
                            let listed = sent.as_ref().is_some_and(|sent| sent.instances.contains(&instance));
                            if !listed {
                                self.statuses.send_if_modified(|status| status.active.remove(&instance));
                            }
                        }
                        None => {}
                    }
                }
            }
        }
    }

    fn greeted(&mut self, router: &mut Option<Hello>, hello: Hello) {
        let version = hello.version.min(VERSION);
        self.statuses.send_modify(|status| status.link.protocol = Some(version));
        *router = Some(hello);
    }

    fn applied(&mut self, sent: &SentTable, applied: Applied) {
        let Applied { version, draining, failed, ignored } = applied;
        // An answer to an older table does not know the instances of a newer one.
        if version == sent.version {
            self.statuses.send_modify(|status| {
                status.link.table = version;
                status.link.ignored_by_router = ignored;
                status.failed = failed;
                status.active = sent.instances.iter().cloned().chain(draining).collect();
            });
        } else if version > sent.version {
            let latest = sent.version;
            tracing::error!(version, latest, "the router has a newer table than this server published");
        }
    }
}

/// The instances that may get requests by this table.
fn instances(table: &Table) -> HashSet<InstanceId> {
    let targets = table.services.iter().flat_map(|service| &service.targets);
    targets.map(|target| target.instance.clone()).collect()
}
