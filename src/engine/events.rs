//! Exits of containers, as they happen.

use std::{collections::HashMap, time::Duration};

use bollard::{models::EventMessage, query_parameters::EventsOptionsBuilder};
use futures_util::{Stream, StreamExt, stream};
use jiff::Timestamp;

use super::{ContainerId, Engine, Kind, State};

/// The end of a container of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerExit {
    /// The engine's id.
    pub id: ContainerId,
    /// Its name: for an instance, the instance's id.
    pub name: String,
    /// All its labels (and, from the engine, `image`).
    pub labels: HashMap<String, String>,
    /// How it ended.
    pub exit_code: i64,
}

/// The wait before the engine is asked again after it went away.
const RETRY: Duration = Duration::from_millis(500);

struct Watch {
    engine: Engine,
    /// What is known already and not yet told.
    pending: Vec<ContainerExit>,
    events: Option<stream::BoxStream<'static, Result<EventMessage, bollard::errors::Error>>>,
    /// From where the engine's memory is asked for, in nanoseconds.
    since: i128,
    connected_before: bool,
}

impl Engine {
    /// Each exit of an instance at least once, from now on. The stream never ends: when the engine goes away, it waits
    /// until it is back, and tells what ended meanwhile. An exit may be told twice.
    pub fn exits(&self) -> impl Stream<Item = ContainerExit> + Send + Unpin + use<> {
        let watch = Watch {
            engine: self.clone(),
            pending: Vec::new(),
            events: None,
            since: Timestamp::now().as_nanosecond(),
            connected_before: false,
        };
        Box::pin(stream::unfold(watch, |mut watch| async move {
            let exit = watch.next().await;
            Some((exit, watch))
        }))
    }
}

impl Watch {
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
                    tracing::warn!(%error, "lost Docker's events; asking again");
                    self.events = None;
                    tokio::time::sleep(RETRY).await;
                }
                None => {
                    self.events = None;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }

    async fn connect(&mut self) {
        // The engine remembers few events, and none across its own restart: after a gap what has ended is looked up.
        if self.connected_before {
            let Ok(containers) = self.engine.list(Some(Kind::Instance)).await else {
                tokio::time::sleep(RETRY).await;
                return;
            };
            let ended = containers.into_iter().filter(|container| container.state == State::Exited);
            self.pending.extend(ended.map(|container| ContainerExit {
                id: container.id,
                name: container.name,
                labels: container.labels,
                exit_code: container.exit_code.unwrap_or_default(),
            }));
        }
        self.connected_before = true;
        let mut filters = self.engine.filter(Some(Kind::Instance));
        filters.insert("type".to_owned(), vec!["container".to_owned()]);
        filters.insert("event".to_owned(), vec!["die".to_owned()]);
        let since = format!("{}.{:09}", self.since / 1_000_000_000, self.since % 1_000_000_000);
        let options = EventsOptionsBuilder::new().since(&since).filters(&filters).build();
        self.events = Some(self.engine.docker().events(Some(options)).boxed());
    }
}

fn read(event: EventMessage) -> Option<ContainerExit> {
    let actor = event.actor?;
    let mut labels = actor.attributes?;
    let exit_code = labels.remove("exitCode")?.parse().ok()?;
    Some(ContainerExit { id: ContainerId(actor.id?), name: labels.remove("name")?, labels, exit_code })
}
