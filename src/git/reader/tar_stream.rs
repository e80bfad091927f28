//! The tar that a process writes, as a stream of bytes.

use std::io;

use bytes::Bytes;
use tokio::io::AsyncRead;
use tokio_util::io::StreamReader;

use super::{
    connection::{Connection, Frame},
    slot::ProcessSlot,
};
use crate::{
    git::protocol::{Answer, MAX_FILES, MAX_PATHS_BYTES, Request, invalid},
    model::Line,
};

/// Maximum size of a tar without the contents of the files, in bytes: each has a header, and three blocks more if its path
/// or its target is long.
const MAX_HEADERS_BYTES: u64 = (MAX_FILES * 4096 + MAX_PATHS_BYTES) as u64;

/// A tar that is requested when its first byte is read.
pub(super) struct TarStream {
    slot: ProcessSlot,
    /// The process, until the tar has ended.
    connection: Option<Connection>,
    is_requested: bool,
    /// Number of bytes that may still follow.
    left: u64,
}

impl TarStream {
    /// The tar of the files that the process listed last; `max_bytes` is the size of their contents.
    pub(super) fn new(slot: ProcessSlot, connection: Connection, max_bytes: u64) -> Self {
        let left = max_bytes.saturating_add(MAX_HEADERS_BYTES);
        Self { slot, connection: Some(connection), is_requested: false, left }
    }

    pub(super) fn into_reader(self) -> Box<dyn AsyncRead + Send + Unpin> {
        let chunks = futures_util::stream::try_unfold(self, |mut tar| async move {
            Ok::<_, io::Error>(tar.next().await?.map(|bytes| (bytes, tar)))
        });
        Box::new(StreamReader::new(Box::pin(chunks)))
    }

    /// The next bytes; `None` at the end. After an error, or if this is cancelled, the process is killed.
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        let Some(mut connection) = self.connection.take() else { return Ok(None) };
        if !self.is_requested {
            self.is_requested = true;
            connection.send(&Request::Tar).await.map_err(io::Error::other)?;
        }
        match connection.receive().await.map_err(io::Error::other)? {
            Frame::Data(bytes) if !bytes.is_empty() && bytes.len() as u64 <= self.left => {
                self.left -= bytes.len() as u64;
                self.connection = Some(connection);
                Ok(Some(bytes))
            }
            Frame::Answer(Answer::TarEnd) => {
                self.slot.keep(connection);
                Ok(None)
            }
            Frame::Answer(Answer::Failed(failure)) => {
                self.slot.keep(connection);
                Err(io::Error::other(Line::sanitize(&failure.to_string())))
            }
            Frame::Data(_) | Frame::Answer(_) => {
                Err(invalid("the process that reads the repository sent no valid tar"))
            }
        }
    }
}

impl Drop for TarStream {
    fn drop(&mut self) {
        if let (Some(connection), false) = (self.connection.take(), self.is_requested) {
            self.slot.keep(connection);
        }
    }
}
