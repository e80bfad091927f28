//! Streams of bytes and of progress lines.

use paas::model::Line;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::mpsc,
};

/// All lines that are sent until the sender is dropped.
pub async fn lines_of(mut lines: mpsc::Receiver<Line>) -> Vec<Line> {
    let mut all = Vec::new();
    while let Some(line) = lines.recv().await {
        all.push(line);
    }
    all
}

/// All bytes of a source.
pub async fn bytes(source: paas::git::Source) -> std::io::Result<Vec<u8>> {
    let (mut reader, mut bytes) = (source.reader, Vec::new());
    reader.read_to_end(&mut bytes).await?;
    Ok(bytes)
}

/// Writes bytes and leaves the stream open.
pub async fn feed(to: &mut (impl tokio::io::AsyncWrite + Unpin), bytes: &[u8]) {
    to.write_all(bytes).await.unwrap();
    to.flush().await.unwrap();
}
