//! What of a repository is built: a commit, or one folder of it.

use super::{DeployError, Deployer};
use crate::{
    git::{Repository, Source},
    model::{CommitId, Files, SourceFolder},
    store::App,
};

/// The largest file that is read whole, in bytes.
const LARGEST: usize = 256 * 1024;

/// A commit, seen from the folder that is built.
pub(super) struct Checkout<'a> {
    pub(super) repository: &'a Repository,
    pub(super) commit: &'a CommitId,
    pub(super) folder: Option<&'a SourceFolder>,
}

impl Checkout<'_> {
    /// A small file of text, if it is there.
    pub(super) async fn read(&self, path: &str) -> Result<Option<String>, DeployError> {
        let path = self.folder.map_or_else(|| path.to_owned(), |folder| format!("{folder}/{path}"));
        let bytes = self.repository.read_file(self.commit, &path, LARGEST).await?;
        bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| DeployError::NotText(path))).transpose()
    }

    /// All that is built, as one tar.
    pub(super) async fn source(&self, files: &Files) -> Result<Source, DeployError> {
        let folder = self.folder.map(SourceFolder::as_str);
        Ok(self.repository.source_tar(self.commit, folder, files).await?)
    }
}

impl Deployer {
    /// The commit that the deploy branch is at, if it has no such folder; of a push that was refused, nothing is left to
    /// look at.
    pub async fn commit_without(&self, app: &App, folder: &SourceFolder) -> Result<Option<CommitId>, DeployError> {
        let Some(branch) = &app.deploy_branch else { return Ok(None) };
        let repository = self.0.repositories.get(&app.name);
        let Some(commit) = repository.ref_value(branch).await? else { return Ok(None) };
        let there = repository.has_folder(&commit, folder.as_str()).await?;
        Ok((!there).then_some(commit))
    }
}
