//! Commits that come without a push: from an archive, or from another repository. They take the turns of pushes, and are within
//! the same limits.

use std::{fmt, sync::Arc};

use tokio::io::AsyncRead;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    git_turns::{GitTurn, GitTurns, GitUse},
    handler::{Pusher, ServedApp},
    pack_limit::PackLimit,
};
use crate::{
    config::Config,
    git::{
        GitError, Group, ImportOptions, ImportedCommit, NewCommit, ObjectGuard, Origin, QuotaExceeded, Reader,
        Repositories, Repository,
    },
    model::{CommitId, RemoteUrl},
    progress::Progress,
};

/// Why a commit does not come into a repository.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It waited for its turn for too long, as one line.
    #[error("{0}")]
    WaitedTooLong(String),
    /// The pack is larger than allowed, as one line.
    #[error("{0}")]
    PackTooLarge(String),
    /// The repository exceeds its quota.
    #[error(transparent)]
    Quota(#[from] QuotaExceeded),
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The caller disconnected.
    #[error("cancelled: the client disconnected")]
    Cancelled,
}

/// Begins imports; cheap to clone.
#[derive(Clone)]
pub struct Imports(Arc<ImportsShared>);

struct ImportsShared {
    repositories: Repositories,
    turns: Arc<GitTurns>,
    max_push_bytes: u64,
    tracker: TaskTracker,
}

impl fmt::Debug for Imports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Imports")
    }
}

/// One import, from its turn to its end. Until it is dropped, the objects that it brings are not collected.
pub struct Import {
    repository: Repository,
    reader: Reader,
    group: Group,
    limit: PackLimit,
    max_push_bytes: u64,
    kept: Option<(ObjectGuard, GitTurn)>,
    /// Whether a ref leads to what it brought.
    is_used: bool,
    tracker: TaskTracker,
}

impl Imports {
    /// Imports into these repositories. What is left to do at their end runs on `tracker`.
    pub fn new(config: &Config, repositories: Repositories, tracker: TaskTracker) -> Self {
        let turns = Arc::new(GitTurns::new(GitUse::Push, &config.git));
        Self(Arc::new(ImportsShared { repositories, turns, max_push_bytes: config.git.max_push_bytes, tracker }))
    }

    /// The turns of pushes, which imports take as well.
    pub(super) fn turns(&self) -> Arc<GitTurns> {
        Arc::clone(&self.0.turns)
    }

    /// Waits for the turn of an import into the repository of an app.
    pub async fn begin(
        &self,
        app: &ServedApp,
        pusher: &Pusher,
        progress: &Progress,
        hangup: &CancellationToken,
    ) -> Result<Import, ImportError> {
        let this = &self.0;
        let repository = this.repositories.get(&app.name).limited_to(pusher.max_repository_bytes);
        let begun = async {
            let turn = this.turns.turn(pusher.actor.user, pusher.max_pushes, &mut progress.clone()).await;
            let turn = turn.map_err(|error| ImportError::WaitedTooLong(error.to_string()))?;
            let kept = repository.protect_objects().await;
            let limit = PackLimit::of(&repository, this.max_push_bytes);
            let (limit, group) = tokio::join!(limit, this.repositories.group());
            Ok((turn, kept, limit, group))
        };
        let (turn, kept, limit, group) =
            hangup.run_until_cancelled(begun).await.unwrap_or(Err(ImportError::Cancelled))?;
        Ok(Import {
            reader: repository.reader_in(&group),
            repository,
            group,
            limit,
            max_push_bytes: this.max_push_bytes,
            kept: Some((kept, turn)),
            is_used: false,
            tracker: this.tracker.clone(),
        })
    }
}

impl Import {
    /// Reads the repository.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Makes a commit of the files of a tar, which may be compressed with gzip. A folder in which all of them are is left out.
    pub async fn archive(
        &self,
        commit: NewCommit,
        archive: &mut (dyn AsyncRead + Send + Unpin),
    ) -> Result<ImportedCommit, ImportError> {
        self.import(commit, archive, true).await
    }

    /// Makes a commit of one file.
    pub async fn file(&self, commit: NewCommit, path: &str, contents: &[u8]) -> Result<ImportedCommit, ImportError> {
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(contents.len() as u64);
        let written = archive.append_data(&mut header, path, contents).and_then(|()| archive.into_inner());
        let written = written.map_err(|error| GitError::Archive(format!("cannot be written: {error}")))?;
        self.import(commit, &mut written.as_slice(), false).await
    }

    async fn import(
        &self,
        commit: NewCommit,
        archive: &mut (dyn AsyncRead + Send + Unpin),
        strips_top_folder: bool,
    ) -> Result<ImportedCommit, ImportError> {
        let (archive_bytes, pack_bytes) = (self.max_push_bytes, self.limit.bytes());
        let options = ImportOptions { strips_top_folder, archive_bytes, pack_bytes };
        let made = self.repository.import(&self.group, commit, archive, options).await?;
        let made = made.ok_or_else(|| ImportError::PackTooLarge(self.limit.to_string()))?;
        // The process that made it is not trusted.
        if !self.reader.commit_exists(&made.commit).await? {
            return Err(GitError::Importer("made no commit".to_owned()).into());
        }
        Ok(made)
    }

    /// Fetches a branch, tag or commit of a remote repository, with its history.
    pub async fn fetch(
        &self,
        url: &RemoteUrl,
        reference: Option<&str>,
        from: &Origin,
    ) -> Result<CommitId, ImportError> {
        let limit = self.limit.bytes();
        let fetched = self.repository.fetch_history(&self.group, &self.reader, url, reference, from, limit).await?;
        fetched.ok_or_else(|| ImportError::PackTooLarge(self.limit.to_string()))
    }

    /// Refuses what the repository has no room for, and as many new refs.
    pub async fn check_quota(&self, new_refs: u64) -> Result<(), ImportError> {
        Ok(self.repository.check_quota(&self.reader, new_refs).await??)
    }

    /// Ends it when a ref leads to what it brought.
    pub fn is_used(mut self) {
        self.is_used = true;
    }
}

impl Drop for Import {
    fn drop(&mut self) {
        let (repository, kept, is_used) = (self.repository.clone(), self.kept.take(), self.is_used);
        self.tracker.spawn(async move {
            drop(kept);
            let tidied = if is_used { repository.gc_if_needed().await } else { repository.gc().await };
            if let Err(error) = tidied {
                tracing::warn!(repository = %repository.path().display(), %error, "cannot clean up after an import");
            }
        });
    }
}
