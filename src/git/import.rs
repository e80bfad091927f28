//! Makes a commit from an archive that a user sends, in a process of its own, `paas git-import`, which parses the archive; the
//! server does not.

use std::{
    io,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
};

use super::{
    error::{GitError, Result},
    groups::Group,
    repository::Repository,
};
use crate::model::{CommitId, Line};

/// Time that the process has to answer when it has got the whole archive: git may still compress it.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(10);

/// Maximum length of its answer, in bytes.
const MAX_ANSWER_BYTES: u64 = 64 * 1024;

/// Maximum length of its message for a user, in characters.
const MAX_MESSAGE_LEN: usize = 500;

/// The commit that is to be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewCommit {
    /// Its parent.
    pub parent: Option<CommitId>,
    /// Name of its author.
    pub author: String,
    /// Mail address of its author.
    pub mail: String,
    /// Its message.
    pub message: String,
    /// Time of the commit, in seconds since 1970.
    pub time: u64,
}

/// What the process is told before the bytes of the archive, as one line of JSON.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ImportRequest {
    pub(super) commit: NewCommit,
    /// Whether a folder in which all files are is left out.
    pub(super) strips_top_folder: bool,
    /// Maximum size of all files, in bytes.
    pub(super) max_bytes: u64,
    /// Maximum size of the pack of the new objects, in bytes.
    pub(super) max_pack_bytes: u64,
}

/// A commit that was made from an archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportedCommit {
    /// The commit.
    pub commit: CommitId,
    /// Number of its files.
    pub files: u64,
    /// The folder of the archive in which all its files are, and which is left out.
    pub top_folder: Option<String>,
    /// Number of the entries of folders `.git`, which are left out.
    pub left_out: u64,
}

/// Why the process made no commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum ImportFailure {
    /// The archive cannot be deployed: what is wrong, after "the archive".
    Archive(String),
    /// The pack is larger than allowed.
    PackTooLarge,
    /// git failed.
    Git(String),
}

/// How an archive is read.
#[derive(Debug, Clone, Copy)]
pub struct ImportOptions {
    /// Whether a folder in which all files are is left out.
    pub strips_top_folder: bool,
    /// Size of the archive as it is sent, in bytes.
    pub archive_bytes: u64,
    /// Size of the pack of its objects, in bytes.
    pub pack_bytes: u64,
}

impl Repository {
    /// Makes a commit of the files of a tar, which may be compressed with gzip. No ref leads to it: the caller protects the
    /// objects meanwhile. `None` if the pack is larger than allowed.
    pub async fn import(
        &self,
        group: &Group,
        commit: NewCommit,
        archive: &mut (dyn AsyncRead + Send + Unpin),
        options: ImportOptions,
    ) -> Result<Option<ImportedCommit>> {
        let max_bytes = self.repositories.max_source_bytes();
        let ImportOptions { strips_top_folder, pack_bytes: max_pack_bytes, archive_bytes } = options;
        let request = ImportRequest { commit, strips_top_folder, max_bytes, max_pack_bytes };
        let mut line = serde_json::to_vec(&request).map_err(|error| lost(&error.to_string()))?;
        line.push(b'\n');
        let mut command = self.repositories.child(self.repositories.program(), &self.path);
        command.arg("git-import").env("MIMALLOC_ARENA_EAGER_COMMIT", "0").stderr(Stdio::inherit());
        let (mut child, mut joining) = group.spawn(&mut command).map_err(GitError::Start)?;
        let mut running = RunningGroup::of(&child);
        let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(lost("has no pipes"));
        };
        joining.wait().await;
        let copy = async {
            let copied = async {
                stdin.write_all(&line).await?;
                let mut archive = archive.take(archive_bytes.saturating_add(1));
                tokio::io::copy(&mut archive, &mut stdin).await
            };
            let copied = copied.await;
            drop(stdin);
            copied
        };
        let receive = async {
            let mut answer = Vec::new();
            stdout.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
            Ok((child.wait().await?, answer))
        };
        tokio::pin!(receive);
        let sent = tokio::select! {
            // It has answered before it had the whole archive.
            ended = &mut receive => Err(ended),
            sent = copy => Ok(sent),
        };
        let sent = match sent {
            Ok(sent) => sent,
            Err(ended) => {
                running.has_ended();
                return self.answer(group, &answer_of(ended)?);
            }
        };
        match sent {
            Ok(sent) if sent > archive_bytes => return Err(GitError::ArchiveTooLarge(archive_bytes)),
            // A process that has ended reads no further; its answer tells why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                return Err(GitError::Archive(format!("was not received completely ({error}); send it again")));
            }
            Ok(_) | Err(_) => {}
        }
        let ended = tokio::time::timeout(ANSWER_TIMEOUT, receive).await;
        let ended = ended.map_err(|_| lost("did not respond in time"))?;
        running.has_ended();
        self.answer(group, &answer_of(ended)?)
    }

    fn answer(&self, group: &Group, answer: &[u8]) -> Result<Option<ImportedCommit>> {
        if let Some(exceeded) = group.exceeded() {
            return Err(GitError::Command { command: "import".to_owned(), message: exceeded.to_string() });
        }
        let answer: Result<ImportedCommit, ImportFailure> = serde_json::from_slice(answer).map_err(|error| {
            tracing::warn!(repository = %self.path.display(), %error, "the process that reads an archive failed");
            lost("sent an invalid response")
        })?;
        let shown = |text: &str| Line::sanitize(text).chars().take(MAX_MESSAGE_LEN).collect::<String>();
        match answer {
            Ok(made) => Ok(Some(ImportedCommit { top_folder: made.top_folder.as_deref().map(shown), ..made })),
            Err(ImportFailure::PackTooLarge) => Ok(None),
            Err(ImportFailure::Archive(message)) => Err(GitError::Archive(shown(&message))),
            Err(ImportFailure::Git(message)) => {
                Err(GitError::Command { command: "fast-import".to_owned(), message: shown(&message) })
            }
        }
    }
}

fn answer_of(ended: io::Result<(ExitStatus, Vec<u8>)>) -> Result<Vec<u8>> {
    let (status, answer) = ended.map_err(|error| lost(&error.to_string()))?;
    if status.success() { Ok(answer) } else { Err(lost(&format!("ended ({status})"))) }
}

/// The error of a process that gave no answer.
fn lost(reason: &str) -> GitError {
    GitError::Importer(reason.to_owned())
}

/// Kills a process group, with git's own children in it, unless its leader has ended and was waited for: its id may be another's
/// then.
pub(super) struct RunningGroup(Option<Pid>);

impl RunningGroup {
    /// That of a process which leads one.
    pub(super) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    pub(super) fn has_ended(&mut self) {
        self.0 = None;
    }
}

impl Drop for RunningGroup {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
