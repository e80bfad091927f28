//! The repository of an app: its refs and commits.

use std::path::{Path, PathBuf};

use tokio::{io::AsyncReadExt as _, process::Command};

use super::{
    command::command_failed,
    error::{GitError, Result, failed},
    repositories::Repositories,
};
use crate::model::{AppName, BranchName, CommitId, Line};

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) repositories: Repositories,
    pub(super) app: AppName,
    pub(super) path: PathBuf,
}

/// Ref that keeps the commit that is being deployed; the settings hide it from clients.
const DEPLOYING: &str = "refs/paas/deploying";

/// Object id that stands for "no object" in git.
const NO_OBJECT: &str = "0000000000000000000000000000000000000000";

impl Repositories {
    /// The repository of an app; it need not exist.
    pub fn get(&self, app: &AppName) -> Repository {
        Repository { repositories: self.clone(), app: app.clone(), path: self.path(app) }
    }
}

impl Repository {
    /// Folder of the repository.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A git command in the repository, not started. The process is killed when its handle is dropped.
    pub fn command(&self) -> Command {
        self.repositories.command(&self.path)
    }

    pub(super) async fn git(&self, arguments: &[&str]) -> Result<String> {
        self.repositories.git(&self.path, arguments).await
    }

    /// The commit that a branch points to.
    pub async fn ref_value(&self, branch: &BranchName) -> Result<Option<CommitId>> {
        let name = ref_name(branch);
        let text = self.git(&["for-each-ref", "--format=%(objectname) %(refname)", &name]).await?;
        let found = text.lines().filter_map(|line| line.split_once(' ')).find(|(_, found)| *found == name);
        found.map(|(id, _)| id.parse().map_err(|_| GitError::Unexpected(id.to_owned()))).transpose()
    }

    /// Sets a branch, if it still points to `old` (`None`: if it does not exist).
    pub async fn update_ref(&self, branch: &BranchName, new: &CommitId, old: Option<&CommitId>) -> Result<()> {
        let old = old.map_or(NO_OBJECT, CommitId::as_str);
        self.git(&["update-ref", &ref_name(branch), new.as_str(), old]).await.map(drop)
    }

    /// Deletes a branch, if it still points to `old`.
    pub async fn delete_ref(&self, branch: &BranchName, old: Option<&CommitId>) -> Result<()> {
        let name = ref_name(branch);
        let mut arguments = vec!["update-ref", "-d", &name];
        arguments.extend(old.map(CommitId::as_str));
        self.git(&arguments).await.map(drop)
    }

    /// Protects a commit without a branch from garbage collection while it is deployed; replaces the pin of another commit.
    pub async fn pin_commit(&self, commit: &CommitId) -> Result<()> {
        self.git(&["update-ref", DEPLOYING, commit.as_str()]).await.map(drop)
    }

    /// Ends the protection by [`Self::pin_commit`].
    pub async fn unpin_commit(&self) -> Result<()> {
        let loose = self.path.join(DEPLOYING);
        if !tokio::fs::try_exists(&loose).await.map_err(failed("access", &loose))? {
            return Ok(());
        }
        self.git(&["update-ref", "-d", DEPLOYING]).await.map(drop)
    }

    /// Sets the branch that a clone checks out.
    pub async fn set_head(&self, branch: &BranchName) -> Result<()> {
        self.git(&["symbolic-ref", "HEAD", &ref_name(branch)]).await.map(drop)
    }

    /// Whether the object exists and is a commit.
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

    /// First line of a commit's message, without control characters and at most 200 characters long.
    pub async fn commit_summary(&self, commit: &CommitId) -> Result<String> {
        const MAX_CHARS: usize = 200;
        let mut command = self.command();
        command.args(["show", "--no-patch", "--no-show-signature", "--format=%s", commit.as_str(), "--"]);
        // The message may be as long as the pack; the process is killed when its handle is dropped.
        let mut child = command.spawn().map_err(GitError::Start)?;
        let mut subject = Vec::new();
        if let Some(stdout) = child.stdout.take() {
            let bounded = stdout.take(8 * MAX_CHARS as u64).read_to_end(&mut subject).await;
            bounded.map_err(failed("read", &self.path))?;
        }
        let text = String::from_utf8_lossy(&subject);
        let line = Line::sanitize(text.lines().next().unwrap_or_default().trim());
        let mut summary: String = line.chars().take(MAX_CHARS).collect();
        if summary.len() < line.len() {
            summary.push('…');
        }
        Ok(summary)
    }

    /// A regular file of a commit; `None` if it does not exist, an error if it is larger than `max` bytes.
    pub async fn read_file(&self, commit: &CommitId, path: &str, max: usize) -> Result<Option<Vec<u8>>> {
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
            let bound = max as u64 + 1;
            stdout.take(bound).read_to_end(&mut bytes).await.map_err(failed("read", Path::new(path)))?;
        }
        if bytes.len() > max {
            return Err(GitError::TooLarge { path: path.to_owned(), max });
        }
        let ended = child.wait_with_output().await.map_err(GitError::Start)?;
        if ended.status.success() { Ok(Some(bytes)) } else { Err(command_failed(&command, &ended.stderr)) }
    }
}

/// Full name of a branch's ref.
fn ref_name(branch: &BranchName) -> String {
    format!("refs/heads/{branch}")
}
