//! What is to be done when the engine responds again: what could not be removed meanwhile can be.

use std::sync::{Mutex, PoisonError};

use super::handle::Containers;
use crate::periodic::Waker;

/// Who is woken when the engine responds again.
#[derive(Debug, Default)]
pub(super) struct Returns(Mutex<Vec<Waker>>);

impl Returns {
    pub(super) fn wake(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Waker::wake);
    }
}

impl Containers {
    /// A waker that is woken whenever the engine responds again after it did not, as it was stopped or killed. That is seen by who
    /// waits for [`exits`](Self::exits).
    pub fn returned(&self) -> Waker {
        let waker = Waker::default();
        self.0.shared.returns.0.lock().unwrap_or_else(PoisonError::into_inner).push(waker.clone());
        waker
    }
}
