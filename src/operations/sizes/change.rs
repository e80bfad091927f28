//! A change of a size, and the restart that makes it effective.

use std::collections::BTreeMap;

use crate::{
    model::{PartialSize, ProcessType, SizeTarget},
    operations::{
        context::Context,
        failure::{Failure, FailureKind, Result},
        ps,
    },
    store::{App, AppSizes, SizeChange, SizeKind},
};

/// A change of the size of a target. What is set for a part of it that is not given stays; an empty size clears it.
pub(super) struct Change {
    pub(super) target: SizeTarget,
    pub(super) kind: SizeKind,
    pub(super) size: PartialSize,
}

impl Change {
    /// Makes it, and restarts the instances whose size it changes, if `restart`. If these fail, the old size is put back.
    pub(super) async fn apply(self, context: &Context<'_>, app: &App, restart: bool) -> Result {
        let Self { target, kind, size } = &self;
        let unknown = match target {
            SizeTarget::Type(name) => ps::unknown_type(context, app, std::iter::once(name)).await?,
            SizeTarget::Instances | SizeTarget::Tasks | SizeTarget::Builds => None,
        };
        // What was set for a process type that the app no longer has can be cleared.
        if let Some(unknown) = unknown.filter(|_| !size.is_empty()) {
            return Err(Failure::not_found(unknown));
        }
        if let Some(reason) = context.store.capacity().and_then(|capacity| capacity.too_large(*size)) {
            return Err(Failure::new(FailureKind::TooMany, reason));
        }
        let before = context.store.sizes(app.id, *kind).await?;
        let change = context.store.change_size(app.id, *kind, target.clone(), *size).await?;
        if change.before == change.after {
            let text = if size.is_empty() { "no change: no size is set" } else { "no change: the size is already set" };
            context.progress.detail(text).await;
            return Ok(());
        }
        match target {
            SizeTarget::Instances | SizeTarget::Type(_) => {}
            SizeTarget::Tasks => {
                context.progress.detail("the change takes effect with the next task").await;
                return Ok(());
            }
            SizeTarget::Builds => {
                context.progress.detail("the change takes effect with the next build").await;
                return Ok(());
            }
        }
        if !restart || app.current.is_none() || app.stopped {
            context.progress.detail("the change takes effect when instances are started").await;
            return Ok(());
        }
        let after = context.store.sizes(app.id, *kind).await?;
        let formation = ps::formation(context, app).await?;
        let restarts = restarts(&formation, |name| self.differs(context, &before, &after, name));
        if restarts.is_empty() {
            context.progress.detail("no instance that runs has another size now, so none is restarted").await;
            return Ok(());
        }
        self.restart(context, app, &restarts, change).await
    }

    /// Whether instances of a process type had another size `before` than they are to have `after`.
    fn differs(&self, context: &Context<'_>, before: &AppSizes, after: &AppSizes, name: &ProcessType) -> bool {
        let target = SizeTarget::Type(name.clone());
        let default = context.store.default_size();
        match self.kind {
            SizeKind::Limit => before.size(&target, default) != after.size(&target, default),
            SizeKind::Reserve => before.set_for(&target) != after.set_for(&target),
        }
    }

    /// Restarts. If nothing could be restarted, takes back the change; once some instances have the new size, it stays.
    async fn restart(
        &self,
        context: &Context<'_>,
        app: &App,
        restarts: &[Option<ProcessType>],
        change: SizeChange,
    ) -> Result {
        for (done, process_type) in restarts.iter().enumerate() {
            let process_type = process_type.as_ref();
            let why = format!("The size has changed: restarting {}", ps::instances_named(app, process_type));
            let Err(failure) = ps::renew(context, app, process_type, why).await else { continue };
            let text = if done > 0 {
                "the new size is set, and instances that were not restarted get it when they are started the next time"
                    .to_owned()
            } else {
                match context.store.undo_size_change(app.id, self.kind, self.target.clone(), change).await {
                    Ok(()) => "the size is as it was before; --no-restart sets it without a restart".to_owned(),
                    Err(error) => format!("the new size is set all the same: {error}"),
                }
            };
            context.progress.trouble(text).await;
            return Err(failure);
        }
        Ok(())
    }
}

/// The restarts that replace the instances of the process types that changed: of everything, or of single ones.
fn restarts(
    formation: &BTreeMap<ProcessType, u32>,
    changed: impl Fn(&ProcessType) -> bool,
) -> Vec<Option<ProcessType>> {
    let running = formation.iter().filter(|(_, quantity)| **quantity > 0).map(|(name, _)| name.clone());
    let (changed, others): (Vec<_>, Vec<_>) = running.partition(changed);
    // One restart of all succeeds or fails as a whole.
    let all = others.is_empty() && changed.len() > 1;
    if all { vec![None] } else { changed.into_iter().map(Some).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_process_types_that_run_and_change_are_restarted() {
        let formation =
            [("clock", 0), ("web", 2), ("worker", 1)].map(|(name, quantity)| (name.parse().unwrap(), quantity));
        let restarted = |changed: &[&str]| {
            let restarts = restarts(&formation.clone().into(), |name| changed.contains(&name.as_str()));
            restarts.into_iter().map(|name| name.map_or("all".to_owned(), String::from)).collect::<Vec<_>>()
        };
        assert_eq!(restarted(&["web"]), ["web"]);
        assert_eq!(restarted(&["clock", "worker"]), ["worker"]);
        assert_eq!(restarted(&["clock", "web", "worker"]), ["all"]);
        assert_eq!(restarted(&["clock"]), [""; 0]);
    }
}
