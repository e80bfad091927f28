//! Errors of the image store.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::model::Digest;

/// Why an operation on images or stacks failed.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
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
    /// A received layer does not have the announced digest and size.
    #[error(
        "a layer was announced as {expected} with {expected_size} bytes, but {actual} with {actual_size} bytes was received"
    )]
    Mismatch {
        /// Announced digest.
        expected: Digest,
        /// Announced size, in bytes.
        expected_size: u64,
        /// Digest of the received bytes.
        actual: Digest,
        /// Size of the received bytes.
        actual_size: u64,
    },
    /// A blob of an image is not in the blob store.
    #[error("blob {0} is missing from the blob store")]
    Missing(Digest),
    /// A document of an image cannot be parsed.
    #[error("invalid image {what} in blob {digest}: {source}")]
    InvalidDocument {
        /// Blob with the document.
        digest: Digest,
        /// Kind of the document.
        what: &'static str,
        /// Cause.
        source: serde_json::Error,
    },
    /// An image archive is invalid or hostile.
    #[error("invalid image archive: {0}")]
    Archive(String),
    /// An image cannot get the launcher.
    #[error("{0}")]
    NotLaunchable(String),
    /// A layer of an image is not a tar.
    #[error("layer {layer} is not a complete tar: {source}")]
    Layer {
        /// Layer.
        layer: Digest,
        /// Cause.
        source: io::Error,
    },
    /// An image is not based on the expected run image.
    #[error("the image is not based on run image {0}; push again, or run ps:rebuild")]
    NotOnBase(Digest),
    /// The definition of a stack is invalid.
    #[error("invalid stack definition: {0}")]
    Definition(String),
    /// The images of a stack cannot be created.
    #[error("cannot create stack {stack}: {reason}")]
    Stack {
        /// Stack.
        stack: String,
        /// Cause, and what to do.
        reason: String,
    },
}

pub(super) type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Makes the error of a failed file operation.
pub(super) fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::File { act, path, source }
}
