//! What the app says of itself, read before anything is built, so that a mistake in it costs no build.

use super::DeployError;
use crate::{
    git::Repository,
    model::{AppJson, CommitId, Procfile, ProjectToml},
};

/// The largest of these files that is read, in bytes.
pub(super) const LARGEST: usize = 256 * 1024;

/// The files that a commit may have for us.
pub(super) struct Manifests {
    pub(super) app: AppJson,
    pub(super) project: ProjectToml,
}

impl Manifests {
    pub(super) async fn read(repository: &Repository, commit: &CommitId) -> Result<Self, DeployError> {
        if let Some(text) = read_text(repository, commit, "Procfile").await? {
            Procfile::parse(&text)?;
        }
        let app = match read_text(repository, commit, "app.json").await? {
            Some(text) => AppJson::parse(&text)?,
            None => AppJson::default(),
        };
        let project = match read_text(repository, commit, "project.toml").await? {
            Some(text) => ProjectToml::parse(&text)?,
            None => ProjectToml::default(),
        };
        Ok(Self { app, project })
    }
}

async fn read_text(
    repository: &Repository,
    commit: &CommitId,
    path: &'static str,
) -> Result<Option<String>, DeployError> {
    let bytes = repository.read_file(commit, path, LARGEST).await?;
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| DeployError::NotText(path))).transpose()
}
