//! The part of a repository that is built: a commit, or one folder of it.

use super::{deployer::Deployer, error::DeployError};
use crate::{
    git::{NoFile, Reader, Source},
    model::{CommitId, Files, NotText, SourceFolder, decode_text},
    store::App,
};

/// Maximum size of a file that is read into memory, in bytes.
const MAX_FILE_BYTES: usize = 256 * 1024;

/// A commit, seen from the folder that is built.
pub(super) struct Checkout<'a> {
    reader: &'a Reader,
    pub(super) commit: &'a CommitId,
    folder: Option<&'a SourceFolder>,
}

impl<'a> Checkout<'a> {
    /// What is built of a commit of the app.
    pub(super) fn new(app: &'a App, reader: &'a Reader, commit: &'a CommitId) -> Self {
        Self { reader, commit, folder: app.source_folder.as_ref() }
    }

    /// The content of a small text file, if the file exists.
    pub(super) async fn read(&self, path: &str) -> Result<Option<String>, DeployError> {
        Ok(self.read_or_why_not(path).await?.ok())
    }

    /// The same, and otherwise why there is none.
    pub(super) async fn read_or_why_not(&self, path: &str) -> Result<Result<String, NoFile>, DeployError> {
        let folder = self.folder.map(SourceFolder::as_str);
        let bytes = match self.reader.read_file(self.commit, folder, path, MAX_FILE_BYTES).await? {
            Ok(bytes) => bytes,
            Err(none) => return Ok(Err(none)),
        };
        let not_text = |_: NotText| {
            DeployError::NotText(folder.map_or_else(|| path.to_owned(), |folder| format!("{folder}/{path}")))
        };
        Ok(Ok(decode_text(bytes).map_err(not_text)?))
    }

    /// Those of the paths that are files.
    pub(super) async fn files_among(&self, paths: &[&str]) -> Result<Vec<String>, DeployError> {
        let prefix = self.folder.map(|folder| format!("{folder}/")).unwrap_or_default();
        let paths = paths.iter().map(|path| format!("{prefix}{path}")).collect();
        let found = self.reader.files_among(self.commit, paths).await?;
        Ok(found.into_iter().map(|path| path[prefix.len()..].to_owned()).collect())
    }

    /// The first paragraph of the commit's message, on one line.
    pub(super) async fn summary(&self) -> Result<String, DeployError> {
        Ok(self.reader.commit_summary(self.commit).await?)
    }

    /// All files, or those of a folder, whatever a project selects.
    pub(super) async fn all_of(&self, folder: Option<&str>) -> Result<Source, DeployError> {
        let parts = self.folder.map(SourceFolder::as_str).into_iter().chain(folder);
        let folder = parts.collect::<Vec<_>>().join("/");
        let folder = Some(folder.as_str()).filter(|folder| !folder.is_empty());
        Ok(self.reader.source_tar(self.commit, folder, &Files::All).await?)
    }

    /// The source, as one tar.
    pub(super) async fn source(&self, files: &Files) -> Result<Source, DeployError> {
        let folder = self.folder.map(SourceFolder::as_str);
        Ok(self.reader.source_tar(self.commit, folder, files).await?)
    }
}

impl Deployer {
    /// The current commit of the deploy branch, if it lacks this folder. The commit of a rejected push cannot be
    /// checked: it is not kept.
    pub async fn commit_without_folder(
        &self,
        app: &App,
        folder: &SourceFolder,
    ) -> Result<Option<CommitId>, DeployError> {
        let Some((reader, commit)) = self.pushed_commit(app).await? else { return Ok(None) };
        let has_folder = reader.has_folder(&commit, folder.as_str()).await?;
        Ok((!has_folder).then_some(commit))
    }

    /// The same commit, if the folder that is built lacks this file.
    pub async fn commit_without_file(&self, app: &App, path: &str) -> Result<Option<CommitId>, DeployError> {
        let Some((reader, commit)) = self.pushed_commit(app).await? else { return Ok(None) };
        let found = Checkout::new(app, &reader, &commit).read(path).await?;
        Ok(found.is_none().then_some(commit))
    }

    async fn pushed_commit(&self, app: &App) -> Result<Option<(Reader, CommitId)>, DeployError> {
        let Some(branch) = &app.deploy_branch else { return Ok(None) };
        let reader = self.0.repositories.get(&app.name).reader();
        let commit = reader.ref_value(branch).await?;
        Ok(commit.map(|commit| (reader, commit)))
    }
}
