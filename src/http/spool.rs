//! Bodies of requests: JSON is small and in memory, files are spooled to a disk.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    body::{Body, Bytes},
    http::StatusCode,
};
use http_body_util::BodyExt as _;
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncSeekExt as _, AsyncWriteExt as _},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::problem::Problem;
use crate::{
    config::Config,
    operations::{self, Failure, FailureKind, SentFile},
};

/// Maximum size of a JSON text, in bytes.
const MAX_JSON_BYTES: u64 = 2 << 20;

/// Time within which the next part of a body must come.
const PART_TIMEOUT: Duration = Duration::from_secs(30);

/// Files that are received at a time.
const MAX_FILES: usize = 8;

/// Where files are received.
pub(super) struct Spool {
    folder: PathBuf,
    max_bytes: u64,
    slots: Arc<Semaphore>,
}

/// A file that was received.
pub(super) struct Received {
    pub(super) file: SentFile,
    pub(super) sha256: [u8; 32],
}

impl Spool {
    /// Files have no name, so nothing is left of them when the server ends.
    pub(super) async fn open(config: &Config) -> operations::Result<Self> {
        let folder = config.data_dir.join("uploads");
        let created = tokio::fs::create_dir_all(&folder).await;
        created.map_err(|error| {
            Failure::new(FailureKind::Internal, format!("cannot create {}: {error}", folder.display()))
        })?;
        let max_bytes = config.http.max_upload_mib.saturating_mul(1 << 20);
        Ok(Self { folder, max_bytes, slots: Arc::new(Semaphore::new(MAX_FILES)) })
    }

    /// Receives a file to its end.
    pub(super) async fn receive(&self, body: Body) -> Result<Received, Problem> {
        let slot = Arc::clone(&self.slots).try_acquire_owned().map_err(|_| {
            let text = "the server receives as many files as it can; try again later";
            let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, FailureKind::Unavailable, text);
            Problem { retry_after: Some(5), ..problem }
        })?;
        let failed = |error: std::io::Error| {
            Problem::from(Failure::new(FailureKind::Unavailable, format!("cannot store the file: {error}")))
        };
        let folder = self.folder.clone();
        let file = tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await;
        let file = file.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)?;
        let (mut file, mut hash) = (tokio::fs::File::from_std(file), Sha256::new());
        let mut parts = Parts { body, left: self.max_bytes, max: self.max_bytes };
        while let Some(part) = parts.next().await? {
            hash.update(&part);
            file.write_all(&part).await.map_err(failed)?;
        }
        file.flush().await.map_err(failed)?;
        file.rewind().await.map_err(failed)?;
        Ok(Received { file: SentFile::new(Box::new(Held { file, _slot: slot })), sha256: hash.finalize().into() })
    }
}

/// A file, whose slot is taken until it is read.
struct Held {
    file: tokio::fs::File,
    _slot: OwnedSemaphorePermit,
}

impl tokio::io::AsyncRead for Held {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.file).poll_read(context, buffer)
    }
}

/// Reads a JSON text to its end.
pub(super) async fn json_text(body: Body) -> Result<Vec<u8>, Problem> {
    let mut parts = Parts { body, left: MAX_JSON_BYTES, max: MAX_JSON_BYTES };
    let mut text = Vec::new();
    while let Some(part) = parts.next().await? {
        text.extend_from_slice(&part);
    }
    Ok(text)
}

/// The parts of a body, within its limit.
struct Parts {
    body: Body,
    left: u64,
    max: u64,
}

impl Parts {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = tokio::time::timeout(PART_TIMEOUT, self.body.frame()).await.map_err(|_| {
                let text = "the body did not come within 30 seconds; send the request again";
                Problem::new(StatusCode::REQUEST_TIMEOUT, FailureKind::Invalid, text)
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    FailureKind::Invalid,
                    "the body is not complete; send the request again",
                )
            })?;
            // Trailers say nothing.
            let Ok(data) = frame.into_data() else { continue };
            self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| {
                let text = format!("the body has more than {} MiB; send less", self.max >> 20);
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, FailureKind::Invalid, &text)
            })?;
            return Ok(Some(data));
        }
    }
}
