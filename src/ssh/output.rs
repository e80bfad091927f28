//! The output of a command, on its way to the client.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{
    io::AsyncWrite,
    sync::{mpsc, watch},
};
use tokio_util::sync::PollSender;

/// Maximum size of a chunk, in bytes: every client accepts this much.
const MAX_CHUNK_BYTES: usize = 32 * 1024;

/// One of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OutputStream {
    Stdout,
    Stderr,
}

/// The writing end of an output. Both outputs share one bounded queue, so they arrive in the order in which they were
/// written.
pub(super) struct Writer {
    queue: PollSender<(OutputStream, Bytes)>,
    output: OutputStream,
    /// Of a terminal: whether a program has it.
    raw: Option<watch::Receiver<bool>>,
    last: u8,
}

impl Writer {
    /// To a terminal that no program has (`raw`), line ends are sent as CRLF: the client's terminal is in raw mode.
    pub(super) fn new(
        queue: mpsc::Sender<(OutputStream, Bytes)>,
        output: OutputStream,
        raw: Option<watch::Receiver<bool>>,
    ) -> Self {
        Self { queue: PollSender::new(queue), output, raw, last: 0 }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let disconnected = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(this.queue.poll_reserve(cx)).map_err(disconnected)?;
        let cooked = this.raw.as_ref().is_some_and(|raw| !*raw.borrow());
        let taken = &buf[..buf.len().min(if cooked { MAX_CHUNK_BYTES / 2 } else { MAX_CHUNK_BYTES })];
        let data = if cooked { crlf(taken, &mut this.last) } else { Bytes::copy_from_slice(taken) };
        this.queue.send_item((this.output, data)).map_err(disconnected)?;
        Poll::Ready(Ok(taken.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().queue.close();
        Poll::Ready(Ok(()))
    }
}

fn crlf(text: &[u8], last: &mut u8) -> Bytes {
    let mut data = Vec::with_capacity(text.len() + text.len() / 16 + 2);
    for &byte in text {
        if byte == b'\n' && *last != b'\r' {
            data.push(b'\r');
        }
        data.push(byte);
        *last = byte;
    }
    data.into()
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn line_ends_become_crlf_across_writes() {
        let (queue, mut sent) = mpsc::channel(8);
        let raw = watch::Sender::new(false);
        let mut writer = Writer::new(queue, OutputStream::Stdout, Some(raw.subscribe()));
        for text in ["a\nb\r", "\nc\n\n"] {
            writer.write_all(text.as_bytes()).await.unwrap();
        }
        raw.send_replace(true);
        writer.write_all(b"raw\n").await.unwrap();
        drop(writer);
        let mut all = Vec::new();
        while let Some((_, data)) = sent.recv().await {
            all.extend_from_slice(&data);
        }
        assert_eq!(String::from_utf8(all).unwrap(), "a\r\nb\r\nc\r\n\r\nraw\n");
    }

    #[tokio::test]
    async fn chunks_are_limited_and_a_lost_client_is_a_broken_pipe() {
        let (queue, mut sent) = mpsc::channel(8);
        let mut writer = Writer::new(queue, OutputStream::Stderr, None);
        writer.write_all(&vec![1; 2 * MAX_CHUNK_BYTES]).await.unwrap();
        assert_eq!(sent.recv().await.unwrap().1.len(), MAX_CHUNK_BYTES);
        drop(sent);
        assert_eq!(writer.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}

#[cfg(test)]
mod properties {
    use super::crlf;
    use crate::properties::{bytes_near, check, cuts, parts};

    #[test]
    fn line_ends_are_the_same_however_the_text_is_written() {
        check((bytes_near(&["a\nb\r\nc\n", "\n\n"]), cuts()), |(text, cuts)| {
            let cooked = |parts: &[&[u8]]| {
                let mut last = 0;
                parts.iter().flat_map(|part| crlf(part, &mut last)).collect::<Vec<_>>()
            };
            let whole = cooked(&[&text]);
            assert_eq!(cooked(&parts(&text, &cuts)), whole);
            assert!(whole.iter().enumerate().all(|(at, byte)| *byte != b'\n' || (at > 0 && whole[at - 1] == b'\r')));
        });
    }
}
