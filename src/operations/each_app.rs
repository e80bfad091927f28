//! What was done to each of several apps.

use super::{
    context::Context,
    failure::{Failure, FailureKind, Result},
};
use crate::{model::AppName, store::App};

/// Results of an operation on one app or several. A failure does not keep the other apps from their turn; of a single
/// app, it is the failure of the whole.
pub(super) struct EachApp<'a, T> {
    context: &'a Context<'a>,
    total: usize,
    done: Vec<T>,
    failed: Vec<String>,
}

impl<'a, T> EachApp<'a, T> {
    /// For these apps, of which nothing is done yet.
    pub(super) fn new(context: &'a Context<'a>, apps: &[App]) -> Self {
        Self { context, total: apps.len(), done: Vec::new(), failed: Vec::new() }
    }

    /// Adds the result of one app. Fails if nothing is left to do.
    pub(super) async fn add(&mut self, name: AppName, result: Result<T>) -> Result {
        match result {
            Ok(result) => self.done.push(result),
            Err(failure) if self.total == 1 => return Err(failure),
            Err(failure) => {
                if !failure.reported {
                    self.context.progress.trouble(format!("{name}: {failure}")).await;
                }
                self.failed.push(name.to_string());
            }
        }
        if self.context.hangup.is_cancelled() {
            return Err(Failure::new(FailureKind::Failed, "cancelled: the client disconnected"));
        }
        Ok(())
    }

    /// The results, unless one failed.
    pub(super) fn finish(self) -> Result<Vec<T>> {
        if self.failed.is_empty() {
            return Ok(self.done);
        }
        let text = format!("{} of {} apps failed: {}", self.failed.len(), self.total, self.failed.join(", "));
        Err(Failure::new(FailureKind::Failed, text))
    }
}
