//! Why the server cannot receive pushes.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::git::GitError;

/// Why receiving cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The hook's program or its socket cannot be set up.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// Attempted operation, as a verb.
        act: &'static str,
        /// Path of the file.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
}

impl ReceiveError {
    /// The error of an operation on a file, for `map_err`.
    pub(super) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { act, path, source }
    }
}
