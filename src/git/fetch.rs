//! The files of somebody else's repository: fetched by git's own user, without history, into a repository that goes
//! with its handle.

use std::path::PathBuf;

use super::{GitError, Repositories, Repository, Result, Source, finish, source};
use crate::model::Files;

/// What protocols a URL may have; `file` is for the operator.
const PROTOCOLS: &str = "https:http:git";

/// A fetched commit, until it is dropped.
#[derive(Debug)]
pub struct Fetched {
    folder: PathBuf,
    /// Its files.
    pub source: Source,
}

impl Drop for Fetched {
    fn drop(&mut self) {
        let folder = std::mem::take(&mut self.folder);
        // What is not removed now is removed at the next start: its name says that it is unfinished.
        std::thread::spawn(move || std::fs::remove_dir_all(folder));
    }
}

impl Repositories {
    /// Fetches a branch, tag or commit (the default branch without one), and reads its files, or those of a folder.
    pub async fn fetch(
        &self,
        url: &str,
        reference: Option<&str>,
        folder: Option<&str>,
        operator: bool,
    ) -> Result<Fetched> {
        let path = self.0.dir.join(format!("fetched.new-{:016x}", rand::random::<u64>()));
        self.init(&path).await?;
        // From here on the folder goes whatever happens.
        let name = "fetched".parse().map_err(|_| GitError::Unexpected("fetched".to_owned()))?;
        let repository = Repository { repositories: self.clone(), app: name, path: path.clone() };
        match self.fetch_into(&repository, url, reference, folder, operator).await {
            Ok(source) => Ok(Fetched { folder: path, source }),
            Err(error) => {
                let _ = tokio::fs::remove_dir_all(path).await;
                Err(error)
            }
        }
    }

    async fn fetch_into(
        &self,
        repository: &Repository,
        url: &str,
        reference: Option<&str>,
        folder: Option<&str>,
        operator: bool,
    ) -> Result<Source> {
        let mut command = repository.command();
        let protocols = if operator { format!("{PROTOCOLS}:file:ssh") } else { PROTOCOLS.to_owned() };
        command.env("GIT_ALLOW_PROTOCOL", protocols);
        if !operator {
            // It could lead to what may not be named.
            command.args(["-c", "http.followRedirects=false"]);
        }
        command.args([
            "-c",
            "safe.directory=*",
            "-c",
            "fetch.fsckObjects=true",
            "fetch",
            "--quiet",
            "--depth=1",
            "--no-tags",
            "--",
        ]);
        command.args([url, reference.unwrap_or("HEAD")]);
        finish(command).await.map_err(|error| match error {
            GitError::Command { message, .. } => GitError::Fetch { url: url.to_owned(), message },
            other => other,
        })?;
        let commit = repository.git(&["rev-parse", "--verify", "FETCH_HEAD^{commit}"]).await?;
        let commit = commit.trim().parse().map_err(|_| GitError::Unexpected(commit.clone()))?;
        source::open(repository, &commit, folder, &Files::All).await
    }
}
