//! One repository: its refs, its files, and what failed pushes leave in it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::{io::AsyncReadExt as _, process::Command};

use super::{GitError, Repositories, Result, Source, command_failed, failed, source};
use crate::model::{BranchName, CommitId, Line};

/// A bare repository.
#[derive(Debug, Clone)]
pub struct Repository {
    pub(super) repositories: Repositories,
    pub(super) path: PathBuf,
}

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

    pub(super) async fn git(&self, words: &[&str]) -> Result<String> {
        self.repositories.git(&self.path, words).await
    }

    /// The commit that a branch is at.
    pub async fn ref_value(&self, branch: &BranchName) -> Result<Option<CommitId>> {
        let text = self.git(&["for-each-ref", "--format=%(objectname) %(refname)", &full(branch)]).await?;
        let named = text.lines().filter_map(|line| line.split_once(' ')).find(|(_, name)| *name == full(branch));
        named.map(|(id, _)| id.parse().map_err(|_| GitError::Unexpected(id.to_owned()))).transpose()
    }

    /// Sets a branch, if it is still at `old`.
    pub async fn update_ref(&self, branch: &BranchName, new: &CommitId, old: Option<&CommitId>) -> Result<()> {
        let old = old.map_or(ZERO, CommitId::as_str);
        self.git(&["update-ref", "-m", "push", &full(branch), new.as_str(), old]).await.map(drop)
    }

    /// Deletes a branch, if it is still at `old`.
    pub async fn delete_ref(&self, branch: &BranchName, old: Option<&CommitId>) -> Result<()> {
        let name = full(branch);
        let mut words = vec!["update-ref", "-d", &name];
        words.extend(old.map(CommitId::as_str));
        self.git(&words).await.map(drop)
    }

    /// Chooses the branch that a clone checks out.
    pub async fn set_head(&self, branch: &BranchName) -> Result<()> {
        self.git(&["symbolic-ref", "HEAD", &full(branch)]).await.map(drop)
    }

    /// The first line of a commit's message, fit for a terminal.
    pub async fn commit_summary(&self, commit: &CommitId) -> Result<String> {
        let text = self.git(&["log", "-1", "--no-show-signature", "--format=%<(200,trunc)%s", commit.as_str()]).await?;
        Ok(Line::sanitize(text.trim()))
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

    /// The files of a commit as one tar, below `subdirectory` if there is one.
    pub async fn source_tar(&self, commit: &CommitId, subdirectory: Option<&str>) -> Result<Source> {
        source::open(self, commit, subdirectory).await
    }

    /// Removes what failed and interrupted pushes left. No push to this repository may be under way.
    pub async fn gc(&self) -> Result<()> {
        let objects = self.path.join("objects");
        remove_matching(&objects, |name| name.starts_with("tmp_objdir-") || name.starts_with("incoming-"))?;
        remove_matching(&objects.join("pack"), |name| name.starts_with("tmp_"))?;
        self.git(&["prune", "--expire=now"]).await?;
        // Packs that hold nothing reachable stay until everything is packed anew; worth it only when they pile up.
        let packs = fs::read_dir(objects.join("pack")).map_or(0, Iterator::count);
        if packs > 100 {
            self.git(&["repack", "-a", "-d", "-q"]).await?;
        }
        Ok(())
    }

    /// Removes locks that a killed git left. No git may run in this repository.
    pub async fn remove_stale_locks(&self) -> Result<()> {
        let path = self.path.clone();
        let remove = move || {
            remove_matching(&path, is_lock)?;
            remove_locks_below(&path.join("refs"))
        };
        match tokio::task::spawn_blocking(remove).await {
            Ok(removed) => removed,
            Err(e) => Err(failed("clean", &self.path)(io::Error::other(e))),
        }
    }

    /// A child that reads from a pipe.
    pub(super) fn piped(&self, words: &[&str]) -> Command {
        let mut command = self.command();
        command.args(words).stdin(Stdio::piped());
        command
    }
}

fn full(branch: &BranchName) -> String {
    format!("refs/heads/{branch}")
}

fn is_lock(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "lock")
}

fn remove_matching(folder: &Path, matches: impl Fn(&str) -> bool) -> Result<()> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries {
        let entry = entry.map_err(failed("read", folder))?;
        if !matches(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed("remove", &path))?;
    }
    Ok(())
}

fn remove_locks_below(folder: &Path) -> Result<()> {
    remove_matching(folder, is_lock)?;
    let Ok(entries) = fs::read_dir(folder) else { return Ok(()) };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        remove_locks_below(&entry.path())?;
    }
    Ok(())
}
