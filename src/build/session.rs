//! The conversation with the lifecycle in a build container. Nothing that it says is trusted: each length and digest is
//! verified, and a layer counts only if it was sent now or was the app's own before.

use std::{collections::HashSet, io::Write as _, time::Duration};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWriteExt},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::{
    BuildError, Downloads,
    frames::{self, CopyError, Event, FrameError, Frames},
};
use crate::{
    engine::BuildContainer,
    images::BlobStore,
    lifecycle::protocol::{BlobHeader, BuildRequest, BuildResult, Built, Kind, MAX_FRAME, Phase},
    model::{Digest, Line},
    progress::Progress,
};

/// The most that a build may print, in MiB.
pub(super) const MOST_OUTPUT_MIB: u64 = 64;
/// The longest line past the protocol.
const LONGEST_STDERR_LINE: usize = 8 * 1024;
/// How long a container has to end after it failed.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a conversation needs beside the container.
pub struct Session<'a> {
    pub blobs: &'a BlobStore,
    pub downloads: &'a Downloads,
    pub tasks: &'a TaskTracker,
    pub known: &'a HashSet<Digest>,
    pub most_blob_bytes: u64,
    pub progress: &'a Progress,
}

/// What was said.
pub struct Conversation {
    /// The result, if it came.
    pub result: Option<BuildResult>,
    /// Whether a line spoke of a full disk.
    pub said_disk_full: bool,
    /// The last line past the protocol.
    pub last_stderr: String,
}

/// A layer on its way: another thread hashes and writes it. When it is given up, that thread finds too few bytes and
/// leaves nothing.
struct Incoming {
    header: BlobHeader,
    received: u64,
    bytes: mpsc::Sender<Bytes>,
    stored: JoinHandle<Result<(), BuildError>>,
}

impl Incoming {
    fn begin(header: BlobHeader, session: &Session<'_>) -> Self {
        let (bytes, mut incoming) = mpsc::channel::<Bytes>(8);
        let (blobs, downloads, to_come) = (session.blobs.clone(), session.downloads.clone(), header.clone());
        let stored = session.tasks.spawn_blocking(move || {
            let BlobHeader { digest, size, download } = to_come;
            let Some(checksum) = download else {
                let mut writer = blobs.writer()?;
                while let Some(bytes) = incoming.blocking_recv() {
                    writer.write(&bytes)?;
                }
                return Ok(writer.finish(&digest, size)?);
            };
            let mut file = downloads.writer()?;
            while let Some(bytes) = incoming.blocking_recv() {
                file.write_all(&bytes).map_err(BuildError::Source)?;
            }
            Ok(downloads.keep(file, &checksum)?)
        });
        Self { header, received: 0, bytes, stored }
    }

    /// Waits until it is on disk, verified.
    async fn end(self) -> Result<Digest, BuildError> {
        drop(self.bytes);
        self.stored.await.map_err(|_| BuildError::ShuttingDown)??;
        Ok(self.header.digest)
    }
}

/// What has come so far.
struct Heard {
    conversation: Conversation,
    printed: u64,
    stderr: Vec<u8>,
    blob: Option<Incoming>,
    stored: HashSet<Digest>,
    blob_bytes: u64,
}

impl Session<'_> {
    /// Sends request and source, and listens until the result or the container's end.
    pub async fn run(
        &self,
        container: &mut BuildContainer,
        request: &BuildRequest,
        mut source: Box<dyn AsyncRead + Send + Unpin>,
    ) -> Result<Conversation, BuildError> {
        let request = encoded(request)?;
        let (stdin, output) = (&mut container.stdin, &mut container.output);
        let talk = async {
            let sent = match frames::write(stdin, Kind::Request, &request).await {
                Ok(()) => frames::write_source(stdin, &mut source).await,
                Err(_) => Err(CopyError::Container),
            };
            match sent {
                Err(CopyError::Source(e)) => BuildError::Source(e),
                // When the container ends early, what it says tells why; when all is sent, its answer is waited for.
                Ok(()) | Err(CopyError::Container) => std::future::pending().await,
            }
        };
        let mut frames = Frames::new(output);
        let mut heard = tokio::select! {
            error = talk => return Err(error),
            heard = self.listen(&mut frames) => heard?,
        };
        // All that counts of an image is here by now: its container has nothing more to say that is waited for.
        if matches!(heard.conversation.result, Some(BuildResult::Built(_))) {
            self.flush_stderr(&mut heard).await;
            return Ok(heard.conversation);
        }
        // The end of its input is the lifecycle's leave to go; one that is gone needs none.
        let _ = container.stdin.shutdown().await;
        let _ = tokio::time::timeout(FAREWELL, self.last_words(&mut frames, &mut heard)).await;
        self.flush_stderr(&mut heard).await;
        Ok(heard.conversation)
    }

    /// The engine keeps no order between the two streams: what was printed before the result may come after it.
    async fn last_words(&self, frames: &mut Frames<'_>, heard: &mut Heard) -> Result<(), BuildError> {
        while let Ok(Some(event)) = frames.next().await {
            if let Event::Stderr(bytes) = event {
                self.stderr(heard, &bytes).await?;
            }
        }
        Ok(())
    }

    async fn listen(&self, frames: &mut Frames<'_>) -> Result<Heard, BuildError> {
        let conversation = Conversation { result: None, said_disk_full: false, last_stderr: String::new() };
        let mut heard =
            Heard { conversation, printed: 0, stderr: Vec::new(), blob: None, stored: HashSet::new(), blob_bytes: 0 };
        while let Some(event) = frames.next().await.map_err(|e| match e {
            FrameError::Engine(e) => BuildError::Engine(e),
            FrameError::Invalid(message) => BuildError::Protocol(message),
        })? {
            match event {
                Event::Stderr(bytes) => self.stderr(&mut heard, &bytes).await?,
                Event::Frame(Kind::Line, payload) => {
                    heard.count(payload.len())?;
                    let line = parse::<Line>(&payload)?;
                    heard.notice(text_of(&line));
                    self.progress.line(sanitized(&line)).await;
                }
                Event::Frame(Kind::Blob, payload) => self.begin_blob(&mut heard, parse(&payload)?).await?,
                Event::Frame(Kind::BlobData, payload) => self.blob_data(&mut heard, payload).await?,
                Event::Frame(Kind::Result, payload) => {
                    let result = parse(&payload)?;
                    if let BuildResult::Built(built) = &result {
                        self.check(&heard, built)?;
                    }
                    heard.conversation.result = Some(result);
                    return Ok(heard);
                }
                Event::Frame(Kind::Disk | Kind::Ready | Kind::Request | Kind::Source | Kind::SourceEnd, _) => {
                    return Err(BuildError::Protocol("it sent what has no place in a build".to_owned()));
                }
            }
        }
        Ok(heard)
    }

    async fn stderr(&self, heard: &mut Heard, bytes: &Bytes) -> Result<(), BuildError> {
        heard.count(bytes.len())?;
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = LONGEST_STDERR_LINE.saturating_sub(heard.stderr.len());
            heard.stderr.extend(&piece[..piece.len().min(room)]);
            if piece.ends_with(b"\n") {
                self.flush_stderr(heard).await;
            }
        }
        Ok(())
    }

    async fn flush_stderr(&self, heard: &mut Heard) {
        let line = Line::sanitize(String::from_utf8_lossy(&heard.stderr).trim_end());
        heard.stderr.clear();
        if !line.is_empty() {
            heard.notice(&line);
            heard.conversation.last_stderr.clone_from(&line);
            self.progress.detail(line).await;
        }
    }

    async fn begin_blob(&self, heard: &mut Heard, header: BlobHeader) -> Result<(), BuildError> {
        if heard.blob.is_some() {
            return Err(BuildError::Protocol("a layer began within another".to_owned()));
        }
        heard.blob_bytes = heard.blob_bytes.saturating_add(header.size);
        if heard.blob_bytes > self.most_blob_bytes {
            return Err(BuildError::DiskFull(self.most_blob_bytes >> 20));
        }
        heard.blob = Some(Incoming::begin(header, self));
        self.blob_data(heard, Bytes::new()).await
    }

    async fn blob_data(&self, heard: &mut Heard, data: Bytes) -> Result<(), BuildError> {
        let Some(mut blob) = heard.blob.take() else {
            return Err(BuildError::Protocol("data came without a layer".to_owned()));
        };
        blob.received += data.len() as u64;
        if blob.received > blob.header.size {
            return Err(BuildError::Protocol("a layer is longer than announced".to_owned()));
        }
        let refused = blob.bytes.send(data).await.is_err();
        if refused || blob.received == blob.header.size {
            let is_layer = blob.header.download.is_none();
            let digest = blob.end().await?;
            if is_layer {
                heard.stored.insert(digest);
            }
        } else {
            heard.blob = Some(blob);
        }
        Ok(())
    }

    /// A layer that the app never had may be another app's: its digest alone gives no right to it.
    fn check(&self, heard: &Heard, built: &Built) -> Result<(), BuildError> {
        let foreign = built
            .layers
            .iter()
            .find(|layer| !heard.stored.contains(&layer.digest) && !self.known.contains(&layer.digest));
        match foreign {
            None => Ok(()),
            Some(layer) => Err(BuildError::Protocol(format!("layer {} was not sent", layer.digest))),
        }
    }
}

impl Heard {
    fn count(&mut self, bytes: usize) -> Result<(), BuildError> {
        self.printed += bytes as u64;
        if self.printed > MOST_OUTPUT_MIB << 20 {
            return Err(BuildError::TooMuchOutput(MOST_OUTPUT_MIB));
        }
        Ok(())
    }

    fn notice(&mut self, text: &str) {
        self.conversation.said_disk_full |= text.contains("No space left on device") || text.contains("ENOSPC");
    }
}

/// The request as one frame. What makes it too large is the app's own.
fn encoded(request: &BuildRequest) -> Result<Vec<u8>, BuildError> {
    let bytes = serde_json::to_vec(request).map_err(|e| BuildError::Protocol(e.to_string()))?;
    if bytes.len() <= MAX_FRAME {
        return Ok(bytes);
    }
    let message = "the scripts and variables of project.toml and the config vars of the build are larger than 1 MiB \
                   together: keep scripts in files of the app"
        .to_owned();
    Err(BuildError::Failed { phase: Phase::Prepare, message })
}

fn parse<T: serde::de::DeserializeOwned>(payload: &[u8]) -> Result<T, BuildError> {
    serde_json::from_slice(payload).map_err(|e| BuildError::Protocol(e.to_string()))
}

fn text_of(line: &Line) -> &str {
    match line {
        Line::Step(text) | Line::Header(text) | Line::Detail(text) | Line::Trouble(text) => text,
    }
}

fn sanitized(line: &Line) -> Line {
    let clean = Line::sanitize(text_of(line));
    match line {
        Line::Step(_) => Line::Step(clean),
        Line::Header(_) => Line::Header(clean),
        Line::Detail(_) => Line::Detail(clean),
        Line::Trouble(_) => Line::Trouble(clean),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::lifecycle::protocol::Target;

    #[test]
    fn a_request_that_fits_no_frame_is_refused() {
        let request = |value: String| BuildRequest {
            order: Vec::new(),
            env: BTreeMap::from([("A".to_owned(), value)]),
            project: serde_json::Value::Null,
            operator_env: BTreeMap::new(),
            stack_id: String::new(),
            target: Target::default(),
            previous: None,
            known_blobs: Vec::new(),
        };
        assert!(encoded(&request("x".repeat(1000))).is_ok());
        let error = encoded(&request("x".repeat(2 << 20))).unwrap_err().to_string();
        assert!(error.contains("larger than 1 MiB"), "{error}");
    }
}
