//! Reads a repository through a process of its own, `paas git-reader`, which parses what users push; the server does not.

mod connection;
mod slot;
mod tar_stream;

use std::path::Path;

use super::{
    error::{GitError, Result, failed},
    filter::{InvalidPattern, key_and_patterns},
    groups::Group,
    protocol::{Answer, Failure, MAX_FILES, NoFile, RefState, Request},
    repository::Repository,
    source::Source,
};
use crate::model::{BranchName, CommitId, Files, Line, RefName};
use connection::Frame;
use slot::ProcessSlot;
use tar_stream::TarStream;

/// Reads a repository; cheap to clone. The process is started for the first request, serves all others, and ends when the
/// last clone is dropped. If a request fails or is cancelled in the middle, its process is killed, and the next request
/// starts another.
#[derive(Debug, Clone)]
pub struct Reader(ProcessSlot);

impl Repository {
    /// A reader of this repository.
    pub fn reader(&self) -> Reader {
        Reader(ProcessSlot::new(self.clone(), None))
    }

    /// A reader whose process is in the control group of a push.
    pub fn reader_in(&self, group: &Group) -> Reader {
        Reader(ProcessSlot::new(self.clone(), Some(group.clone())))
    }
}

impl Reader {
    /// Folder of the repository.
    pub fn path(&self) -> &Path {
        self.0.repository().path()
    }

    /// Starts the process, so that it is ready for the first request, which reports a failure.
    pub async fn start(&self) {
        if let Ok(connection) = self.0.take().await {
            self.0.keep(connection);
        }
    }

    /// The commit that a branch points to.
    pub async fn ref_value(&self, branch: &BranchName) -> Result<Option<CommitId>> {
        match self.ask(&Request::Ref { name: RefName::from(branch.clone()).full() }).await? {
            Answer::Id(id) => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the branch exists that a clone checks out.
    pub async fn has_head(&self) -> Result<bool> {
        match self.ask(&Request::Ref { name: "HEAD".to_owned() }).await? {
            Answer::Id(id) => Ok(id.is_some()),
            other => Err(unexpected(&other)),
        }
    }

    /// The states of refs, in the order of their names.
    pub async fn ref_states(&self, names: &[RefName]) -> Result<Vec<RefState>> {
        match self.ask(&Request::Refs { names: names.iter().map(RefName::full).collect() }).await? {
            Answer::Refs(states) if states.len() == names.len() => Ok(states),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether there is a tag of this name.
    pub async fn has_tag(&self, name: &str) -> Result<bool> {
        match self.ask(&Request::Ref { name: format!("refs/tags/{name}") }).await? {
            Answer::Id(id) => Ok(id.is_some()),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the repository has any ref.
    pub(super) async fn has_refs(&self) -> Result<bool> {
        self.ask_whether(&Request::HasRefs).await
    }

    /// Number of refs that clients see: branches, tags, and others that were pushed.
    pub(super) async fn ref_count(&self) -> Result<u64> {
        match self.ask(&Request::CountRefs).await? {
            Answer::Count(count) => Ok(count),
            other => Err(unexpected(&other)),
        }
    }

    /// The commit that `git fetch` has just fetched.
    pub(super) async fn fetched(&self) -> Result<CommitId> {
        match self.ask(&Request::Fetched).await? {
            Answer::Id(Some(id)) => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether the object exists and is a commit.
    pub async fn commit_exists(&self, commit: &CommitId) -> Result<bool> {
        self.ask_whether(&Request::IsCommit { id: commit.clone() }).await
    }

    /// The commit to which a tag, or a commit itself, leads; `None` if it leads to another object.
    pub async fn peeled(&self, id: &CommitId) -> Result<Option<CommitId>> {
        match self.ask(&Request::Peel { id: id.clone() }).await? {
            Answer::Id(id) => Ok(id),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether a commit has another one in its history; not, if both are the same.
    pub async fn descends(&self, commit: &CommitId, from: &CommitId) -> Result<bool> {
        self.ask_whether(&Request::Descends { commit: commit.clone(), from: from.clone() }).await
    }

    /// Records commits that a shallow clone has without their parents, and which it is about to push.
    pub async fn mark_shallow(&self, roots: &[CommitId]) -> Result<()> {
        match self.ask(&Request::MarkShallow { roots: roots.to_vec() }).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// Forgets what [`Self::mark_shallow`] has recorded in vain; no effect if nothing was. No push may run, and until then
    /// garbage must not be collected.
    pub async fn prune_shallow(&self) -> Result<()> {
        let file = self.0.repository().path().join("shallow");
        if !tokio::fs::try_exists(&file).await.map_err(failed("access", &file))? {
            return Ok(());
        }
        match self.ask(&Request::PruneShallow).await? {
            Answer::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }

    /// First paragraph of a commit's message on one line, without control characters and at most 200 characters long.
    pub async fn commit_summary(&self, commit: &CommitId) -> Result<String> {
        match self.ask(&Request::Subject { commit: commit.clone() }).await? {
            Answer::Subject(text) => Ok(Line::sanitize(&text)),
            other => Err(unexpected(&other)),
        }
    }

    /// Whether a commit has a folder.
    pub async fn has_folder(&self, commit: &CommitId, folder: &str) -> Result<bool> {
        self.ask_whether(&Request::HasFolder { commit: commit.clone(), folder: folder.to_owned() }).await
    }

    /// A file of a commit, or of a folder of it, which symbolic links do not leave; an error if the file is larger than `max`
    /// bytes.
    pub async fn read_file(
        &self,
        commit: &CommitId,
        folder: Option<&str>,
        path: &str,
        max: usize,
    ) -> Result<Result<Vec<u8>, NoFile>> {
        let (commit, folder, path) = (commit.clone(), folder.map(str::to_owned), path.to_owned());
        let mut connection = self.0.take().await?;
        let bytes = match connection.ask(&Request::File { commit, folder, path: path.clone(), max }).await? {
            Answer::File => match connection.receive().await? {
                Frame::Data(bytes) if bytes.len() <= max => Ok(Ok(bytes.into())),
                Frame::Data(_) => return Err(GitError::Reader("sent a file that is too long".to_owned())),
                Frame::Answer(other) => return Err(unexpected(&other)),
            },
            Answer::NoFile(none) => Ok(Err(none)),
            Answer::Failed(Failure::FileTooLarge) => Err(GitError::TooLarge { path, max }),
            Answer::Failed(failure) => Err(self.error_of(failure)),
            other => return Err(unexpected(&other)),
        };
        self.0.keep(connection);
        bytes
    }

    /// Those of the paths that are files of a commit.
    pub async fn files_among(&self, commit: &CommitId, paths: Vec<String>) -> Result<Vec<String>> {
        let asked = paths.clone();
        match self.ask(&Request::FilesAmong { commit: commit.clone(), paths }).await? {
            Answer::Paths(found) if found.iter().all(|path| asked.contains(path)) => Ok(found),
            other => Err(unexpected(&other)),
        }
    }

    /// The files of a commit as a tar: those that `files` selects, and with a `folder` only those below it.
    pub async fn source_tar(&self, commit: &CommitId, folder: Option<&str>, files: &Files) -> Result<Source> {
        let max_bytes = self.0.repository().repositories.max_source_bytes();
        let (commit, folder) = (commit.clone(), folder.map(str::to_owned));
        let request = Request::Source { commit, folder, files: files.clone(), max_bytes };
        let mut connection = self.0.take().await?;
        match connection.ask(&request).await? {
            Answer::Source { tree, warnings } => {
                let reader = TarStream::new(self.0.clone(), connection, max_bytes).into_reader();
                let warnings = warnings.iter().map(|warning| Line::sanitize(warning)).collect();
                Ok(Source { tree, reader, warnings })
            }
            Answer::Failed(failure) => {
                self.0.keep(connection);
                Err(match failure {
                    Failure::Pattern(message) => {
                        let (key, _) = key_and_patterns(files);
                        InvalidPattern { key, message: Line::sanitize(&message) }.into()
                    }
                    Failure::NothingSelected => GitError::NothingSelected(match files {
                        Files::Include(_) => "io.buildpacks.include in project.toml",
                        Files::All | Files::Exclude(_) => {
                            "io.buildpacks.exclude in project.toml, or the .dockerignore of a Dockerfile,"
                        }
                    }),
                    other => self.error_of(other),
                })
            }
            other => Err(unexpected(&other)),
        }
    }

    async fn ask_whether(&self, request: &Request) -> Result<bool> {
        match self.ask(request).await? {
            Answer::Is(answer) => Ok(answer),
            other => Err(unexpected(&other)),
        }
    }

    /// The answer to a request that gives no more than one.
    async fn ask(&self, request: &Request) -> Result<Answer> {
        let mut connection = self.0.take().await?;
        let answer = connection.ask(request).await?;
        self.0.keep(connection);
        match answer {
            Answer::Failed(failure) => Err(self.error_of(failure)),
            answer => Ok(answer),
        }
    }

    fn error_of(&self, failure: Failure) -> GitError {
        match failure {
            Failure::Unreadable(message) | Failure::Pattern(message) => GitError::Unreadable(Line::sanitize(&message)),
            Failure::Empty | Failure::NothingSelected => GitError::EmptyTree,
            Failure::NoFolder(folder) => GitError::NoSuchFolder(Line::excerpt(&folder)),
            Failure::Duplicate(path) => GitError::Duplicate(Line::excerpt(&path)),
            Failure::TooManyFiles => GitError::TooManyFiles(MAX_FILES),
            Failure::SourceTooLarge { bytes } => {
                GitError::SourceTooLarge { bytes, max: self.0.repository().repositories.max_source_bytes() }
            }
            Failure::PathTooLong(path) => GitError::PathTooLong(Line::excerpt(&path)),
            Failure::FileTooLarge => GitError::Unreadable("a file is too large".to_owned()),
        }
    }
}

/// The error of a process that gave an answer to another question.
fn unexpected(answer: &Answer) -> GitError {
    let text: String = Line::sanitize(&format!("{answer:?}")).chars().take(100).collect();
    GitError::Reader(format!("sent an unexpected answer ({text})"))
}
