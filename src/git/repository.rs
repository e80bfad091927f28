//! The repository of an app, and its refs.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{
    command::output_of_input,
    error::{Result, failed},
    repositories::Repositories,
};
use crate::model::{AppName, BranchName, CommitId, RefName};

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) repositories: Repositories,
    pub(super) app: AppName,
    pub(super) path: PathBuf,
}

/// Ref that keeps the commit that is being deployed; the settings hide it from clients.
const DEPLOYING: &str = "refs/paas/deploying";

/// A change of a ref.
#[derive(Debug, Clone, Copy)]
pub struct RefChange<'a> {
    /// Name.
    pub name: &'a RefName,
    /// What it must point to now; `None` if it must not exist.
    pub old: Option<&'a CommitId>,
    /// What it is to point to; `None` to delete it.
    pub new: Option<&'a CommitId>,
}

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

    /// The process that reads the repository, not started.
    pub(super) fn reader_command(&self) -> Command {
        let mut command = self.repositories.child(self.repositories.program(), &self.path);
        // Or else the allocator counts a GiB, which it reserves at the start, to the memory that the process may have.
        command.arg("git-reader").env("MIMALLOC_ARENA_EAGER_COMMIT", "0");
        command
    }

    pub(super) async fn git(&self, arguments: &[&str]) -> Result<String> {
        self.repositories.git(&self.path, arguments).await
    }

    /// Sets a branch, if it still points to `old` (`None`: if it does not exist).
    pub async fn update_ref(&self, branch: &BranchName, new: &CommitId, old: Option<&CommitId>) -> Result<()> {
        let old = old.map_or(NO_OBJECT, CommitId::as_str);
        self.git(&["update-ref", &ref_name(branch), new.as_str(), old]).await.map(drop)
    }

    /// Sets, creates and deletes refs, either all or none: if each still points to what is expected.
    pub async fn update_refs(&self, changes: &[RefChange<'_>]) -> Result<()> {
        let id = |id: Option<&CommitId>| id.map_or(NO_OBJECT, CommitId::as_str).to_owned();
        let lines = changes.iter().map(|c| format!("update {} {} {}\n", c.name.full(), id(c.new), id(c.old)));
        let mut command = self.command();
        command.args(["update-ref", "--stdin"]);
        output_of_input(command, lines.collect::<String>().into_bytes()).await.map(drop)
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
}

/// Full name of a branch's ref.
pub(super) fn ref_name(branch: &BranchName) -> String {
    format!("refs/heads/{branch}")
}
