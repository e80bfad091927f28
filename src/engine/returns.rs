//! What is to be done when the engine responds again: what could not be removed meanwhile can be.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::periodic::Waker;

/// Who is woken when the engine responds again.
#[derive(Debug, Default)]
pub(super) struct Returns(Mutex<Vec<Waker>>);

impl Returns {
    /// A waker that is woken from now on.
    pub(super) fn waker(&self) -> Waker {
        let waker = Waker::default();
        self.lock().push(waker.clone());
        waker
    }

    pub(super) fn wake(&self) {
        self.lock().iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Waker>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
