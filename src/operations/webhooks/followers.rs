//! The deploys that follow events.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// The deploys that follow events, one at a time for each webhook; cheap to clone.
#[derive(Debug, Clone)]
pub(in crate::operations) struct Followers {
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
    /// The webhooks whose deploy runs, and whether another one follows it.
    running: Arc<Mutex<HashMap<String, bool>>>,
}

impl Followers {
    /// Their deploys run on `tracker`, until `shutdown`.
    pub(in crate::operations) fn new(tracker: TaskTracker, shutdown: CancellationToken) -> Self {
        Self { tracker, shutdown, running: Arc::default() }
    }

    /// Whether a deploy is to be started for an event; otherwise one that runs is followed by another.
    pub(super) fn starts(&self, id: &str) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get_mut(id) {
            Some(again) => {
                *again = true;
                false
            }
            None => running.insert(id.to_owned(), false).is_none(),
        }
    }

    /// Whether a deploy that has ended is followed by another.
    pub(super) fn goes_on(&self, id: &str) -> bool {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        match running.get_mut(id) {
            Some(again) if *again => {
                *again = false;
                true
            }
            Some(_) | None => {
                running.remove(id);
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_during_a_deploy_are_one_more_deploy() {
        let followers = Followers::new(TaskTracker::new(), CancellationToken::new());
        assert!(followers.starts("a"));
        assert!(!followers.starts("a") && !followers.starts("a") && followers.starts("b"));
        assert!(followers.goes_on("a"), "one for both");
        assert!(!followers.goes_on("a"));
        assert!(followers.starts("a"));
    }
}
