//! The audit log: who did what, when, on what, and how it ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::failure::Result;
use crate::store::{Event, EventId, Millis, NewEvent, Outcome, Store, now};

/// Number of events by which a follower may lag before it misses some.
const MAX_FOLLOWER_LAG: usize = 1024;

/// Time between two removals of old events.
const SWEEP_INTERVAL: Duration = Duration::from_hours(24);

/// Operations that are recorded even while the audit log is switched off.
const ALWAYS_RECORDED: [&str; 2] = ["events:on", "events:off"];

/// The audit log; cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<Log>);

struct Log {
    store: Store,
    is_on: AtomicBool,
    followers: broadcast::Sender<Event>,
}

/// The entry of an operation that has begun.
#[must_use]
pub struct BegunEvent(Option<(EventId, Millis, NewEvent)>);

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditLog")
    }
}

impl AuditLog {
    /// The log of this store.
    pub async fn open(store: Store) -> Result<Self> {
        let is_on = AtomicBool::new(store.events_are_on().await?);
        Ok(Self(Arc::new(Log { store, is_on, followers: broadcast::Sender::new(MAX_FOLLOWER_LAG) })))
    }

    /// Records an operation that has ended.
    pub(super) async fn record(&self, event: NewEvent) -> Result {
        if !self.records(&event) {
            return Ok(());
        }
        let id = self.0.store.add_event(event.clone()).await?;
        self.tell(id, now(), event);
        Ok(())
    }

    /// Records an operation that begins.
    pub(super) async fn begin(&self, event: NewEvent) -> Result<BegunEvent> {
        if !self.records(&event) {
            return Ok(BegunEvent(None));
        }
        let id = self.0.store.add_event(NewEvent { outcome: Outcome::Running, ..event.clone() }).await?;
        Ok(BegunEvent(Some((id, now(), event))))
    }

    /// Records how an operation ended.
    pub(super) async fn end(&self, begun: BegunEvent, outcome: Outcome, message: Option<String>) {
        let Some((id, at, event)) = begun.0 else { return };
        if let Err(error) = self.0.store.end_event(id, None, outcome, message.clone()).await {
            tracing::error!(%error, operation = event.operation, "cannot complete an entry of the audit log");
        }
        self.tell(id, at, NewEvent { outcome, message, ..event });
    }

    /// Events that end from now on.
    pub(super) fn follow(&self) -> broadcast::Receiver<Event> {
        self.0.followers.subscribe()
    }

    /// Switches recording on or off.
    pub(super) async fn switch(&self, on: bool) -> Result {
        self.0.store.set_events_on(on).await?;
        self.0.is_on.store(on, Ordering::Release);
        Ok(())
    }

    /// Removes events that are older than this many days, until `stop`.
    pub async fn remove_old_events(self, keep_days: u32, stop: CancellationToken) {
        loop {
            let age = Millis::from(keep_days) * 24 * 60 * 60 * 1000;
            match self.0.store.remove_events_before(now() - age).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed old events from the audit log"),
                Err(error) => tracing::error!(%error, "cannot remove old events from the audit log"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_none() {
                return;
            }
        }
    }

    fn records(&self, event: &NewEvent) -> bool {
        self.0.is_on.load(Ordering::Acquire) || ALWAYS_RECORDED.contains(&event.operation.as_str())
    }

    fn tell(&self, id: EventId, at: Millis, event: NewEvent) {
        let NewEvent { actor, operation, effect, app, app_name, detail, outcome, message } = event;
        let ended_at = Some(now());
        let event = Event { id, at, actor, operation, effect, app, app_name, detail, outcome, message, ended_at };
        // Without a follower there is nobody to tell.
        let _ = self.0.followers.send(event);
    }
}
