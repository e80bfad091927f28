//! The audit log: who did what, when, on what, and how it ended.

mod queue;
mod recording;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;

use super::{
    events::{SwitchEventsOff, SwitchEventsOn},
    failure::{Failure, FailureKind, Result},
    operation::Operation as _,
};
use crate::{
    model::AppName,
    store::{AppId, Event, EventId, Millis, NewEvent, Outcome, Store, now},
};
use queue::Queue;

pub(super) use recording::Recording;

/// Number of events by which a follower may lag before it is ended.
const MAX_FOLLOWER_LAG: usize = 1024;

/// Time between two removals of old events.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// Maximum number of events that are kept, about 300 MB.
const MAX_EVENTS: u32 = 1_000_000;

/// Maximum length of the detail and of the message of an event, in characters.
const MAX_TEXT_CHARS: usize = 1000;

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
pub(super) struct Entry {
    log: AuditLog,
    /// None once the end is recorded, and while the log is switched off.
    begun: Option<(EventId, Millis, NewEvent)>,
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
    pub(super) fn record(&self, event: NewEvent) {
        if self.records(&event) {
            self.0.queue.add(clipped(event));
        }
    }

    /// Records an operation that begins.
    ///
    /// # Errors
    ///
    /// If the entry cannot be written: nothing is changed without one.
    pub(super) async fn begin(&self, event: NewEvent) -> Result<Entry> {
        let mut entry = Entry { log: self.clone(), begun: None };
        if self.records(&event) {
            let event = clipped(NewEvent { outcome: Outcome::Running, ..event });
            let id = self.0.store.add_event(event.clone()).await?;
            entry.begun = Some((id, now(), event));
        }
        Ok(entry)
    }

    /// Waits until all that was recorded so far is written.
    pub(super) async fn flush(&self) {
        self.0.queue.flush().await;
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

    /// Removes events that are older than this many days, and the oldest if there are too many, until `stop`.
    pub async fn remove_old_events(self, keep_days: u32, stop: CancellationToken) {
        loop {
            let age = Millis::from(keep_days) * 24 * 60 * 60 * 1000;
            match self.0.store.remove_old_events(now() - age, MAX_EVENTS).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "removed old events from the audit log"),
                Err(error) => tracing::error!(%error, "cannot remove old events from the audit log"),
            }
            if stop.run_until_cancelled(tokio::time::sleep(SWEEP_INTERVAL)).await.is_none() {
                self.flush().await;
                return;
            }
        }
    }

    /// That the log is switched is recorded even while it is off.
    fn records(&self, event: &NewEvent) -> bool {
        let switches = [SwitchEventsOn::NAME, SwitchEventsOff::NAME];
        self.0.is_on.load(Ordering::Acquire) || switches.contains(&event.operation.as_str())
    }
}

impl Entry {
    /// Records how the operation ended, and which app it was about if that was not known when it began.
    pub(super) async fn end(mut self, app: Option<(AppId, AppName)>, outcome: Outcome, message: Option<String>) {
        let Some((id, at, event)) = self.begun.take() else { return };
        let message = message.map(clip);
        if let Err(error) = self.log.0.store.end_event(id, app.clone(), outcome, message.clone()).await {
            tracing::error!(%error, operation = event.operation, "cannot complete an entry of the audit log");
        }
        let (app, app_name) = app.map_or((event.app, event.app_name.clone()), |(id, name)| (Some(id), Some(name)));
        let event = NewEvent { app, app_name, outcome, message, ..event };
        // Without a follower there is nobody to tell.
        let _ = self.log.0.followers.send(event.recorded(id, at, Some(now())));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some((id, at, event)) = self.begun.take() {
            self.log.0.queue.interrupt(id, at, event);
        }
    }
}

/// The outcome of a result, and the message that the caller is shown.
pub(super) fn outcome_of<T>(result: &Result<T>) -> (Outcome, Option<String>) {
    match result {
        Ok(_) => (Outcome::Succeeded, None),
        Err(failure) => (outcome_of_failure(failure), Some(failure.to_string())),
    }
}

fn outcome_of_failure(failure: &Failure) -> Outcome {
    if failure.kind == FailureKind::Internal {
        tracing::error!(error = %failure, "an operation failed");
    }
    failure.kind.outcome()
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

#[cfg(test)]
mod tests;
