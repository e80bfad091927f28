//! Running pushes, and how the server recognises the hook of each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
};

use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

use super::handler::ServedApp;
use crate::{
    git::{Reader, Repository},
    store::Actor,
};

/// One push, from the start of git until its last handler has ended; until then, the objects that it brought are not
/// collected.
#[derive(Debug)]
pub(super) struct Push {
    pub(super) repository: Repository,
    /// Reads the repository for the session and its handlers.
    pub(super) reader: Reader,
    pub(super) app: ServedApp,
    pub(super) pusher: Actor,
    pub(super) cancel: CancellationToken,
    /// Whether an update was rejected, so that there may be unreachable objects.
    pub(super) rejected: AtomicBool,
    /// Whether a ref was deleted.
    pub(super) deleted: AtomicBool,
    /// Whether the handler was asked; it records the push then.
    pub(super) asked: AtomicBool,
    /// Whether git has stored the whole pack and started the hook.
    pub(super) unpacked: AtomicBool,
    /// The session with its hook, and its handlers.
    pub(super) tasks: TaskTracker,
}

/// Pushes whose hook has not connected yet, by the hook's nonce.
#[derive(Debug, Default)]
pub(super) struct ExpectedPushes(Mutex<HashMap<String, Arc<Push>>>);

impl ExpectedPushes {
    /// Expects the hook of a push. Returns the nonce by which it will be recognised.
    pub(super) fn expect(&self, push: &Arc<Push>) -> String {
        let nonce = format!("{:032x}", rand::random::<u128>());
        self.lock().insert(nonce.clone(), Arc::clone(push));
        nonce
    }

    /// Expects the hook no longer.
    pub(super) fn forget(&self, nonce: &str) {
        self.lock().remove(nonce);
    }

    /// The push whose hook sent this nonce, with a token for the session. The token is taken under the lock, so that a
    /// push that ends at this moment either waits for the session or has none.
    pub(super) fn claim(&self, nonce: &[u8]) -> Option<(Arc<Push>, TaskTrackerToken)> {
        let nonce = std::str::from_utf8(nonce).ok()?;
        let mut expected = self.lock();
        let push = expected.remove(nonce.trim_end())?;
        let token = push.tasks.token();
        Some((push, token))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<Push>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
