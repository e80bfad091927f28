//! The whole push, from top to bottom: source, build, release, instances, ref. Only this module knows the order of the
//! stages, which do not name each other. Operations without a push (config vars, rollback, destroying an app) have
//! files of their own.

mod apps;
mod build_caches;
mod build_log;
mod build_settings;
mod buildpack_choice;
mod buildpack_library;
mod checkout;
mod deploy_ref;
mod deployer;
mod disk_use;
mod error;
mod failure;
mod foreign_files;
mod garbage;
mod gc;
mod gc_lock;
mod image;
mod locks;
mod manifests;
mod offers;
mod owner_use;
mod ports;
mod rebase;
mod rebuild;
mod recover;
mod refs;
mod release;
mod release_phase;
mod releases;
mod rollout;
mod stack_schedule;
mod stacks;
mod stored_refs;
mod written;

pub use buildpack_choice::BuildpackPosition;
pub use buildpack_library::BuildpackLibrary;
pub use deployer::Deployer;
pub use disk_use::{DiskKind, DiskUse};
pub use error::DeployError;
pub use garbage::{Collect, Garbage, GarbageKind};
pub use gc::GarbageCollection;
pub use offers::Offers;
pub use owner_use::OwnerDiskUse;
pub use ports::Ports;
pub use rebase::Rebased;
pub use rebuild::DeployBranchState;
pub use releases::ConfigChange;
pub use stack_schedule::StackUpdates;
pub use stacks::{StackStatus, Stacks};
pub use written::WrittenFiles;

use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

use crate::{
    git::{Reader, RefChange},
    instances::RolloutError,
    model::RefName,
    pause,
    progress::Progress,
    receive::RequestedPush,
    store::{App, ReleaseKind},
};
use checkout::Checkout;
use deploy_ref::unpin;
use gc::CollectAtEnd;
use image::Reuse;
use locks::Work;
use refs::{Deployment, RefPlan};
use release::ReleaseOrigin;

impl Deployer {
    /// Does what a push asks for, and sets the refs itself; `reader` reads the app's repository. A push past its commit point
    /// completes even if `cancel` is cancelled. Returns a result for each update, in their order, or the error of all.
    pub async fn push(
        &self,
        push: &RequestedPush,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<Vec<Result<(), DeployError>>, DeployError> {
        let this = &self.0;
        let work = this.pushes.begin(push.app.id, &cancel);
        if push.updates.iter().all(|update| update.new.is_none() || update.name.branch().is_none()) {
            work.builds_nothing();
        }
        let (_lock, app, mut plan) = match self.begin_push(push, reader, progress, &work).await {
            Ok(begun) => begun,
            Err(error) => return work.end(Err(error)),
        };
        let deployed = if let Some(deployment) = plan.deployment() {
            let deploy = self.deploy_and_set_ref(&app, reader, &deployment, &push.pusher.name, progress, &work);
            this.pushes.unless_destroyed(app.id, work.cancel(), deploy).await
        } else {
            work.builds_nothing();
            Ok(())
        };
        let deployed = work.end(deployed).inspect_err(|error| {
            tracing::info!(app = %app.name, %error, "push rejected");
        });
        if deployed.is_err() && cancel.is_cancelled() {
            plan.refuse_stored(DeployError::Cancelled);
        } else {
            plan.store_refs(&this.repositories.get(&app.name), deployed.is_ok()).await;
        }
        self.report_stored(&app, &plan, deployed.is_ok(), reader, progress).await;
        Ok(plan.results(deployed))
    }

    /// Takes the app's push lock, and decides the updates of a push.
    async fn begin_push<'a>(
        &self,
        push: &'a RequestedPush,
        reader: &Reader,
        progress: &Progress,
        work: &Work,
    ) -> Result<(OwnedMutexGuard<()>, App, RefPlan<'a>), DeployError> {
        let this = &self.0;
        let lock = this.pushes.lock(push.app.id, progress, work.cancel()).await?;
        // Read under the lock: an operation that held it before may have changed or destroyed the app.
        let app = this.store.app(push.app.id).await?.filter(|app| !app.destroying);
        let app = app.ok_or(DeployError::Rollout(RolloutError::Gone))?;
        let names: Vec<_> = push.updates.iter().map(|update| update.name.clone()).collect();
        let states = reader.ref_states(&names).await?;
        let plan = RefPlan::new(&app, push, &states);
        Ok((lock, app, plan))
    }

    async fn deploy_and_set_ref(
        &self,
        app: &App,
        reader: &Reader,
        deployment: &Deployment<'_>,
        by: &str,
        progress: &Progress,
        work: &Work,
    ) -> Result<(), DeployError> {
        let Deployment { branch, old, new, with_it } = deployment;
        let repository = &self.0.repositories.get(&app.name);
        // No branch names the commit before the commit point, but it must not be collected if the server dies after it.
        repository.pin_commit(new, with_it).await?;
        let deployed = self.deploy(app, reader, deployment, by, progress, work).await;
        // The database decides whether the release is live: an error may have occurred after the commit point.
        let newest = self.0.store.newest_push(app.id).await?;
        let live = newest.filter(|newest| !newest.ref_set && newest.commit == **new && newest.branch == **branch);
        let Some(release) = live else {
            // While the server shuts down, the rollout may still commit: then the next start lets the commit go.
            if !self.0.shutdown.is_cancelled() {
                unpin(app, repository).await;
            }
            return deployed;
        };
        if let Err(error) = deployed {
            tracing::warn!(app = %app.name, %error, "the release is live in spite of an error");
        }
        pause::at("before-ref").await;
        let name = RefName::from((*branch).clone());
        let mut changes = vec![RefChange { name: &name, old: *old, new: Some(new) }];
        changes.extend(with_it);
        self.set_refs(app, repository, &release, &changes).await
    }

    /// From a commit to a live release.
    async fn deploy(
        &self,
        app: &App,
        reader: &Reader,
        deployment: &Deployment<'_>,
        by: &str,
        progress: &Progress,
        work: &Work,
    ) -> Result<(), DeployError> {
        let Deployment { branch, new: commit, .. } = *deployment;
        let _collect_at_end = CollectAtEnd::begin(self).await;
        let checkout = Checkout::new(app, reader, commit);
        let image = self.make_image(app, &checkout, by, Reuse::Yes, progress, work).await?;
        let origin = ReleaseOrigin {
            kind: ReleaseKind::Push,
            branch: Some(branch.clone()),
            commit: commit.clone(),
            by: by.to_owned(),
        };
        self.release_image(app, image, origin, work).await
    }
}
