//! Errors of git and of repositories.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::filter::InvalidPattern;
use crate::model::{Address, mib};

/// Why an operation of git, or on a repository, failed.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The user that git runs as has no access to the repositories.
    #[error(
        "git runs as user {user}, which may not enter {folder}: allow all users to enter its parent folders (chmod o+x), \
         or move paas's data (data_dir in paas.toml; XDG_CACHE_HOME for paas build)"
    )]
    NoEntry {
        /// User id.
        user: u32,
        /// Folder of the repositories.
        folder: PathBuf,
    },
    /// git cannot be run.
    #[error("cannot run git: {0}; install it with `apt-get install git`")]
    Start(#[source] io::Error),
    /// git is too old.
    #[error("{0} is too old: 2.29 or newer is needed")]
    TooOld(String),
    /// A git command failed.
    #[error("git {command} failed: {message}")]
    Command {
        /// First argument of the command.
        command: String,
        /// git's error message, on one line.
        message: String,
    },
    /// A file operation failed.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// Operation.
        act: &'static str,
        /// File or folder.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The output of git cannot be parsed.
    #[error("unexpected output of git: {0:?}")]
    Unexpected(String),
    /// The commit has no files.
    #[error("the pushed commit has no files; add some, commit and push again")]
    EmptyTree,
    /// The patterns of the app select none of the commit's files; the first part says which.
    #[error("{0} leaves no file of the pushed commit; change its patterns, commit and push again")]
    NothingSelected(&'static str),
    /// A remote repository cannot be fetched.
    #[error("cannot fetch {url}: {message}; check the URL, and that it can be read without a password")]
    Fetch {
        /// URL.
        url: Address,
        /// git's error message, without credentials of the URL.
        message: String,
    },
    /// A pattern that selects files is invalid.
    #[error(transparent)]
    Pattern(#[from] InvalidPattern),
    /// A repository is damaged, or lacks an object.
    #[error("cannot read the repository: {0}")]
    Unreadable(String),
    /// The process that reads a repository ended, is stuck, or breaks its protocol.
    #[error("the process that reads the repository {0}; try again")]
    Reader(String),
    /// An archive cannot be deployed: what is wrong, after "the archive".
    #[error("the archive {0}")]
    Archive(String),
    /// An archive is larger than a push may be.
    #[error(
        "the archive is larger than {} (git.max_push_bytes); leave out what the app does not need, such as .git and node_modules",
        mib(*.0)
    )]
    ArchiveTooLarge(u64),
    /// The process that makes a commit from an archive ended, is stuck, or breaks its protocol.
    #[error("the process that reads the archive {0}; try again")]
    Importer(String),
    /// The commit does not have the folder.
    #[error("the pushed commit has no folder {0:?}")]
    NoSuchFolder(String),
    /// Two entries of a folder have the same name, which only a broken tool makes.
    #[error("the pushed commit has {0:?} twice; remove both (git rm --cached), add the right one and commit")]
    Duplicate(String),
    /// The commit has so many files that listing them would exhaust the machine.
    #[error("the pushed commit has more than {0} files or folders; remove those that the app does not need")]
    TooManyFiles(usize),
    /// The files do not fit onto a build disk.
    #[error(
        "the files of the pushed commit take {} MiB, but a build disk has {} MiB (build.disk_mib); remove those that the app \
         does not need", bytes >> 20, max >> 20
    )]
    SourceTooLarge {
        /// Size of all files, in bytes.
        bytes: u64,
        /// Limit, in bytes.
        max: u64,
    },
    /// A path, or the target of a symbolic link, is longer than Linux allows.
    #[error("the path {0:?}…, or the target of this symbolic link, is longer than 4095 bytes")]
    PathTooLong(String),
    /// A file that the server reads is too large.
    #[error("{path} is larger than {max} bytes; shorten it")]
    TooLarge {
        /// File.
        path: String,
        /// Limit, in bytes.
        max: usize,
    },
}

pub(super) type Result<T, E = GitError> = std::result::Result<T, E>;

/// Makes the error of a failed file operation.
pub(super) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> GitError {
    let path = path.to_owned();
    move |source| GitError::File { act, path, source }
}
