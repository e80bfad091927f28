//! Notifications of container exits and of out-of-memory kills.

use std::{collections::HashMap, time::Duration};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;

use super::{container::ContainerState, handle::Containers, id::ContainerId, label::Kind};
use crate::periodic::Waker;

/// The exit of a container of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerExit {
    /// Id of the container.
    pub id: ContainerId,
    /// Name of the container: for an instance, the instance's id.
    pub name: String,
    /// Labels of the container, and `image`, which the engine adds.
    pub labels: HashMap<String, String>,
    /// Exit code.
    pub exit_code: i64,
}

/// Time between attempts to reconnect to the engine's event stream.
const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// A process was killed because its container was out of memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryKill {
    /// Name of the container.
    pub container: String,
    /// When the engine learnt of it, in nanoseconds since 1970: later kills have larger times.
    pub at: i64,
}

/// Reads the engine's reports of out-of-memory kills; see [`Containers::memory_kills`].
struct MemoryWatch {
    containers: Containers,
    kind: Kind,
    events: Option<stream::BoxStream<'static, Result<EventMessage, bollard::errors::Error>>>,
    /// Time from which past events are requested, in nanoseconds since 1970.
    since: i128,
}

struct ExitWatch {
    containers: Containers,
    kind: Kind,
    /// Exits that are not reported yet.
    pending: Vec<ContainerExit>,
    events: Option<stream::BoxStream<'static, Result<EventMessage, bollard::errors::Error>>>,
    /// Time from which past events are requested, in nanoseconds since 1970.
    since: i128,
    connected_before: bool,
}

impl Containers {
    /// All exits of containers of this kind from now on, each at least once. The stream never ends: if the engine stops, the stream waits
    /// until it responds again, and then reports the exits in between.
    pub fn exits(&self, kind: Kind) -> impl Stream<Item = ContainerExit> + Send + Unpin + use<> {
        let now = Timestamp::now();
        self.0.shared.outages.watch_from(now);
        let watch = ExitWatch {
            containers: self.clone(),
            kind,
            pending: Vec::new(),
            events: None,
            since: now.as_nanosecond(),
            connected_before: false,
        };
        Box::pin(stream::unfold(watch, |mut watch| async move {
            let exit = watch.next().await;
            Some((exit, watch))
        }))
    }
}

impl Containers {
    /// A waker that is woken whenever the engine responds again after it did not, as it was stopped or killed. That is seen by who
    /// waits for [`exits`](Self::exits).
    pub fn returned(&self) -> Waker {
        self.0.shared.outages.waker()
    }

    /// The kills of processes in containers of this kind by the kernel, because the container was out of memory: those that the
    /// engine remembers, and from now on. The stream never ends.
    pub fn memory_kills(&self, kind: Kind) -> impl Stream<Item = MemoryKill> + Send + Unpin + use<> {
        let watch = MemoryWatch { containers: self.clone(), kind, events: None, since: 0 };
        Box::pin(stream::unfold(watch, |mut watch| async move {
            let kill = watch.next().await;
            Some((kill, watch))
        }))
    }

    /// The engine's events of this name in containers of this kind, after a time in nanoseconds since 1970.
    fn events(
        &self,
        kind: Kind,
        event: &str,
        since: i128,
    ) -> stream::BoxStream<'static, Result<EventMessage, bollard::errors::Error>> {
        let mut filters = self.0.filter(Some(kind));
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), vec![event.to_owned()]);
        let since = format!("{}.{:09}", since / 1_000_000_000, since % 1_000_000_000);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        self.0.docker().events(Some(options)).boxed()
    }
}

impl MemoryWatch {
    async fn next(&mut self) -> MemoryKill {
        loop {
            let events = self.events.get_or_insert_with(|| self.containers.events(self.kind, "oom", self.since));
            let Some(Ok(event)) = events.next().await else {
                // The watch of exits logs that the engine does not respond.
                self.events = None;
                tokio::time::sleep(RETRY_INTERVAL).await;
                continue;
            };
            // After a reconnection, the event itself is not reported again.
            let at = event.time_nano.unwrap_or_default();
            self.since = self.since.max(i128::from(at) + 1);
            if let Some(container) = event.actor.and_then(|actor| actor.attributes?.remove("name")) {
                return MemoryKill { container, at };
            }
        }
    }
}

impl ExitWatch {
    async fn next(&mut self) -> ContainerExit {
        loop {
            if let Some(exit) = self.pending.pop() {
                return exit;
            }
            let Some(events) = &mut self.events else {
                self.connect().await;
                continue;
            };
            match events.next().await {
                Some(Ok(event)) => {
                    self.since = self.since.max(i128::from(event.time_nano.unwrap_or_default()));
                    self.pending.extend(read(event));
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, "lost the connection to Docker's events; reconnecting");
                    self.lost().await;
                }
                None => self.lost().await,
            }
        }
    }

    async fn lost(&mut self) {
        self.events = None;
        self.containers.0.shared.outages.begin();
        tokio::time::sleep(RETRY_INTERVAL).await;
    }

    async fn connect(&mut self) {
        // The engine stores few events, and loses them when it restarts: after a gap, exited containers are looked up.
        if self.connected_before {
            let Ok(containers) = self.containers.list(Some(self.kind)).await else {
                tokio::time::sleep(RETRY_INTERVAL).await;
                return;
            };
            let ended = containers.into_iter().filter(|container| container.state == ContainerState::Exited);
            self.pending.extend(ended.map(|container| ContainerExit {
                id: container.id,
                name: container.name,
                labels: container.labels,
                exit_code: container.exit_code.unwrap_or_default(),
            }));
            self.containers.0.shared.outages.end();
        }
        self.connected_before = true;
        self.events = Some(self.containers.events(self.kind, "die", self.since));
    }
}

fn read(event: EventMessage) -> Option<ContainerExit> {
    let actor = event.actor?;
    let mut labels = actor.attributes?;
    let exit_code = labels.remove("exitCode")?.parse().ok()?;
    Some(ContainerExit { id: ContainerId(actor.id?), name: labels.remove("name")?, labels, exit_code })
}
