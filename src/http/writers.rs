//! Who changes which resource: changes with a precondition exclude each other.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::OwnedMutexGuard;

/// What keeps other changes with a precondition from the same resource, until it is dropped.
pub(super) type Writer = Option<OwnedMutexGuard<()>>;

/// The resources that a change with a precondition has: another such change of the same would undo its check.
#[derive(Default)]
pub(super) struct Writers(Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>);

impl Writers {
    /// Begins a change of a resource; `None` if another one is under way.
    pub(super) fn lock(&self, resource: String) -> Writer {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, lock| lock.strong_count() > 0);
        let lock = all.get(&resource).and_then(Weak::upgrade).unwrap_or_default();
        all.insert(resource, Arc::downgrade(&lock));
        lock.try_lock_owned().ok()
    }
}
