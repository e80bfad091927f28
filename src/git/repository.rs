//! The repository of an app, and its refs.

use std::path::{Path, PathBuf};

use tokio::process::Command;

use super::{
    command::output_of_input,
    error::{GitError, Result, failed},
    repositories::Repositories,
};
use crate::model::{AppName, BranchName, CommitId, RefName};

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) repositories: Repositories,
    pub(super) app: AppName,
    pub(super) path: PathBuf,
    /// Maximum size of all objects, in bytes.
    pub(super) max_bytes: u64,
}

/// Ref that keeps the commit that is being deployed; the settings hide it from clients.
const DEPLOYING: &str = "refs/paas/deploying";

/// Ref of the list of the refs that are set in one transaction with the branch of that commit: those of an atomic push. Its first
/// line is the commit; the others are an object id and a name each.
const WITH_IT: &str = "refs/paas/with-it";

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
        let max_bytes = self.quota().bytes;
        Repository { repositories: self.clone(), app: app.clone(), path: self.path(app), max_bytes }
    }
}

impl Repository {
    /// The same with this maximum size of all objects, in bytes.
    #[must_use]
    pub fn limited_to(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Maximum size of all objects, in bytes.
    pub fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

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

    /// Sets, creates and deletes refs, either all or none: if each still points to what is expected.
    pub async fn update_refs(&self, changes: &[RefChange<'_>]) -> Result<()> {
        let lines =
            changes.iter().map(|c| format!("update {} {} {}\n", c.name.full(), id_or_none(c.new), id_or_none(c.old)));
        self.update_ref_lines(lines.collect()).await
    }

    async fn update_ref_lines(&self, lines: String) -> Result<()> {
        self.git_with_input(&["update-ref", "--stdin"], lines).await.map(drop)
    }

    async fn git_with_input(&self, arguments: &[&str], input: String) -> Result<String> {
        let mut command = self.command();
        command.args(arguments);
        output_of_input(command, input.into_bytes()).await
    }

    /// Protects a commit without a branch from garbage collection while it is deployed, and records the changes that are made
    /// with that of its branch; replaces the pin of another commit.
    pub async fn pin_commit(&self, commit: &CommitId, with: &[RefChange<'_>]) -> Result<()> {
        let list = if with.is_empty() {
            format!("delete {WITH_IT}\n")
        } else {
            let lines = with.iter().map(|change| format!("{} {}\n", id_or_none(change.new), change.name.full()));
            let text = format!("{commit}\n{}", lines.collect::<String>());
            let blob = self.git_with_input(&["hash-object", "-w", "--stdin"], text).await?;
            format!("update {WITH_IT} {}\n", blob.trim())
        };
        self.update_ref_lines(format!("update {DEPLOYING} {commit}\n{list}")).await
    }

    /// The changes that [`Self::pin_commit`] has recorded for this commit: refs, and what they are to point to.
    pub async fn pinned_with(&self, commit: &CommitId) -> Result<Vec<(RefName, Option<CommitId>)>> {
        if self.git(&["for-each-ref", WITH_IT]).await?.is_empty() {
            return Ok(Vec::new());
        }
        let text = self.git(&["cat-file", "blob", WITH_IT]).await?;
        let mut lines = text.lines();
        if lines.next() != Some(commit.as_str()) {
            return Ok(Vec::new());
        }
        let parse = |line: &str| {
            let (id, name) = line.split_once(' ')?;
            let id: CommitId = id.parse().ok()?;
            Some((RefName::parse(name).ok()?, Some(id).filter(|id| !id.is_zero())))
        };
        lines.map(|line| parse(line).ok_or_else(|| GitError::Unexpected(line.to_owned()))).collect()
    }

    /// Ends the protection by [`Self::pin_commit`].
    pub async fn unpin_commit(&self) -> Result<()> {
        let loose = self.path.join(DEPLOYING);
        if !tokio::fs::try_exists(&loose).await.map_err(failed("access", &loose))? {
            return Ok(());
        }
        self.update_ref_lines(format!("delete {DEPLOYING}\ndelete {WITH_IT}\n")).await
    }

    /// Sets the branch that a clone checks out.
    pub async fn set_head(&self, branch: &BranchName) -> Result<()> {
        self.git(&["symbolic-ref", "HEAD", &RefName::from(branch.clone()).full()]).await.map(drop)
    }
}

/// An object id for git; that of no object if there is none.
fn id_or_none(id: Option<&CommitId>) -> &str {
    id.map_or(NO_OBJECT, CommitId::as_str)
}
