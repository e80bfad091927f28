//! The ref of the deploy branch, which follows the live release, and those that are set with it.

use super::{deployer::Deployer, error::DeployError};
use crate::{
    git::{RefChange, Repository},
    store::{App, PushedRelease},
};

impl Deployer {
    /// Moves the branch to the commit of the live release, with the other refs of an atomic push, and records that on the
    /// release.
    pub(super) async fn set_refs(
        &self,
        app: &App,
        repository: &Repository,
        release: &PushedRelease,
        changes: &[RefChange<'_>],
    ) -> Result<(), DeployError> {
        repository.update_refs(changes).await?;
        let deploy_branch = self.0.store.set_deploy_branch(app.id, release.branch.clone(), true).await?;
        // The deploy branch may have been set before there was one of that name.
        if deploy_branch == release.branch {
            repository.set_head(&release.branch).await?;
        }
        self.0.store.note_ref_set(app.id, release.number).await?;
        unpin(app, repository).await;
        Ok(())
    }
}

/// Ends the protection of the commit that was deployed. What came of that does not depend on it: the next pin replaces it, or the
/// next start lets it go.
pub(super) async fn unpin(app: &App, repository: &Repository) {
    if let Err(error) = repository.unpin_commit().await {
        tracing::warn!(app = %app.name, %error, "the commit that was deployed stays protected until the next deploy");
    }
}
