//! A change of a size, and the restart that makes it effective.

use crate::{
    model::{PartialSize, SizeTarget},
    operations::{
        context::Context,
        failure::{Failure, FailureKind, Result},
        ps,
    },
    store::{App, SizeKind},
};

/// A change of the size of a target. What is set for a part of it that is not given stays; an empty size clears it.
pub(super) struct Change {
    pub(super) target: SizeTarget,
    pub(super) kind: SizeKind,
    pub(super) size: PartialSize,
}

impl Change {
    /// Makes it, and restarts the instances that have the size, if `restart`. If these fail, the old size is put back.
    pub(super) async fn apply(self, context: &Context<'_>, app: &App, restart: bool) -> Result {
        let Self { target, kind, size } = self;
        let unknown = match &target {
            SizeTarget::Type(name) => ps::unknown_type(context, app, std::iter::once(name)).await?,
            SizeTarget::Instances | SizeTarget::Tasks | SizeTarget::Builds => None,
        };
        // What was set for a process type that the app no longer has can be cleared.
        let is_known = unknown.is_none();
        if let Some(unknown) = unknown.filter(|_| !size.is_empty()) {
            return Err(Failure::not_found(unknown));
        }
        if let Some(reason) = context.store.capacity().and_then(|capacity| capacity.too_large(size)) {
            return Err(Failure::new(FailureKind::TooMany, reason));
        }
        let change = context.store.change_size(app.id, kind, target.clone(), size).await?;
        if change.before == change.after {
            let text = if size.is_empty() { "no change: no size is set" } else { "no change: the size is already set" };
            context.progress.detail(text).await;
            return Ok(());
        }
        let process_type = match &target {
            SizeTarget::Instances => None,
            SizeTarget::Type(name) => Some(name),
            SizeTarget::Tasks => {
                context.progress.detail("the change takes effect with the next task").await;
                return Ok(());
            }
            SizeTarget::Builds => {
                context.progress.detail("the change takes effect with the next build").await;
                return Ok(());
            }
        };
        if !restart || !is_known || app.current.is_none() || app.stopped {
            context.progress.detail("the change takes effect when instances are started").await;
            return Ok(());
        }
        let why = format!("The size has changed: restarting {}", app.name);
        if let Err(failure) = ps::renew(context, app, process_type, why).await {
            let text = match context.store.undo_size_change(app.id, kind, target, change).await {
                Ok(()) => "the size is as it was before; --no-restart sets it without a restart".to_owned(),
                Err(error) => format!("the new size is set all the same: {error}"),
            };
            context.progress.trouble(text).await;
            return Err(failure);
        }
        Ok(())
    }
}
