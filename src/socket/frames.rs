//! The frames of the local socket: a kind (one byte), a length (four bytes), and that many bytes.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use futures_util::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::unix::{OwnedReadHalf, OwnedWriteHalf},
    sync::{mpsc, watch},
};
use tokio_util::{
    codec::{Decoder, Encoder, FramedRead, FramedWrite},
    sync::{CancellationToken, PollSender},
};

use crate::model::TerminalSize;

/// Maximum size of a frame, in bytes: enough for every command that SSH allows, too.
const MAX_FRAME_BYTES: usize = 256 * 1024;
/// Maximum size of a chunk of data, in bytes.
const MAX_CHUNK_BYTES: usize = 32 * 1024;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Request {
        words: Vec<String>,
        terminal: Option<RequestTerminal>,
    },
    /// New size of the client's terminal.
    Resize(TerminalSize),
    /// Whether the client's terminal is to be in raw mode, since a program has it.
    Raw(bool),
    Stdin(Bytes),
    StdinEnd,
    Hangup,
    Stdout(Bytes),
    Stderr(Bytes),
    Exit(u8),
}

#[derive(Serialize, Deserialize)]
struct Request {
    words: Vec<String>,
    terminal: Option<RequestTerminal>,
}

/// The terminal of a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RequestTerminal {
    pub(super) name: String,
    pub(super) columns: u16,
    pub(super) rows: u16,
}

pub(super) struct Codec;

impl Encoder<Frame> for Codec {
    type Error = io::Error;

    fn encode(&mut self, frame: Frame, to: &mut BytesMut) -> io::Result<()> {
        let (kind, body) = match frame {
            Frame::Request { words, terminal } => {
                (b'R', Bytes::from(serde_json::to_vec(&Request { words, terminal })?))
            }
            Frame::Resize(TerminalSize { columns, rows }) => {
                (b'S', Bytes::from([columns.to_be_bytes(), rows.to_be_bytes()].concat()))
            }
            Frame::Raw(raw) => (b'M', Bytes::copy_from_slice(&[u8::from(raw)])),
            Frame::Stdin(data) => (b'I', data),
            Frame::StdinEnd => (b'D', Bytes::new()),
            Frame::Hangup => (b'H', Bytes::new()),
            Frame::Stdout(data) => (b'O', data),
            Frame::Stderr(data) => (b'E', data),
            Frame::Exit(status) => (b'X', Bytes::copy_from_slice(&[status])),
        };
        if body.len() > MAX_FRAME_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the command is too long: send long values on standard input",
            ));
        }
        to.put_u8(kind);
        to.put_u32(u32::try_from(body.len()).map_err(io::Error::other)?);
        to.put_slice(&body);
        Ok(())
    }
}

impl Decoder for Codec {
    type Item = Frame;
    type Error = io::Error;

    fn decode(&mut self, from: &mut BytesMut) -> io::Result<Option<Frame>> {
        let invalid = |what| io::Error::new(io::ErrorKind::InvalidData, what);
        let Some(&[kind, a, b, c, d]) = from.first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes([a, b, c, d]) as usize;
        if length > MAX_FRAME_BYTES {
            return Err(invalid("frame too long"));
        }
        if from.len() < 5 + length {
            from.reserve(5 + length - from.len());
            return Ok(None);
        }
        from.advance(5);
        let body = from.split_to(length).freeze();
        Ok(Some(match kind {
            b'R' => {
                let Request { words, terminal } = serde_json::from_slice(&body)?;
                Frame::Request { words, terminal }
            }
            b'S' => match body[..] {
                [a, b, c, d] => Frame::Resize(TerminalSize {
                    columns: u16::from_be_bytes([a, b]),
                    rows: u16::from_be_bytes([c, d]),
                }),
                _ => return Err(invalid("invalid size of a terminal")),
            },
            b'M' => Frame::Raw(body[..] == [1]),
            b'I' => Frame::Stdin(body),
            b'D' => Frame::StdinEnd,
            b'H' => Frame::Hangup,
            b'O' => Frame::Stdout(body),
            b'E' => Frame::Stderr(body),
            b'X' => Frame::Exit(*body.first().ok_or_else(|| invalid("empty exit status"))?),
            _ => return Err(invalid("unknown frame")),
        }))
    }
}

pub(super) async fn next(from: &mut FramedRead<OwnedReadHalf, Codec>) -> io::Result<Option<Frame>> {
    from.next().await.transpose()
}

pub(super) async fn send(to: &mut FramedWrite<OwnedWriteHalf, Codec>, frame: Frame) -> io::Result<()> {
    to.send(frame).await
}

/// Passes standard input to the command until the client hangs up. Once the command has closed its input, further data is
/// discarded.
pub(super) async fn receive(
    from: &mut FramedRead<OwnedReadHalf, Codec>,
    input: mpsc::Sender<Bytes>,
    size: Option<&watch::Sender<TerminalSize>>,
    hangup: &CancellationToken,
) {
    let mut input = Some(input);
    loop {
        match next(from).await {
            Ok(Some(Frame::Stdin(data))) => {
                if let Some(open) = &input
                    && open.send(data).await.is_err()
                {
                    input = None;
                }
            }
            Ok(Some(Frame::Resize(new))) => {
                if let Some(size) = size {
                    size.send_replace(new);
                }
            }
            Ok(Some(Frame::StdinEnd)) => input = None,
            _ => return hangup.cancel(),
        }
    }
}

/// A command's standard input.
pub(super) struct Reader {
    queue: mpsc::Receiver<Bytes>,
    rest: Bytes,
}

impl Reader {
    pub(super) fn new(queue: mpsc::Receiver<Bytes>) -> Self {
        Self { queue, rest: Bytes::new() }
    }
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.rest.is_empty() {
            match ready!(this.queue.poll_recv(cx)) {
                Some(data) => this.rest = data,
                None => return Poll::Ready(Ok(())),
            }
        }
        let length = buf.remaining().min(this.rest.len());
        buf.put_slice(&this.rest.split_to(length));
        Poll::Ready(Ok(()))
    }
}

/// One of a command's two outputs.
pub(super) struct Writer {
    queue: PollSender<Frame>,
    frame: fn(Bytes) -> Frame,
}

impl Writer {
    pub(super) fn new(queue: mpsc::Sender<Frame>, frame: fn(Bytes) -> Frame) -> Self {
        Self { queue: PollSender::new(queue), frame }
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
        let taken = &buf[..buf.len().min(MAX_CHUNK_BYTES)];
        this.queue.send_item((this.frame)(Bytes::copy_from_slice(taken))).map_err(disconnected)?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn terminal() -> RequestTerminal {
        RequestTerminal { name: "xterm".to_owned(), columns: 80, rows: 24 }
    }

    #[test]
    fn frames_are_decoded_and_garbage_is_refused() {
        let mut wire = BytesMut::new();
        let frames = || {
            [
                Frame::Request { words: vec!["a b".to_owned(), "ü".to_owned()], terminal: Some(terminal()) },
                Frame::Resize(TerminalSize { columns: 300, rows: 2 }),
                Frame::Raw(true),
                Frame::Stdin(Bytes::from_static(b"x")),
                Frame::StdinEnd,
                Frame::Hangup,
                Frame::Stdout(Bytes::new()),
                Frame::Stderr(Bytes::from_static(b"\0\xff")),
                Frame::Exit(255),
            ]
        };
        for frame in frames() {
            Codec.encode(frame, &mut wire).unwrap();
        }
        let mut partial = BytesMut::new();
        let mut read = Vec::new();
        for byte in wire {
            partial.put_u8(byte);
            read.extend(Codec.decode(&mut partial).unwrap());
        }
        assert_eq!(read, frames());
        for garbage in [&b"Z\0\0\0\0"[..], b"O\xff\xff\xff\xff", b"X\0\0\0\0", b"R\0\0\0\x01{"] {
            assert!(Codec.decode(&mut BytesMut::from(garbage)).is_err(), "{garbage:?}");
        }
        assert!(Codec.encode(Frame::Stdin(vec![0; MAX_FRAME_BYTES + 1].into()), &mut BytesMut::new()).is_err());
    }
}

#[cfg(test)]
mod properties {
    use proptest::{
        collection::vec,
        option,
        prelude::{Just, Strategy, any, prop_oneof},
    };

    use super::*;
    use crate::properties::{bytes_near, check, cuts, parts};

    fn frame() -> impl Strategy<Value = Vec<u8>> {
        let data = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
        let terminal = (any::<String>(), any::<u16>(), any::<u16>());
        let terminal = terminal.prop_map(|(name, columns, rows)| RequestTerminal { name, columns, rows });
        let request = (vec(any::<String>(), 0..5), option::of(terminal));
        let frame = prop_oneof![
            request.prop_map(|(words, terminal)| Frame::Request { words, terminal }),
            any::<(u16, u16)>().prop_map(|(columns, rows)| Frame::Resize(TerminalSize { columns, rows })),
            any::<bool>().prop_map(Frame::Raw),
            data().prop_map(Frame::Stdin),
            data().prop_map(Frame::Stdout),
            data().prop_map(Frame::Stderr),
            any::<u8>().prop_map(Frame::Exit),
            Just(()).prop_map(|()| Frame::StdinEnd),
            Just(()).prop_map(|()| Frame::Hangup),
        ];
        // A frame cannot be cloned: what is written must be what was read of it.
        frame.prop_map(|frame| {
            let mut wire = BytesMut::new();
            let shown = format!("{frame:?}");
            Codec.encode(frame, &mut wire).unwrap();
            assert_eq!(format!("{:?}", Codec.decode(&mut wire.clone()).unwrap().unwrap()), shown);
            wire.to_vec()
        })
    }

    /// The frames, up to the first error, and what is left.
    fn decode(parts: &[&[u8]]) -> (Vec<String>, Option<Vec<u8>>) {
        let (mut read, mut frames) = (BytesMut::new(), Vec::new());
        for part in parts {
            read.extend_from_slice(part);
            loop {
                match Codec.decode(&mut read) {
                    Ok(Some(frame)) => frames.push(format!("{frame:?}")),
                    Ok(None) => break,
                    Err(error) => {
                        frames.push(error.to_string());
                        return (frames, None);
                    }
                }
            }
        }
        (frames, Some(read.to_vec()))
    }

    #[test]
    fn frames_are_the_same_however_they_arrive() {
        check((vec(frame(), 0..5), cuts()), |(frames, cuts)| {
            let wire = frames.concat();
            let (read, rest) = decode(&parts(&wire, &cuts));
            assert_eq!((read.len(), rest), (frames.len(), Some(Vec::new())));
            assert_eq!(read, decode(&[&wire]).0);
        });
        let samples = [
            &b"S\0\0\0\x04\0\x50\0\x18I\0\0\0\x01x"[..],
            b"X\0\0\0\x01\x07",
            b"R\0\0\0\x22{\"words\":[\"a\"],\"terminal\":null}",
        ];
        check((bytes_near(&samples), cuts()), |(wire, cuts)| {
            assert_eq!(decode(&parts(&wire, &cuts)), decode(&[&wire]));
        });
    }
}
