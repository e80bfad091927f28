//! The whole push, from top to bottom: source, build, release, instances, ref. Only this module knows the order of the
//! stages, which do not name each other. Operations without a push (config vars, rollback, destroying an app) have
//! files of their own.

mod apps;
mod build_log;
mod build_settings;
mod buildpack_choice;
mod buildpack_library;
mod checkout;
mod deploy_ref;
mod deployer;
mod error;
mod failure;
mod gc;
mod gc_lock;
mod image;
mod locks;
mod manifests;
mod ports;
mod rebase;
mod recover;
mod release;
mod release_phase;
mod releases;
mod rollout;
mod stack_schedule;
mod stacks;

pub use buildpack_choice::BuildpackPosition;
pub use buildpack_library::BuildpackLibrary;
pub use deployer::Deployer;
pub use error::DeployError;
pub use ports::Ports;
pub use rebase::Rebased;
pub use releases::ConfigChange;
pub use stack_schedule::StackUpdates;
pub use stacks::{StackStatus, Stacks};

use tokio_util::sync::CancellationToken;

use crate::{
    git::Reader,
    instances::RolloutError,
    model::CommitId,
    pause,
    progress::Progress,
    receive::RefUpdate,
    store::{App, ReleaseKind},
};
use checkout::Checkout;
use gc::GcHold;
use image::Reuse;
use locks::Work;
use release::ReleaseOrigin;

impl Deployer {
    /// Does what a push asks for one branch, and sets the ref itself; `reader` reads the app's repository. An update past
    /// its commit point completes even if `cancel` is cancelled.
    pub async fn push(
        &self,
        update: RefUpdate,
        reader: &Reader,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<(), DeployError> {
        let work = self.0.pushes.begin(update.app.id, &cancel);
        if update.new.is_none() {
            work.builds_nothing();
        }
        let result = self.update_ref(&update, reader, progress, &work).await;
        work.end(result).inspect_err(|error| {
            tracing::info!(app = %update.app.name, branch = %update.branch, %error, "push rejected");
        })
    }

    /// Handles the push of one branch, under the app's push lock. The push is rejected if the ref is not where the
    /// client saw it.
    async fn update_ref(
        &self,
        update: &RefUpdate,
        reader: &Reader,
        progress: &Progress,
        work: &Work,
    ) -> Result<(), DeployError> {
        let this = &self.0;
        let _lock = this.pushes.lock(update.app.id, progress, work.cancel()).await?;
        // Read under the lock: an operation that held it before may have changed or destroyed the app.
        let app = this.store.app(update.app.id).await?.filter(|app| !app.destroying);
        let app = app.ok_or(DeployError::Rollout(RolloutError::Gone))?;

        let repository = this.repositories.get(&app.name);
        let actual = reader.ref_value(&update.branch).await?;
        if actual != update.old {
            let actual = actual.map_or_else(|| "deleted".to_owned(), |commit| format!("at {}", commit.short()));
            return Err(DeployError::Stale { branch: update.branch.clone(), actual });
        }
        let Some(new) = &update.new else {
            if app.deploy_branch.as_ref() == Some(&update.branch) {
                return Err(DeployError::DeployBranch(update.branch.clone()));
            }
            return Ok(repository.delete_ref(&update.branch, update.old.as_ref()).await?);
        };
        // The first branch that is deployed becomes the deploy branch.
        let deploy_branch = app.deploy_branch.as_ref().unwrap_or(&update.branch);
        if update.branch == *deploy_branch {
            let deploy = self.deploy_and_set_ref(&app, reader, new, update, progress, work);
            return this.pushes.unless_destroyed(app.id, work.cancel(), deploy).await;
        }
        work.builds_nothing();
        let text = format!("{} is stored, not deployed: {deploy_branch} is the deploy branch", update.branch);
        progress.header(text).await;
        progress.detail(format!("git:set {} deploy-branch {} changes that", app.name, update.branch)).await;
        Ok(repository.update_ref(&update.branch, new, update.old.as_ref()).await?)
    }

    async fn deploy_and_set_ref(
        &self,
        app: &App,
        reader: &Reader,
        new: &CommitId,
        update: &RefUpdate,
        progress: &Progress,
        work: &Work,
    ) -> Result<(), DeployError> {
        let repository = &self.0.repositories.get(&app.name);
        // No branch names the commit before the commit point, but it must not be collected if the server dies after it.
        repository.pin_commit(new).await?;
        let deployed = self.deploy(app, reader, new, update, progress, work).await;
        // The database decides whether the release is live: an error may have occurred after the commit point.
        let newest = self.0.store.newest_push(app.id).await?;
        let live = newest.filter(|newest| !newest.ref_set && newest.commit == *new && newest.branch == update.branch);
        let Some(release) = live else {
            // While the server shuts down, the rollout may still commit: then the next start lets the commit go.
            if !self.0.shutdown.is_cancelled() {
                repository.unpin_commit().await?;
            }
            return deployed;
        };
        if let Err(error) = deployed {
            tracing::warn!(app = %app.name, %error, "the release is live in spite of an error");
        }
        pause::at("before-ref").await;
        self.set_ref(app, repository, &release, update.old.as_ref()).await
    }

    /// From a commit to a live release.
    async fn deploy(
        &self,
        app: &App,
        reader: &Reader,
        commit: &CommitId,
        update: &RefUpdate,
        progress: &Progress,
        work: &Work,
    ) -> Result<(), DeployError> {
        let _gc_hold = GcHold::begin(self, app).await;
        let checkout = Checkout::new(app, reader, commit);
        let image = self.make_image(app, &checkout, &update.pusher.name, Reuse::Yes, progress, work).await?;
        let origin = ReleaseOrigin {
            kind: ReleaseKind::Push,
            branch: Some(update.branch.clone()),
            commit: commit.clone(),
            by: update.pusher.name.clone(),
        };
        self.release_image(app, image, origin, work).await
    }
}
