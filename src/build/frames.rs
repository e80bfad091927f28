//! The frames of [`crate::lifecycle::protocol`] on a build container's streams.

use bytes::{Buf, Bytes, BytesMut};
use futures_util::{TryStreamExt, stream::BoxStream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::{
    engine::{EngineError, Printed},
    lifecycle::protocol::{Kind, MAX_FRAME},
};

/// Output of a build container.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ContainerEvent {
    /// A frame of the protocol.
    Frame(Kind, Bytes),
    /// Output on stderr, outside of the protocol.
    Stderr(Bytes),
}

/// Why frames cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum FrameError {
    /// The stream failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The bytes are not a valid frame.
    #[error("the lifecycle broke its protocol: {0}")]
    Invalid(String),
}

/// Reads frames from the output of a build container.
pub(super) struct Frames<'a> {
    output: &'a mut BoxStream<'static, Result<Printed, EngineError>>,
    buffer: BytesMut,
}

const HEADER: usize = 5;

impl<'a> Frames<'a> {
    pub(super) fn new(output: &'a mut BoxStream<'static, Result<Printed, EngineError>>) -> Self {
        Self { output, buffer: BytesMut::new() }
    }

    /// The next event; `None` at a clean end.
    pub(super) async fn next(&mut self) -> Result<Option<ContainerEvent>, FrameError> {
        loop {
            if let Some((kind, payload)) = self.frame()? {
                return Ok(Some(ContainerEvent::Frame(kind, payload)));
            }
            match self.output.try_next().await? {
                Some(Printed::Stdout(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Printed::Stderr(bytes)) => return Ok(Some(ContainerEvent::Stderr(bytes))),
                None if self.buffer.is_empty() => return Ok(None),
                None => return Err(FrameError::Invalid("the output ended within a frame".to_owned())),
            }
        }
    }

    fn frame(&mut self) -> Result<Option<(Kind, Bytes)>, FrameError> {
        let Some((header, rest)) = self.buffer.split_first_chunk::<HEADER>() else { return Ok(None) };
        let [kind, length @ ..] = *header;
        let kind = Kind::try_from(kind).map_err(|e| FrameError::Invalid(e.to_string()))?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::Invalid(format!("a frame of {length} bytes is too long")));
        }
        if rest.len() < length {
            self.buffer.reserve(HEADER + length - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(HEADER);
        Ok(Some((kind, self.buffer.split_to(length).freeze())))
    }
}

/// Writes one frame.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), kind: Kind, payload: &[u8]) -> std::io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX_FRAME);
    let length = length.ok_or_else(|| std::io::Error::new(std::io::ErrorKind::InvalidInput, "a frame is too long"))?;
    let mut header = [0; HEADER];
    header[0] = kind as u8;
    header[1..].copy_from_slice(&length.to_be_bytes());
    to.write_all(&header).await?;
    to.write_all(payload).await
}

/// Why the source was not sent to the container.
pub(super) enum SendError {
    /// The source cannot be read.
    Source(std::io::Error),
    /// The container no longer reads its stdin.
    Container,
}

/// Sends the whole source as frames, and then its end.
pub(super) async fn write_source(
    to: &mut (impl AsyncWrite + Unpin),
    source: &mut (impl AsyncRead + Unpin),
) -> Result<(), SendError> {
    const CHUNK_BYTES: usize = 128 * 1024;
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let length = source.read(&mut chunk).await.map_err(SendError::Source)?;
        if length == 0 {
            break;
        }
        write(to, Kind::Source, &chunk[..length]).await.map_err(|_| SendError::Container)?;
    }
    write(to, Kind::SourceEnd, &[]).await.map_err(|_| SendError::Container)?;
    to.flush().await.map_err(|_| SendError::Container)
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt, stream};

    use super::*;

    async fn read(chunks: &[&[u8]]) -> Result<Vec<ContainerEvent>, FrameError> {
        let chunks: Vec<_> = chunks.iter().map(|c| Ok(Printed::Stdout(Bytes::copy_from_slice(c)))).collect();
        let mut output = stream::iter(chunks).boxed();
        let mut frames = Frames::new(&mut output);
        let mut events = Vec::new();
        while let Some(event) = frames.next().await? {
            events.push(event);
        }
        Ok(events)
    }

    #[tokio::test]
    async fn frames_are_read_from_pieces_of_any_size() {
        let mut written = Vec::new();
        write(&mut written, Kind::Line, b"hello").await.unwrap();
        write(&mut written, Kind::Result, b"").await.unwrap();
        let expected =
            [ContainerEvent::Frame(Kind::Line, "hello".into()), ContainerEvent::Frame(Kind::Result, Bytes::new())];
        assert_eq!(read(&[&written]).await.unwrap(), expected);
        let single: Vec<_> = written.chunks(1).collect();
        assert_eq!(read(&single).await.unwrap(), expected);
        assert!(matches!(read(&[&written[..7]]).await, Err(FrameError::Invalid(_))));
    }

    #[tokio::test]
    async fn an_invalid_header_is_refused_before_the_payload_is_read() {
        for bad in [&b"x\0\0\0\0"[..], b"L\xff\xff\xff\xff", b"L\0\x10\0\x01"] {
            assert!(matches!(read(&[bad]).await, Err(FrameError::Invalid(_))), "{bad:?}");
        }
        assert!(write(&mut Vec::new(), Kind::Line, &vec![0; MAX_FRAME + 1]).await.is_err());
    }
}

#[cfg(test)]
mod properties {
    use futures_util::{StreamExt as _, stream};

    use super::*;
    use crate::{
        lifecycle::protocol::read_frame,
        properties::{block_on, bytes_near, check, cuts, parts},
    };

    #[test]
    fn the_server_reads_what_the_lifecycle_reads() {
        let samples = [&b"L\0\0\0\x02hiZ\0\0\0\0"[..], b"L\0\x10\0\x01x", b"D\0\0\0\x05ab", b"B\0\0\0\0x"];
        check((bytes_near(&samples), cuts()), |(wire, cuts)| {
            let chunks: Vec<_> = parts(&wire, &cuts)
                .into_iter()
                .filter(|part| !part.is_empty())
                .map(|part| Ok(Printed::Stdout(Bytes::copy_from_slice(part))))
                .collect();
            let mut output = stream::iter(chunks).boxed();
            let mut frames = Frames::new(&mut output);
            let mut expected = &wire[..];
            block_on(async {
                loop {
                    match (frames.next().await, read_frame(&mut expected)) {
                        (Ok(Some(ContainerEvent::Frame(kind, payload))), Ok(Some(other))) => {
                            assert_eq!((kind, payload.to_vec()), other);
                        }
                        (Ok(None), Ok(None)) | (Err(FrameError::Invalid(_)), Err(_)) => break,
                        (one, other) => panic!("{one:?} is not {other:?}"),
                    }
                }
            });
        });
    }
}
