//! The caller's standard streams, for operations that connect a task to them.

use std::sync::{Mutex, PoisonError};

use super::failure::{Failure, Result};
use crate::tasks::TaskStreams;

/// The standard streams that a door offers; at most one operation takes them.
pub struct Attachment(Mutex<Option<Box<dyn FnOnce() -> TaskStreams + Send>>>);

impl Attachment {
    /// `take` is called when an operation takes the streams: from then on they are the task's.
    pub fn new(take: impl FnOnce() -> TaskStreams + Send + 'static) -> Self {
        Self(Mutex::new(Some(Box::new(take))))
    }

    pub(super) fn take(&self) -> Result<TaskStreams> {
        let take = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        take.map(|take| take()).ok_or_else(no_streams)
    }
}

impl std::fmt::Debug for Attachment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Attachment")
    }
}

/// The door has no standard streams.
pub(super) fn no_streams() -> Failure {
    Failure::invalid("this needs standard input and output; use ssh, or run:detached")
}
