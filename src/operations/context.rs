//! What operations get besides their input.

use tokio_util::sync::CancellationToken;

use super::{
    attachment::Attachment,
    audit::{AuditLog, Recording},
    caller::Caller,
    failure::{Failure, FailureKind, Result},
};
use crate::{
    config::Config,
    deploy::Deployer,
    instances::Instances,
    model::Right,
    periodic::Driver,
    progress::Progress,
    receive::Imports,
    store::{App, Release, Store},
    tasks::Tasks,
    workload::Openings,
};

/// One call of an operation, as a door makes it.
#[derive(Clone, Copy)]
pub struct Call<'a> {
    /// Who calls.
    pub caller: &'a Caller,
    /// Where the lines of progress go.
    pub progress: &'a Progress,
    /// The caller's standard streams, if the door has some.
    pub attachment: Option<&'a Attachment>,
    /// Cancelled when the caller disconnects.
    pub hangup: &'a CancellationToken,
}

/// What an operation acts on, and its call.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a Store,
    pub(super) deployer: &'a Deployer,
    pub(super) instances: &'a Instances,
    pub(super) tasks: &'a Tasks,
    pub(super) driver: &'a Driver,
    pub(super) openings: &'a Openings,
    pub(super) imports: &'a Imports,
    pub(super) audit: &'a AuditLog,
    /// How this operation is recorded.
    pub(super) recording: &'a Recording,
    pub(super) caller: &'a Caller,
    /// The highest right that the caller has on the target.
    pub(super) held: Right,
    pub(super) progress: &'a Progress,
    pub(super) attachment: Option<&'a Attachment>,
    pub(super) hangup: &'a CancellationToken,
}

/// A right that a certain input needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Requirement {
    /// The right.
    pub right: Right,
    /// Message for a caller who does not have it, and what to do.
    pub reason: String,
}

impl Context<'_> {
    /// Refuses a caller who has not the right that a certain input needs.
    pub(super) fn require(&self, needed: Option<Requirement>) -> Result {
        match needed {
            Some(Requirement { right, reason }) if self.held < right => Err(Failure::new(FailureKind::Denied, reason)),
            _ => Ok(()),
        }
    }

    /// The current release of an app, if it has one.
    pub(super) async fn current_release(&self, app: &App) -> Result<Option<Release>> {
        match app.current {
            Some(current) => Ok(self.store.release(app.id, current.release).await?),
            None => Ok(None),
        }
    }
}
