//! Entries that are written later, many in one transaction.

use tokio::sync::{broadcast, mpsc, oneshot};

use crate::store::{Effect, Event, EventId, NewEvent, Outcome, Store};

/// Maximum number of entries that wait; more are not recorded.
const MAX_WAITING: usize = 10_000;

/// Number of entries that wait from which no read is added, so that a flood of reads hides no change.
const MAX_WAITING_READS: usize = MAX_WAITING / 2;

/// Maximum number of entries of a transaction.
const MAX_BATCH: usize = 500;

/// Message of an interrupted operation.
const INTERRUPTED: &str = "the operation ended without a result";

/// The end of the queue to which entries are added. The other end is a task, which ends when this one is dropped.
pub(super) struct Queue(mpsc::Sender<Waiting>);

enum Waiting {
    /// An operation that has ended.
    Entry(Box<NewEvent>),
    /// An operation that began and is gone.
    Interrupted(EventId, Box<NewEvent>),
    /// Asks for an answer when all before it is written.
    Flush(oneshot::Sender<()>),
}

impl Queue {
    /// Starts to write to this store, and tells followers.
    pub(super) fn start(store: Store, followers: broadcast::Sender<Event>) -> Self {
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        tokio::spawn(write(store, followers, receiver));
        Self(sender)
    }

    pub(super) fn add(&self, event: NewEvent) {
        if event.effect == Effect::Read && self.0.max_capacity() - self.0.capacity() >= MAX_WAITING_READS {
            tracing::error!(operation = event.operation, "too many reads wait to be recorded: one is lost");
            return;
        }
        self.send(Waiting::Entry(Box::new(event)));
    }

    pub(super) fn interrupt(&self, id: EventId, event: NewEvent) {
        let event = event.ended(Outcome::Interrupted, Some(INTERRUPTED.to_owned()));
        self.send(Waiting::Interrupted(id, Box::new(event)));
    }

    fn send(&self, waiting: Waiting) {
        if self.0.try_send(waiting).is_err() {
            tracing::error!("too many entries of the audit log wait to be written: one is lost");
        }
    }

    /// Waits until all that was added before is written.
    pub(super) async fn flush(&self) {
        let (answer, answered) = oneshot::channel();
        if self.0.send(Waiting::Flush(answer)).await.is_ok() {
            let _ = answered.await;
        }
    }
}

async fn write(store: Store, followers: broadcast::Sender<Event>, mut queue: mpsc::Receiver<Waiting>) {
    let mut batch = Vec::with_capacity(MAX_BATCH);
    while queue.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let (mut entries, mut interrupted, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        for waiting in batch.drain(..) {
            match waiting {
                Waiting::Entry(event) => entries.push(*event),
                Waiting::Interrupted(id, event) => interrupted.push((id, *event)),
                Waiting::Flush(answer) => answers.push(answer),
            }
        }
        let mut written = add(&store, entries).await;
        for (id, event) in interrupted {
            written.push(complete(&store, id, event).await);
        }
        for event in written {
            // Without a follower there is nobody to tell.
            let _ = followers.send(event);
        }
        for answer in answers {
            let _ = answer.send(());
        }
    }
}

async fn add(store: &Store, entries: Vec<NewEvent>) -> Vec<Event> {
    if entries.is_empty() {
        return Vec::new();
    }
    match store.add_events(entries.clone()).await {
        Ok(ids) => ids.into_iter().zip(entries).map(|(id, event)| event.recorded(id)).collect(),
        Err(error) => {
            tracing::error!(%error, lost = entries.len(), "cannot write entries of the audit log");
            Vec::new()
        }
    }
}

/// Writes the end of an entry that was begun.
pub(super) async fn complete(store: &Store, id: EventId, event: NewEvent) -> Event {
    if let Err(error) = store.end_event(id, event.clone()).await {
        tracing::error!(%error, operation = event.operation, "cannot complete an entry of the audit log");
    }
    event.recorded(id)
}
