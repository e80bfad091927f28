//! The source of a build: the tree of a commit as a tar.

use std::fmt;

use tokio::io::AsyncRead;

use crate::model::CommitId;

/// Files of a commit. Attributes are ignored and times are constant, so that the same tree always gives the same bytes.
pub struct Source {
    /// Object id of the tree; it identifies the bytes of the tar.
    pub tree: CommitId,
    /// The tar; ends with an error if the files cannot be read.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Warnings for the developer, one line each.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("tree", &self.tree).field("warnings", &self.warnings).finish_non_exhaustive()
    }
}
