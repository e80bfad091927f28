//! Why a build ends without an image.

use std::{io, path::Path};

use super::protocol::Phase;

/// A failed build.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(super) struct Failure {
    /// Phase in which the build failed.
    pub(super) phase: Phase,
    /// One line: what is wrong and what to do.
    pub(super) message: String,
}

impl Failure {
    pub(super) fn new(phase: Phase, message: impl Into<String>) -> Self {
        Self { phase, message: message.into() }
    }

    /// For `map_err`: an operation on a path failed.
    pub(super) fn io(phase: Phase, operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |e| Self::new(phase, format!("cannot {operation} {path}: {e}"))
    }
}
