//! The audit log itself, and the entry of an operation that runs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;

use super::queue::{self, Queue};
use crate::{
    model::AppName,
    operations::failure::Result,
    periodic::{Activated, Periodic},
    store::{AppId, Event, EventId, Millis, NewEvent, Outcome, Store, now},
};
/// Number of events by which a follower may lag before it is ended.
const MAX_FOLLOWER_LAG: usize = 1024;

/// Time between two removals of old events.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// Maximum number of events that are kept, about 300 MB.
const MAX_KEPT_EVENTS: u32 = 1_000_000;

/// Maximum length of the detail and of the message of an event, in characters.
pub(super) const MAX_TEXT_CHARS: usize = 1000;

/// Name of the operation that switches the log on.
pub(in crate::operations) const SWITCH_ON: &str = "events:on";
/// Name of the operation that switches it off.
pub(in crate::operations) const SWITCH_OFF: &str = "events:off";

/// The audit log; cheap to clone.
#[derive(Clone)]
pub struct AuditLog(Arc<Log>);

struct Log {
    store: Store,
    is_on: AtomicBool,
    followers: broadcast::Sender<Event>,
    queue: Queue,
}

/// The entry of an operation that has begun. One that is dropped before its end was recorded is recorded as interrupted.
#[must_use]
pub(in crate::operations) struct Entry {
    log: AuditLog,
    /// None once the end is recorded, and while the log is switched off.
    begun: Option<(EventId, NewEvent)>,
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AuditLog")
    }
}

impl AuditLog {
    /// The log of this store.
    pub async fn open(store: Store) -> Result<Self> {
        let is_on = AtomicBool::new(store.events_are_on().await?);
        let followers = broadcast::Sender::new(MAX_FOLLOWER_LAG);
        let queue = Queue::start(store.clone(), followers.clone());
        Ok(Self(Arc::new(Log { store, is_on, followers, queue })))
    }

    /// Records an operation that has ended and changed nothing. It is written later, in the order of the calls, so that
    /// a read waits for no write; what cannot be written is told in the server's log only.
    pub(in crate::operations) fn record(&self, event: NewEvent) {
        if self.records(&event) {
            self.0.queue.add(clipped(event));
        }
    }

    /// Records an operation that begins.
    ///
    /// # Errors
    ///
    /// If the entry cannot be written: nothing is changed without one.
    pub(in crate::operations) async fn begin(&self, event: NewEvent) -> Result<Entry> {
        let mut entry = Entry { log: self.clone(), begun: None };
        if self.records(&event) {
            let event = clipped(event);
            let id = self.0.store.add_event(event.clone()).await?;
            entry.begun = Some((id, event));
        }
        Ok(entry)
    }

    /// Records operations that begin together, in one transaction.
    ///
    /// # Errors
    ///
    /// As [`Self::begin`].
    pub(in crate::operations) async fn begin_all(&self, events: Vec<NewEvent>) -> Result<Vec<Entry>> {
        if !events.iter().any(|event| self.records(event)) {
            return Ok(events.into_iter().map(|_| Entry { log: self.clone(), begun: None }).collect());
        }
        let events: Vec<_> = events.into_iter().map(clipped).collect();
        let ids = self.0.store.add_events(events.clone()).await?;
        Ok(ids.into_iter().zip(events).map(|begun| Entry { log: self.clone(), begun: Some(begun) }).collect())
    }

    /// Waits until all that was recorded so far is written.
    pub async fn flush(&self) {
        self.0.queue.flush().await;
    }

    /// Events that end from now on.
    pub(in crate::operations) fn follow(&self) -> broadcast::Receiver<Event> {
        self.0.followers.subscribe()
    }

    /// Switches recording on or off.
    pub(in crate::operations) async fn switch(&self, on: bool) -> Result {
        self.0.store.set_events_on(on).await?;
        self.0.is_on.store(on, Ordering::Release);
        Ok(())
    }

    /// That the log is switched is recorded even while it is off.
    fn records(&self, event: &NewEvent) -> bool {
        self.0.is_on.load(Ordering::Acquire) || [SWITCH_ON, SWITCH_OFF].contains(&event.operation.as_str())
    }
}

/// Removes events that are older than this many days, and the oldest if there are too many.
pub struct EventSweep {
    /// The store of the events.
    pub store: Store,
    /// Days after which an event is removed.
    pub keep_days: u32,
}

impl Periodic for EventSweep {
    fn name(&self) -> &'static str {
        "old-events"
    }

    fn period(&self) -> Duration {
        SWEEP_INTERVAL
    }

    fn at_start(&self) -> bool {
        true
    }

    async fn activate(&self) -> std::result::Result<Activated, String> {
        let age = Millis::from(self.keep_days) * 24 * 60 * 60 * 1000;
        match self.store.remove_old_events(now() - age, MAX_KEPT_EVENTS).await {
            Ok(0) => Ok(Activated::default()),
            Ok(removed) => Ok(Activated::did(format!("removed {removed} old events from the audit log"))),
            Err(error) => Err(error.to_string()),
        }
    }
}

impl Entry {
    /// Tells which app the operation was about, which was not known when it began.
    pub(super) fn about(&mut self, app: AppId, name: AppName) {
        self.begun = self.begun.take().map(|(id, event)| (id, event.about(app, name)));
    }

    /// Records how the operation ended.
    pub(in crate::operations) async fn end(mut self, (outcome, message): Ending) {
        let Some((id, event)) = self.begun.take() else { return };
        let event = clipped(event.ended(outcome, message));
        let event = queue::complete(&self.log.0.store, id, event).await;
        // Without a follower there is nobody to tell.
        let _ = self.log.0.followers.send(event);
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some((id, event)) = self.begun.take() {
            self.log.0.queue.interrupt(id, event);
        }
    }
}

/// How an operation ended: the outcome, and the message that the caller was shown.
pub(in crate::operations) type Ending = (Outcome, Option<String>);

/// How an operation with this result ended.
pub(in crate::operations) fn outcome_of<T>(result: &Result<T>) -> Ending {
    match result {
        Ok(_) => (Outcome::Succeeded, None),
        Err(failure) => (failure.kind.outcome(), Some(failure.to_string())),
    }
}

fn clipped(event: NewEvent) -> NewEvent {
    NewEvent { detail: clip(event.detail), message: event.message.map(clip), ..event }
}

fn clip(text: String) -> String {
    match text.char_indices().nth(MAX_TEXT_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
