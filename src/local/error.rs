//! Why a build without a server fails.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    build::{BuildError, BuildpacksError},
    config::ConfigError,
    engine::EngineError,
    git::GitError,
    images::ImageError,
    model::{InvalidProjectToml, ProcfileError},
    store::StoreError,
};

/// Why a command that needs no server fails.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// A file or folder cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// Attempted operation, as a verb.
        act: &'static str,
        /// Path of the file or folder.
        path: PathBuf,
        /// Error of the operating system.
        source: io::Error,
    },
    /// Another process builds in the same data folder.
    #[error("another paas build runs in {0}: wait for it, or build in another folder (XDG_CACHE_HOME)")]
    Running(PathBuf),
    /// The process was interrupted.
    #[error("interrupted")]
    Interrupted,
    /// The input is wrong; with what to do.
    #[error("{0}")]
    Wrong(String),
    /// The project descriptor is invalid.
    #[error(transparent)]
    Project(#[from] InvalidProjectToml),
    /// The `Procfile` is invalid.
    #[error(transparent)]
    Procfile(#[from] ProcfileError),
    /// Buildpacks are broken, or cannot be stored.
    #[error(transparent)]
    Buildpacks(#[from] BuildpacksError),
    /// The build failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image store failed.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// git failed.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) type Result<T, E = LocalError> = std::result::Result<T, E>;

impl LocalError {
    /// The error of an operation on a file or folder, for `map_err`.
    pub(super) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { act, path, source }
    }
}
