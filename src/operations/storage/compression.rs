//! Compressed input of `storage:import`, which is to be a plain tar.

use std::{future::pending, io::Cursor};

use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio_util::io::{ReaderStream, StreamReader};

use crate::model::VolumeName;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    Gzip,
    Bzip2,
    Xz,
    Zstandard,
}

impl Compression {
    const ALL: [Self; 4] = [Self::Gzip, Self::Bzip2, Self::Xz, Self::Zstandard];

    /// Whether such a file begins so. A tar begins with a name: nobody's is like one of these.
    fn begins(self, text: &[u8]) -> bool {
        match self {
            Self::Gzip => text.starts_with(b"\x1f\x8b"),
            // After the block size, the magic number of the first block.
            Self::Bzip2 => text.starts_with(b"BZh") && text.get(4..6) == Some(b"1A"),
            Self::Xz => text.starts_with(b"\xfd7zXZ\0"),
            Self::Zstandard => text.starts_with(b"\x28\xb5\x2f\xfd"),
        }
    }

    /// The command that decompresses `uploads.tar.gz` or the like to standard output.
    pub(super) fn command(self, volume: &VolumeName) -> String {
        let (program, suffix) = match self {
            Self::Gzip => ("gunzip -c", "gz"),
            Self::Bzip2 => ("bunzip2 -c", "bz2"),
            Self::Xz => ("xz -dc", "xz"),
            Self::Zstandard => ("zstd -dc", "zst"),
        };
        format!("{program} {volume}.tar.{suffix}")
    }
}

/// Number of bytes that tell how a file is compressed.
const BEGINNING: u64 = 6;

/// The same input. If it is compressed, `on_compressed` is called instead, and nothing can be read from it.
pub(super) fn plain(
    mut input: Box<dyn AsyncRead + Send + Unpin>,
    on_compressed: impl FnOnce(Compression) + Send + 'static,
) -> Box<dyn AsyncRead + Send + Unpin> {
    let begun = async move {
        let mut beginning = Vec::new();
        let read = (&mut input).take(BEGINNING).read_to_end(&mut beginning).await;
        if let Some(found) = Compression::ALL.into_iter().find(|one| one.begins(&beginning)) {
            on_compressed(found);
            pending::<()>().await;
        }
        let whole = ReaderStream::with_capacity(Cursor::new(beginning).chain(input), 64 << 10);
        stream::iter(read.err().map(Err)).chain(whole)
    };
    Box::new(StreamReader::new(Box::pin(stream::once(begun).flatten())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn compressed_input_is_told_and_not_read() {
        for (input, command) in [
            (&b"\x1f\x8b\x08\0..."[..], "gunzip -c uploads.tar.gz"),
            (b"BZh91AY", "bunzip2 -c uploads.tar.bz2"),
            (b"\xfd7zXZ\0\0", "xz -dc uploads.tar.xz"),
            (b"\x28\xb5\x2f\xfd\0", "zstd -dc uploads.tar.zst"),
        ] {
            let (sender, found) = tokio::sync::oneshot::channel();
            let mut input = plain(Box::new(input), move |compression| {
                let _ = sender.send(compression);
            });
            tokio::select! {
                biased;
                read = input.read_u8() => panic!("{read:?}"),
                found = found => assert_eq!(found.unwrap().command(&"uploads".parse().unwrap()), command),
            }
        }
    }

    #[tokio::test]
    async fn other_input_is_read_whole() {
        for input in [&b""[..], b"ab", b"uploads/a.txt\0\0\0\0"] {
            let mut read = Vec::new();
            plain(Box::new(input), |found| panic!("{found:?}")).read_to_end(&mut read).await.unwrap();
            assert_eq!(read, input);
        }
    }
}
