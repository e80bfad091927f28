//! One repository: its refs and its files.

use std::path::{Path, PathBuf};

use tokio::{io::AsyncReadExt as _, process::Command};

use super::{GitError, Repositories, Result, Source, command_failed, failed, source};
use crate::model::{AppName, BranchName, CommitId, Files, Line};

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) repositories: Repositories,
    pub(super) app: AppName,
    pub(super) path: PathBuf,
}

/// Hidden from clients by the settings.
const DEPLOYING: &str = "refs/paas/deploying";

/// git's word for "no object".
const ZERO: &str = "0000000000000000000000000000000000000000";

impl Repository {
    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A git command in it, not started.
    pub fn command(&self) -> Command {
        self.repositories.command(&self.path)
    }

    pub(super) fn repositories(&self) -> &Repositories {
        &self.repositories
    }

    pub(super) async fn git(&self, words: &[&str]) -> Result<String> {
        self.repositories.git(&self.path, words).await
    }

    /// The commit that a branch is at.
    pub async fn ref_value(&self, branch: &BranchName) -> Result<Option<CommitId>> {
        let name = full(branch);
        let text = self.git(&["for-each-ref", "--format=%(objectname) %(refname)", &name]).await?;
        let found = text.lines().filter_map(|line| line.split_once(' ')).find(|(_, found)| *found == name);
        found.map(|(id, _)| id.parse().map_err(|_| GitError::Unexpected(id.to_owned()))).transpose()
    }

    /// Sets a branch, if it is still at `old` (`None`: if it is not there).
    pub async fn update_ref(&self, branch: &BranchName, new: &CommitId, old: Option<&CommitId>) -> Result<()> {
        let old = old.map_or(ZERO, CommitId::as_str);
        self.git(&["update-ref", &full(branch), new.as_str(), old]).await.map(drop)
    }

    /// Deletes a branch, if it is still at `old`.
    pub async fn delete_ref(&self, branch: &BranchName, old: Option<&CommitId>) -> Result<()> {
        let name = full(branch);
        let mut words = vec!["update-ref", "-d", &name];
        words.extend(old.map(CommitId::as_str));
        self.git(&words).await.map(drop)
    }

    /// Keeps a commit that no branch names, while it is deployed; one at a time.
    pub async fn keep_commit(&self, commit: &CommitId) -> Result<()> {
        self.git(&["update-ref", DEPLOYING, commit.as_str()]).await.map(drop)
    }

    /// The end of [`Self::keep_commit`].
    pub async fn let_commit_go(&self) -> Result<()> {
        let loose = self.path.join(DEPLOYING);
        if !tokio::fs::try_exists(&loose).await.map_err(failed("look at", &loose))? {
            return Ok(());
        }
        self.git(&["update-ref", "-d", DEPLOYING]).await.map(drop)
    }

    /// Chooses the branch that a clone checks out.
    pub async fn set_head(&self, branch: &BranchName) -> Result<()> {
        self.git(&["symbolic-ref", "HEAD", &full(branch)]).await.map(drop)
    }

    /// Whether there is such an object and it is a commit.
    pub async fn commit_exists(&self, commit: &CommitId) -> Result<bool> {
        let mut command = self.command();
        command.args(["cat-file", "-t", commit.as_str()]);
        let output = command.output().await.map_err(GitError::Start)?;
        match output.status.code() {
            Some(0) => Ok(output.stdout == b"commit\n"),
            Some(1 | 128) => Ok(false),
            _ => Err(command_failed(&command, &output.stderr)),
        }
    }

    /// The first line of a commit's message, fit for a terminal.
    pub async fn commit_summary(&self, commit: &CommitId) -> Result<String> {
        const MOST: usize = 200;
        let mut command = self.command();
        command.args(["show", "--no-patch", "--no-show-signature", "--format=%s", commit.as_str(), "--"]);
        // A subject may be as long as a pack allows; git is ended when its handle is dropped.
        let mut child = command.spawn().map_err(GitError::Start)?;
        let mut subject = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let bounded = stdout.take(8 * MOST as u64).read_to_end(&mut subject).await;
            bounded.map_err(failed("read", &self.path))?;
        }
        let text = String::from_utf8_lossy(&subject);
        let line = Line::sanitize(text.lines().next().unwrap_or_default().trim());
        let mut summary: String = line.chars().take(MOST).collect();
        if summary.len() < line.len() {
            summary.push('…');
        }
        Ok(summary)
    }

    /// A regular file of a commit, if it is there; an error if it is larger than `most` bytes.
    pub async fn read_file(&self, commit: &CommitId, path: &str, most: usize) -> Result<Option<Vec<u8>>> {
        let listed = self.git(&["ls-tree", "-z", "--full-tree", commit.as_str(), "--", path]).await?;
        let Some((entry, _)) = listed.split_once('\t') else { return Ok(None) };
        let [mode, "blob", id] = entry.split(' ').collect::<Vec<_>>()[..] else { return Ok(None) };
        if !mode.starts_with("100") {
            return Ok(None);
        }
        let mut command = self.command();
        let mut child = command.args(["cat-file", "blob", id]).spawn().map_err(GitError::Start)?;
        let mut bytes = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let bound = most as u64 + 1;
            stdout.take(bound).read_to_end(&mut bytes).await.map_err(failed("read", Path::new(path)))?;
        }
        if bytes.len() > most {
            return Err(GitError::TooLarge { path: path.to_owned(), most });
        }
        let ended = child.wait_with_output().await.map_err(GitError::Start)?;
        if ended.status.success() { Ok(Some(bytes)) } else { Err(command_failed(&command, &ended.stderr)) }
    }

    /// Whether [`Self::source_tar`] would find this folder in a commit.
    pub async fn has_folder(&self, commit: &CommitId, folder: &str) -> Result<bool> {
        match source::tree(self, commit, Some(folder)).await {
            Ok(_) => Ok(true),
            Err(GitError::NoSuchFolder(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The files of a commit as one tar, below `subdirectory` if there is one; only those that are wanted.
    pub async fn source_tar(&self, commit: &CommitId, subdirectory: Option<&str>, files: &Files) -> Result<Source> {
        source::open(self, commit, subdirectory, files).await
    }
}

fn full(branch: &BranchName) -> String {
    format!("refs/heads/{branch}")
}
