//! Why a build fails.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{
    engine::{EngineError, disk::DiskError},
    images::ImageError,
    lifecycle::protocol::Phase,
    model::{AppName, ImageName, ImageReference},
};

/// Why a build made no image.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The app cannot be built as it is; the user has to fix it.
    #[error("{message}")]
    Failed {
        /// Phase that failed.
        phase: Phase,
        /// What is wrong and what to do.
        message: String,
    },
    /// The build exceeded its time limit.
    #[error("the build was stopped after {0} seconds; make it faster, or raise build.timeout_seconds in paas.toml")]
    TimedOut(u64),
    /// A process of the build was killed because it ran out of memory.
    #[error(
        "the build ran out of memory ({memory_mib} MiB); make it need less, or give it more: {}",
        .app.as_ref().map_or_else(
            || "build.memory_mib in paas.toml".to_owned(),
            |app| format!("resource:limit {app} --builds --memory {}m", 2 * memory_mib)
        )
    )]
    OutOfMemory {
        /// Its limit, in MiB.
        memory_mib: u64,
        /// The app that it is a build of; without one, the configuration limits it.
        app: Option<AppName>,
    },
    /// The build's disk is full.
    #[error(
        "the build ran out of disk space ({0} MiB, cache included; the cache is now empty): push again, make it need \
         less, or raise build.disk_mib in paas.toml"
    )]
    DiskFull(u64),
    /// The disk of the offered images is full.
    #[error(
        "there is no room for the image on the disk of the offered images ({0} MiB): withdraw others (images:withdraw)"
    )]
    OfferedStoreFull(u64),
    /// An image that is fetched is too large.
    #[error("the image is larger than {0} GiB; fetch a smaller one")]
    FetchedTooLarge(u64),
    /// The work on an image exceeded its time limit.
    #[error("the work on the image took more than {0} minutes and was stopped; try again")]
    ImageTimedOut(u64),
    /// The build printed too much.
    #[error("the build was stopped: it printed more than {0} MiB; make it print less")]
    TooMuchOutput(u64),
    /// The build sent too many layers and downloads.
    #[error("the build was stopped: it made more than {0} layers and downloads; make fewer of them")]
    TooManyBlobs(usize),
    /// The caller cancelled the build.
    #[error("the build was cancelled")]
    Cancelled,
    /// The disk is in use by another build, or cannot be mounted.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// Blobs cannot be stored, or do not make an image.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The source cannot be read.
    #[error("cannot read the source: {0}")]
    Source(#[source] io::Error),
    /// The container ended without a result.
    #[error("the build container ended without a result (exit code {code}); push again{}", last_output(.last))]
    Died {
        /// Exit code of the container.
        code: i64,
        /// Last line that it printed outside of the protocol.
        last: String,
    },
    /// The container broke the protocol, or sent false data.
    #[error("invalid response from the build container: {0}")]
    Protocol(String),
    /// Buildpacks are broken, or cannot be stored.
    #[error(transparent)]
    Buildpacks(#[from] BuildpacksError),
    /// A requested buildpack is not installed.
    #[error(
        "the buildpack {0} is not installed; buildpacks:installed lists those that are, buildpacks:install adds one"
    )]
    NoBuildpack(String),
    /// A script of the project descriptor is not a valid buildpack.
    #[error("project.toml, key {0}")]
    Inline(String),
    /// Two packages contain different buildpacks of one name.
    #[error("two different buildpacks are named {0}; remove one of them, or give it another version")]
    TwoOfOneName(String),
    /// A buildpack cannot be fetched from its source.
    #[error("cannot get the buildpack {from}: {reason}")]
    CannotFetch {
        /// Source of the buildpack.
        from: String,
        /// Reason.
        reason: String,
    },
    /// Only an admin may have a buildpack fetched from this source.
    #[error("cannot get the buildpack {from}: only an admin may name {what}; ask an admin to run buildpacks:install")]
    OnlyAdmins {
        /// Source of the buildpack.
        from: String,
        /// What it names.
        what: &'static str,
    },
    /// The reference of an image contains credentials.
    #[error("cannot pull {0}: the server pulls images without credentials; leave them and a query out of the address")]
    ImageCredentials(ImageReference),
    /// The engine does not have an image that is to be offered.
    #[error(
        "the engine has no image {0}; pull or load it there (docker pull {0}), or send it: images:offer {0} --archive"
    )]
    NotOnEngine(ImageName),
    /// An image that is to be offered belongs to an app or a stack.
    #[error("{0} is an image that paas itself made, which may contain an app; offer one of a registry, or of your own")]
    OwnImage(ImageName),
    /// The configured certificates are invalid, or cannot be stored.
    #[error("{0}")]
    CaBundle(#[source] io::Error),
    /// The list of packages of the run image cannot be written.
    #[error("cannot write the list of packages that the stack's run image has: {0}")]
    RunPackages(#[source] io::Error),
    /// The server is shutting down.
    #[error("the server is shutting down; push again in a moment")]
    ShuttingDown,
}

fn last_output(last: &str) -> String {
    if last.is_empty() { String::new() } else { format!(". Its last output: {last}") }
}

/// Why buildpacks, or downloads of builds, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildpacksError {
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
    /// The content of a file is invalid.
    #[error("{path}, {message}")]
    Invalid {
        /// Path of the file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A source contains no buildpack, or more than one.
    #[error("{0}")]
    Unusable(String),
}

impl BuildpacksError {
    /// The error of an operation on a file or folder, for `map_err`.
    pub(super) fn file(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { act, path, source }
    }
}
