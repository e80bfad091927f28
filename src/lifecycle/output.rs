//! Frames from the lifecycle to the server, on stdout, one at a time.

use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use super::protocol::{BlobHeader, BuildResult, Kind, MAX_FRAME, Phase, write_frame};
use crate::model::Line;

/// Writer of frames; cheap to clone.
#[derive(Clone)]
pub(super) struct Output(Arc<Mutex<Box<dyn io::Write + Send>>>);

impl Output {
    pub(super) fn new(to: impl io::Write + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(Box::new(to))))
    }

    fn frame(&self, kind: Kind, payload: &[u8]) -> io::Result<()> {
        let mut to = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        write_frame(&mut *to, kind, payload)?;
        to.flush()
    }

    /// Sends a line. Errors are ignored: a lost server is noticed where the input ends.
    pub(super) fn line(&self, line: &Line) {
        if let Ok(text) = serde_json::to_vec(line) {
            let _ = self.frame(Kind::Line, &text);
        }
    }

    pub(super) fn step(&self, text: impl Into<String>) {
        self.line(&Line::Step(text.into()));
    }

    pub(super) fn detail(&self, text: impl Into<String>) {
        self.line(&Line::Detail(text.into()));
    }

    pub(super) fn trouble(&self, text: impl Into<String>) {
        self.line(&Line::Trouble(text.into()));
    }

    /// Sends a line that a buildpack printed; lines in the grammar of a push keep their kind.
    pub(super) fn printed(&self, text: &str) {
        let text = Line::sanitize(text);
        let line = if let Some(rest) = text.strip_prefix("-----> ") {
            Line::Step(rest.to_owned())
        } else if let Some(rest) = text.strip_prefix("=====> ") {
            Line::Header(rest.to_owned())
        } else if let Some(rest) = text.strip_prefix(" !     ") {
            Line::Trouble(rest.to_owned())
        } else {
            Line::Detail(text.strip_prefix("       ").unwrap_or(&text).to_owned())
        };
        self.line(&line);
    }

    /// Sends a layer.
    pub(super) fn blob(&self, header: &BlobHeader, mut file: File) -> io::Result<()> {
        self.frame(Kind::Blob, &serde_json::to_vec(header)?)?;
        let mut buffer = vec![0; MAX_FRAME];
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                return Ok(());
            }
            self.frame(Kind::BlobData, &buffer[..length])?;
        }
    }

    /// Reports that the disk is visible.
    pub(super) fn ready(&self) -> io::Result<()> {
        self.frame(Kind::Ready, &[])
    }

    /// Sends the result; if it does not fit into a frame, an error that says so.
    pub(super) fn result(&self, result: &BuildResult) -> io::Result<()> {
        match self.frame(Kind::Result, &serde_json::to_vec(result)?) {
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                let (phase, message) = match result {
                    BuildResult::Built(_) => (
                        Phase::Export,
                        "the buildpacks' labels, metadata of layers and store.toml are together larger than 1 MiB: keep \
                         large data in files of a layer",
                    ),
                    BuildResult::Image(_) => (
                        Phase::Export,
                        "the labels, variables and commands of the image are together larger than 1 MiB: keep large data in \
                         files that the Dockerfile copies",
                    ),
                    BuildResult::Failed { phase, .. } => {
                        (*phase, "its reason is larger than 1 MiB: see the lines before this one")
                    }
                    BuildResult::Done | BuildResult::Fetched { .. } => {
                        (Phase::Export, "the result is larger than 1 MiB")
                    }
                };
                let failed = BuildResult::Failed { phase, message: message.to_owned() };
                self.frame(Kind::Result, &serde_json::to_vec(&failed)?)
            }
            other => other,
        }
    }
}
