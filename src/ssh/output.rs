//! What a command writes, on its way to the client.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::{io::AsyncWrite, sync::mpsc};
use tokio_util::sync::PollSender;

/// The largest piece of data sent at once: every client takes as much, bytes.
const PIECE: usize = 32 * 1024;

/// One of a command's two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Output {
    Stdout,
    Stderr,
}

/// The writing end of an output. Both share one bounded queue, so what was written first arrives first.
pub(super) struct Writer {
    queue: PollSender<(Output, Bytes)>,
    output: Output,
    tty: bool,
    last: u8,
}

impl Writer {
    /// With `tty`, line ends become CRLF: the client's terminal is in raw mode.
    pub(super) fn new(queue: mpsc::Sender<(Output, Bytes)>, output: Output, tty: bool) -> Self {
        Self { queue: PollSender::new(queue), output, tty, last: 0 }
    }
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
        ready!(this.queue.poll_reserve(cx)).map_err(gone)?;
        let taken = &buf[..buf.len().min(if this.tty { PIECE / 2 } else { PIECE })];
        let data = if this.tty { crlf(taken, &mut this.last) } else { Bytes::copy_from_slice(taken) };
        this.queue.send_item((this.output, data)).map_err(gone)?;
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
    async fn line_ends_are_for_a_terminal_across_writes() {
        let (queue, mut sent) = mpsc::channel(8);
        let mut writer = Writer::new(queue, Output::Stdout, true);
        for text in ["a\nb\r", "\nc\n\n"] {
            writer.write_all(text.as_bytes()).await.unwrap();
        }
        drop(writer);
        let mut all = Vec::new();
        while let Some((_, data)) = sent.recv().await {
            all.extend_from_slice(&data);
        }
        assert_eq!(String::from_utf8(all).unwrap(), "a\r\nb\r\nc\r\n\r\n");
    }

    #[tokio::test]
    async fn pieces_are_small_and_a_lost_client_is_a_broken_pipe() {
        let (queue, mut sent) = mpsc::channel(8);
        let mut writer = Writer::new(queue, Output::Stderr, false);
        writer.write_all(&vec![1; 2 * PIECE]).await.unwrap();
        assert_eq!(sent.recv().await.unwrap().1.len(), PIECE);
        drop(sent);
        assert_eq!(writer.write_all(b"x").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
