//! The session with the lifecycle in a build container. Nothing that it sends is trusted: every length and digest is
//! verified, and an image may only have layers that were sent now or that the app's previous image had.

use std::{
    collections::HashSet,
    io::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::{
    downloads::Downloads,
    error::BuildError,
    frames::{self, ContainerEvent, FrameError, Frames, SendError},
};
use crate::{
    engine::BuildContainer,
    images::{BlobStore, NewBlob},
    lifecycle::protocol::{BindingFile, BlobHeader, BuildResult, Kind, MAX_FRAME, Phase, Request},
    model::{Digest, Line},
    progress::Progress,
};

/// Maximum output of a build, in MiB.
pub(super) const MAX_OUTPUT_MIB: u64 = 64;
/// Maximum number of layers and downloads of a build; an image has at most 127 layers.
const MAX_BLOBS: usize = 4096;
/// Maximum length of a line on stderr, in bytes.
const MAX_STDERR_LINE_LEN: usize = 8 * 1024;
/// Time that a container has to send the rest of its output after it failed.
const LAST_OUTPUT_TIMEOUT: Duration = Duration::from_secs(5);

/// What a session needs besides the container.
pub(super) struct LifecycleSession<'a> {
    pub(super) blobs: &'a BlobStore,
    pub(super) downloads: &'a Downloads,
    pub(super) tasks: &'a TaskTracker,
    /// Where the new blobs are noted.
    pub(super) sent: &'a SentBlobs,
    /// Layers of the app's previous image and of offered images, which need not be sent.
    pub(super) known_layers: &'a HashSet<Digest>,
    /// Files of service bindings with their contents, as the request names them.
    pub(super) bindings: &'a [(BindingFile, &'a [u8])],
    pub(super) max_blob_bytes: u64,
    pub(super) progress: &'a Progress,
}

/// The blobs that a build sent and the store did not have; cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct SentBlobs(Arc<Mutex<Vec<NewBlob>>>);

impl SentBlobs {
    fn add(&self, new: NewBlob) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(new);
    }

    /// All so far.
    pub(super) fn take(&self) -> Vec<NewBlob> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What a container sent, besides blobs.
pub(super) struct Conversation {
    /// The result, if the container sent one.
    pub(super) result: Option<BuildResult>,
    /// Whether a line of output mentions a full disk.
    pub(super) disk_full_reported: bool,
    /// The last line on stderr.
    pub(super) last_stderr: String,
}

/// A layer or download that is being received; a thread hashes and writes it. If it is dropped, the thread gets too few
/// bytes and stores nothing.
struct IncomingBlob {
    header: BlobHeader,
    received: u64,
    bytes: mpsc::Sender<Bytes>,
    stored: JoinHandle<Result<(), BuildError>>,
}

impl IncomingBlob {
    fn begin(header: BlobHeader, session: &LifecycleSession<'_>) -> Self {
        let (bytes, mut incoming) = mpsc::channel::<Bytes>(8);
        let (blobs, downloads, announced) = (session.blobs.clone(), session.downloads.clone(), header.clone());
        let sent = session.sent.clone();
        let stored = session.tasks.spawn_blocking(move || {
            let BlobHeader { digest, size, download } = announced;
            let Some(checksum) = download else {
                let mut writer = blobs.writer()?;
                while let Some(bytes) = incoming.blocking_recv() {
                    writer.write(&bytes)?;
                }
                if let Some(new) = writer.finish(&digest, size)? {
                    sent.add(new);
                }
                return Ok(());
            };
            let mut file = downloads.writer()?;
            while let Some(bytes) = incoming.blocking_recv() {
                file.write_all(&bytes).map_err(BuildError::Source)?;
            }
            Ok(downloads.keep(file, &checksum)?)
        });
        Self { header, received: 0, bytes, stored }
    }

    /// Waits until it is verified and stored.
    async fn end(self) -> Result<Digest, BuildError> {
        drop(self.bytes);
        self.stored.await.map_err(|_| BuildError::ShuttingDown)??;
        Ok(self.header.digest)
    }
}

/// What has been received so far.
struct Received {
    conversation: Conversation,
    printed_bytes: u64,
    /// The unfinished line on stderr.
    stderr: Vec<u8>,
    blob: Option<IncomingBlob>,
    stored_layers: HashSet<Digest>,
    blob_bytes: u64,
    /// Number of layers and downloads.
    blobs: usize,
}

impl LifecycleSession<'_> {
    /// Sends request, bindings and source, and receives until the result, or until the container ends.
    pub(super) async fn run(
        &self,
        container: &mut BuildContainer,
        request: &Request,
        mut source: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<Conversation, BuildError> {
        let request = encode(request)?;
        let (stdin, output) = (&mut container.stdin, &mut container.output);
        let send = async {
            let head = async {
                frames::write(stdin, Kind::Request, &request).await?;
                for piece in self.bindings.iter().flat_map(|(_, content)| content.chunks(MAX_FRAME)) {
                    frames::write(stdin, Kind::Binding, piece).await?;
                }
                Ok::<_, std::io::Error>(())
            };
            let sent = match head.await {
                Ok(()) => frames::write_source(stdin, &mut source).await,
                Err(_) => Err(SendError::Container),
            };
            match sent {
                Err(SendError::Source(e)) => BuildError::Source(e),
                // If the container ended early, its output tells why; otherwise its result follows.
                Ok(()) | Err(SendError::Container) => std::future::pending().await,
            }
        };
        let mut frames = Frames::new(output);
        let mut received = tokio::select! {
            error = send => return Err(error),
            received = self.receive(&mut frames) => received?,
        };
        // The image is complete: nothing that the container may still print is worth waiting for.
        if received.conversation.result.as_ref().is_some_and(|result| !matches!(result, BuildResult::Failed { .. })) {
            self.flush_stderr(&mut received).await;
            return Ok(received.conversation);
        }
        // The lifecycle ends when its input ends; this fails if it has already ended.
        let _ = container.stdin.shutdown().await;
        let _ = tokio::time::timeout(LAST_OUTPUT_TIMEOUT, self.last_output(&mut frames, &mut received)).await;
        self.flush_stderr(&mut received).await;
        Ok(received.conversation)
    }

    /// Receives the rest of stderr: the engine does not keep the order between stdout and stderr, so lines printed
    /// before the result may arrive after it.
    async fn last_output(&self, frames: &mut Frames<'_>, received: &mut Received) -> Result<(), BuildError> {
        while let Ok(Some(event)) = frames.next().await {
            if let ContainerEvent::Stderr(bytes) = event {
                self.stderr(received, &bytes).await?;
            }
        }
        Ok(())
    }

    async fn receive(&self, frames: &mut Frames<'_>) -> Result<Received, BuildError> {
        let conversation = Conversation { result: None, disk_full_reported: false, last_stderr: String::new() };
        let mut received = Received {
            conversation,
            printed_bytes: 0,
            stderr: Vec::new(),
            blob: None,
            stored_layers: HashSet::new(),
            blob_bytes: 0,
            blobs: 0,
        };
        while let Some(event) = frames.next().await.map_err(|e| match e {
            FrameError::Engine(e) => BuildError::Engine(e),
            FrameError::Invalid(message) => BuildError::Protocol(message),
        })? {
            match event {
                ContainerEvent::Stderr(bytes) => self.stderr(&mut received, &bytes).await?,
                ContainerEvent::Frame(Kind::Line, payload) => {
                    received.count_output(payload.len())?;
                    let line = parse::<Line>(&payload)?;
                    received.notice_full_disk(line.as_text());
                    self.progress.line(line.sanitized()).await;
                }
                ContainerEvent::Frame(Kind::Blob, payload) => self.begin_blob(&mut received, parse(&payload)?).await?,
                ContainerEvent::Frame(Kind::BlobData, payload) => self.blob_data(&mut received, payload).await?,
                ContainerEvent::Frame(Kind::Result, payload) => {
                    let result = parse(&payload)?;
                    match &result {
                        BuildResult::Built(built) => {
                            self.check_layers(&received, built.layers.iter().map(|layer| &layer.digest))?;
                        }
                        BuildResult::Image(image) => {
                            self.check_layers(&received, image.layers.iter().map(|layer| &layer.digest))?;
                        }
                        BuildResult::Fetched { tar } => self.check_layers(&received, [tar].into_iter())?,
                        BuildResult::Done | BuildResult::Failed { .. } => {}
                    }
                    received.conversation.result = Some(result);
                    return Ok(received);
                }
                ContainerEvent::Frame(
                    Kind::Disk | Kind::Ready | Kind::Request | Kind::Binding | Kind::Source | Kind::SourceEnd,
                    _,
                ) => {
                    return Err(BuildError::Protocol("it sent a frame that it must not send in a build".to_owned()));
                }
            }
        }
        Ok(received)
    }

    async fn stderr(&self, received: &mut Received, bytes: &Bytes) -> Result<(), BuildError> {
        received.count_output(bytes.len())?;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = MAX_STDERR_LINE_LEN.saturating_sub(received.stderr.len());
            received.stderr.extend(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.flush_stderr(received).await;
            }
        }
        Ok(())
    }

    async fn flush_stderr(&self, received: &mut Received) {
        let line = Line::sanitize(String::from_utf8_lossy(&received.stderr).trim_end());
        received.stderr.clear();
        if !line.is_empty() {
            received.notice_full_disk(&line);
            received.conversation.last_stderr.clone_from(&line);
            self.progress.detail(line).await;
        }
    }

    async fn begin_blob(&self, received: &mut Received, header: BlobHeader) -> Result<(), BuildError> {
        if received.blob.is_some() {
            return Err(BuildError::Protocol("a layer started before the end of another".to_owned()));
        }
        received.blobs += 1;
        if received.blobs > MAX_BLOBS {
            return Err(BuildError::TooManyBlobs(MAX_BLOBS));
        }
        received.blob_bytes = received.blob_bytes.saturating_add(header.size);
        if received.blob_bytes > self.max_blob_bytes {
            return Err(BuildError::DiskFull(self.max_blob_bytes >> 20));
        }
        received.blob = Some(IncomingBlob::begin(header, self));
        self.blob_data(received, Bytes::new()).await
    }

    async fn blob_data(&self, received: &mut Received, data: Bytes) -> Result<(), BuildError> {
        let Some(mut blob) = received.blob.take() else {
            return Err(BuildError::Protocol("it sent data outside of a layer".to_owned()));
        };
        blob.received += data.len() as u64;
        if blob.received > blob.header.size {
            return Err(BuildError::Protocol("a layer is longer than announced".to_owned()));
        }
        let stopped = blob.bytes.send(data).await.is_err();
        if stopped || blob.received == blob.header.size {
            let is_layer = blob.header.download.is_none();
            let digest = blob.end().await?;
            if is_layer {
                received.stored_layers.insert(digest);
            }
        } else {
            received.blob = Some(blob);
        }
        Ok(())
    }

    /// Refuses an image with a layer that was neither sent nor in the app's previous image or an offered one: the layer may
    /// be another app's.
    fn check_layers<'a>(
        &self,
        received: &Received,
        mut layers: impl Iterator<Item = &'a Digest>,
    ) -> Result<(), BuildError> {
        let is_unknown =
            |layer: &&Digest| !received.stored_layers.contains(*layer) && !self.known_layers.contains(*layer);
        match layers.find(is_unknown) {
            None => Ok(()),
            Some(layer) => Err(BuildError::Protocol(format!("layer {layer} was not sent"))),
        }
    }
}

impl Received {
    fn count_output(&mut self, bytes: usize) -> Result<(), BuildError> {
        self.printed_bytes += bytes as u64;
        if self.printed_bytes > MAX_OUTPUT_MIB << 20 {
            return Err(BuildError::TooMuchOutput(MAX_OUTPUT_MIB));
        }
        Ok(())
    }

    fn notice_full_disk(&mut self, text: &str) {
        self.conversation.disk_full_reported |= is_full_disk(text);
    }
}

/// Whether a line says that a disk is full.
pub(super) fn is_full_disk(text: &str) -> bool {
    text.contains("No space left on device") || text.contains("ENOSPC")
}

/// The request, encoded as one frame. If it is too large, the app's settings are.
fn encode(request: &Request) -> Result<Vec<u8>, BuildError> {
    let bytes = serde_json::to_vec(request).map_err(|e| BuildError::Protocol(e.to_string()))?;
    if bytes.len() <= MAX_FRAME {
        return Ok(bytes);
    }
    let message = match request {
        Request::Dockerfile(_) => {
            "the config vars of the build, and the list of the layers of the images that the operator offers, are larger than \
             1 MiB together: keep large values in files of the app"
        }
        _ => {
            "the scripts and variables of project.toml and the config vars of the build are larger than 1 MiB together: keep \
             scripts in files of the app"
        }
    };
    Err(BuildError::Failed { phase: Phase::Prepare, message: message.to_owned() })
}

fn parse<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, BuildError> {
    serde_json::from_slice(payload).map_err(|e| BuildError::Protocol(e.to_string()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lifecycle::protocol::{BuildRequest, Target};

    #[test]
    fn a_request_larger_than_a_frame_is_refused() {
        let request = |value: String| {
            Request::Buildpacks(Box::new(BuildRequest {
                order: Vec::new(),
                env: BTreeMap::from([("A".to_owned(), value)]),
                project: serde_json::Value::Null,
                operator_env: BTreeMap::new(),
                stack_id: String::new(),
                target: Target::default(),
                previous: None,
                known_blobs: Vec::new(),
                skip_restore: false,
                previous_sbom_bytes: 0,
                bindings: Vec::new(),
            }))
        };
        assert!(encode(&request("x".repeat(1000))).is_ok());
        let error = encode(&request("x".repeat(2 << 20))).unwrap_err().to_string();
        assert!(error.contains("larger than 1 MiB"), "{error}");
    }
}
