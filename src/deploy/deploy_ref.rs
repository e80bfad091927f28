//! The ref of the deploy branch, which follows the live release.

use super::{deployer::Deployer, error::DeployError};
use crate::{
    git::Repository,
    model::CommitId,
    store::{App, PushedRelease},
};

impl Deployer {
    /// Moves the branch to the commit of the live release, and records that on the release.
    pub(super) async fn set_ref(
        &self,
        app: &App,
        repository: &Repository,
        release: &PushedRelease,
        old: Option<&CommitId>,
    ) -> Result<(), DeployError> {
        repository.update_ref(&release.branch, &release.commit, old).await?;
        let deploy_branch = self.0.store.set_deploy_branch(app.id, release.branch.clone(), true).await?;
        // The deploy branch may have been set before there was one of that name.
        if deploy_branch == release.branch {
            repository.set_head(&release.branch).await?;
        }
        self.0.store.note_ref_set(app.id, release.number).await?;
        Ok(repository.unpin_commit().await?)
    }
}
