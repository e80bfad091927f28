//! The Dockerfile in the source of an app.

use std::{fs, path::PathBuf};

use super::instructions::Dockerfile;
use crate::lifecycle::{
    dirs::Dirs,
    failure::Failure,
    files,
    protocol::{DockerfileRequest, Phase},
    text_files,
};

/// Largest Dockerfile, in bytes.
const MAX_BYTES: usize = 256 * 1024;

/// The Dockerfile of a source, ready for buildah.
pub(super) struct Source {
    pub(super) dockerfile: Dockerfile,
    /// Where buildah reads it.
    pub(super) path: PathBuf,
    /// The `.dockerignore` that belongs to this Dockerfile alone.
    pub(super) ignore_file: Option<PathBuf>,
}

impl Source {
    pub(super) fn read(dirs: &Dirs, request: &DockerfileRequest) -> Result<Self, Failure> {
        let wrong = |message: String| Failure::new(Phase::Prepare, format!("{}: {message}", request.dockerfile));
        // It may be a link, but not one that leads out of the source.
        let path = fs::canonicalize(dirs.workspace.join(&request.dockerfile));
        let path = path.map_err(|_| wrong("the app has no such file".to_owned()))?;
        if !path.starts_with(&dirs.workspace) {
            return Err(wrong("it is a link that leads out of the app".to_owned()));
        }
        let text = files::read_text(&path).map_err(wrong)?.unwrap_or_default();
        if text.len() > MAX_BYTES {
            return Err(wrong("it is larger than 256 KiB: shorten it, or move commands to scripts".to_owned()));
        }
        let dockerfile = Dockerfile::parse(&request.dockerfile, &text);
        let copy = dirs.tmp.join("Dockerfile");
        fs::write(&copy, dockerfile.text()).map_err(Failure::io(Phase::Prepare, "write", &copy))?;
        let ignore_file = dirs.workspace.join(format!("{}.dockerignore", request.dockerfile));
        for file in [&ignore_file, &dirs.workspace.join(".dockerignore")] {
            text_files::rewrite_as_utf8(file).map_err(Failure::io(Phase::Prepare, "rewrite", file))?;
        }
        Ok(Self { dockerfile, path: copy, ignore_file: Some(ignore_file).filter(|path| path.is_file()) })
    }
}
