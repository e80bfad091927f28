//! The protocol between the server and the process that reads repositories (and writes their file `shallow`), over that
//! process's stdin and stdout.
//!
//! A frame is one byte for its kind, the payload's length as a 32-bit big-endian number, and the payload. The server
//! sends a `Request` and gets one `Answer`. `Answer::File` is followed by the file's bytes in one `Data` frame. The answer
//! to `Request::Tar` follows the bytes of the tar in `Data` frames. The process ends when its stdin ends.
//!
//! The process parses what users push, so the server trusts none of its output: every length is limited, every object id
//! is parsed, and every text is sanitized.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::model::{CommitId, Files};

/// Maximum payload of a frame, in bytes: a request contains the patterns of two files of at most 256 KiB each, which JSON
/// may make six times as long.
pub(super) const MAX_FRAME: usize = 4 << 20;

/// Length of a frame's head, in bytes.
pub(super) const HEAD: usize = 5;

/// Maximum number of files of a source: a pack of a few kilobytes can contain so many that their list exhausts the memory.
pub(super) const MAX_FILES: usize = 500_000;

/// Maximum length of all paths of a source together, in bytes: a small pack can contain long paths many times over in
/// shared trees.
pub(super) const MAX_PATHS_BYTES: usize = 64 << 20;

/// Kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Kind {
    /// JSON of a [`Request`].
    Request = b'Q',
    /// JSON of an [`Answer`].
    Answer = b'A',
    /// Bytes of a file or of the tar.
    Data = b'D',
}

/// What the server asks.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Request {
    /// The object that a ref points to; answered with `Id`.
    Ref {
        /// Full name.
        name: String,
    },
    /// Where refs point to, and what keeps those that do not exist from being created; answered with `Refs`.
    Refs {
        /// Full names.
        names: Vec<String>,
    },
    /// Whether there is any ref; answered with `Is`.
    HasRefs,
    /// Number of the refs that clients see; answered with `Count`.
    CountRefs,
    /// The commit that `git fetch` has just fetched; answered with `Id`.
    Fetched,
    /// Whether the object exists and is a commit; answered with `Is`.
    IsCommit {
        /// Object id.
        id: CommitId,
    },
    /// The commit to which a tag, or a commit itself, leads; answered with `Id`.
    Peel {
        /// Object id.
        id: CommitId,
    },
    /// Whether a commit has another one in its history; answered with `Is`.
    Descends {
        /// The commit.
        commit: CommitId,
        /// The other one.
        from: CommitId,
    },
    /// Records commits that a shallow clone has without their parents; answered with `Done`.
    MarkShallow {
        /// The commits, which may not be here yet.
        roots: Vec<CommitId>,
    },
    /// Removes such records of commits that did not arrive, or arrived with their parents; answered with `Done`.
    PruneShallow,
    /// The subject of a commit's message, shortened; answered with `Subject`.
    Subject {
        /// The commit.
        commit: CommitId,
    },
    /// A file of a commit; answered with `File` or `NoFile`.
    File {
        /// The commit.
        commit: CommitId,
        /// The folder that is the root for the path and for symbolic links.
        folder: Option<String>,
        /// Path below the root.
        path: String,
        /// Maximum size, in bytes.
        max: usize,
    },
    /// Whether a commit has a folder; answered with `Is`.
    HasFolder {
        /// The commit.
        commit: CommitId,
        /// Path in the commit.
        folder: String,
    },
    /// Which of these paths are files; answered with `Paths`.
    FilesAmong {
        /// The commit.
        commit: CommitId,
        /// Paths in the commit.
        paths: Vec<String>,
    },
    /// Lists the files of a commit; answered with `Source`.
    Source {
        /// The commit.
        commit: CommitId,
        /// Only the files below this folder.
        folder: Option<String>,
        /// Only the files that this selects.
        files: Files,
        /// Maximum size of all files, in bytes.
        max_bytes: u64,
    },
    /// The tar of the files that were listed last; answered with `TarEnd`.
    Tar,
}

/// Why a path leads to no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum NoFile {
    /// There is nothing, or a submodule.
    Absent,
    /// It is a folder, or a symbolic link to one.
    Folder,
    /// It is a symbolic link that leads to nothing, or out of the root.
    BrokenLink,
}

impl NoFile {
    /// What is there instead, after the name of the path; `None` if there is nothing.
    pub fn instead(self) -> Option<&'static str> {
        match self {
            Self::Absent => None,
            Self::Folder => Some("is a folder and not a file"),
            Self::BrokenLink => Some("is a symbolic link that leads to no file of the pushed source"),
        }
    }
}

/// The present state of a ref.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefState {
    /// What it points to; `None` if it does not exist.
    pub id: Option<CommitId>,
    /// Full name of another ref that is in conflict with it, so that it cannot be created.
    pub conflict: Option<String>,
}

/// What the process answers.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// An object id, if there is one.
    Id(Option<CommitId>),
    /// The states of refs, in the order of their names.
    Refs(Vec<RefState>),
    /// A number.
    Count(u64),
    /// Yes or no.
    Is(bool),
    /// What was asked is done.
    Done,
    /// Subject of a commit.
    Subject(String),
    /// The file exists; its bytes follow.
    File,
    /// There is no such file.
    NoFile(NoFile),
    /// Paths of those files that exist.
    Paths(Vec<String>),
    /// The files are listed.
    Source {
        /// Object id of the tree.
        tree: CommitId,
        /// Warnings for the developer.
        warnings: Vec<String>,
    },
    /// The tar is complete.
    TarEnd,
    /// The request failed.
    Failed(Failure),
}

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum Failure {
    /// An object or a ref cannot be read.
    #[error("{0}")]
    Unreadable(String),
    /// The commit has no files.
    #[error("no files")]
    Empty,
    /// The patterns select none of the commit's files.
    #[error("no file is selected")]
    NothingSelected,
    /// The commit does not have the folder.
    #[error("no folder {0}")]
    NoFolder(String),
    /// Two entries of a folder have the same name.
    #[error("{0} is there twice")]
    Duplicate(String),
    /// There are too many files or folders, or listing them takes too long.
    #[error("too many files")]
    TooManyFiles,
    /// The files are larger than allowed.
    #[error("the files take {bytes} bytes")]
    SourceTooLarge {
        /// Size of all files, in bytes.
        bytes: u64,
    },
    /// A path or the target of a symbolic link is too long.
    #[error("{0} is too long")]
    PathTooLong(String),
    /// The requested file is too large.
    #[error("the file is too large")]
    FileTooLarge,
    /// A pattern of the requested files is invalid.
    #[error("{0}")]
    Pattern(String),
}

impl TryFrom<u8> for Kind {
    type Error = io::Error;

    fn try_from(byte: u8) -> io::Result<Self> {
        match byte {
            b'Q' => Ok(Self::Request),
            b'A' => Ok(Self::Answer),
            b'D' => Ok(Self::Data),
            other => Err(invalid(format!("a frame of the unknown kind {other}"))),
        }
    }
}

/// The error of a peer that does not keep to the protocol.
pub(super) fn invalid(message: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message.into())
}

/// The head of a frame with a payload of this length.
pub(super) fn head(kind: Kind, length: usize) -> io::Result<[u8; HEAD]> {
    let length = u32::try_from(length).ok().filter(|length| *length as usize <= MAX_FRAME);
    let [a, b, c, d] = length.ok_or_else(|| invalid("a frame that is too long"))?.to_be_bytes();
    Ok([kind as u8, a, b, c, d])
}

/// Kind of a frame, and length of its payload.
pub(super) fn parse_head([kind, length @ ..]: [u8; HEAD]) -> io::Result<(Kind, usize)> {
    let (kind, length) = (Kind::try_from(kind)?, u32::from_be_bytes(length) as usize);
    if length > MAX_FRAME {
        return Err(invalid(format!("a frame of {length} bytes")));
    }
    Ok((kind, length))
}

/// A whole frame whose payload is JSON.
pub(super) fn encode(kind: Kind, message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; HEAD];
    serde_json::to_writer(&mut frame, message)?;
    let head = head(kind, frame.len() - HEAD)?;
    frame[..HEAD].copy_from_slice(&head);
    Ok(frame)
}

/// Reads a request; `None` at the end of the stream.
pub(super) fn read_request(from: &mut impl Read) -> io::Result<Option<Request>> {
    let mut head = [0; HEAD];
    if from.read(&mut head[..1])? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut head[1..])?;
    let (Kind::Request, length) = parse_head(head)? else { return Err(invalid("a frame that is no request")) };
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some(serde_json::from_slice(&payload)?))
}

/// Writes what is written to it in `Data` frames, one for each write.
pub(super) struct DataFrames<W>(pub W);

impl<W: Write> Write for DataFrames<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let bytes = &bytes[..bytes.len().min(MAX_FRAME)];
        if !bytes.is_empty() {
            self.0.write_all(&head(Kind::Data, bytes.len())?)?;
            self.0.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_the_wire_and_invalid_frames_are_refused() {
        let request = Request::Ref { name: "refs/heads/ümlaut".to_owned() };
        let frame = encode(Kind::Request, &request).unwrap();
        assert_eq!(read_request(&mut &frame[..]).unwrap(), Some(request));
        assert_eq!(read_request(&mut &[][..]).unwrap(), None);
        let answer = encode(Kind::Answer, &Answer::TarEnd).unwrap();
        for bad in
            [&frame[..3], &frame[..frame.len() - 1], b"Q\xff\xff\xff\xff", b"x\0\0\0\0", b"Q\0\0\0\x01x", &answer]
        {
            assert!(read_request(&mut &*bad).is_err(), "{bad:?}");
        }
        assert!(encode(Kind::Request, &"x".repeat(MAX_FRAME)).is_err());
    }

    #[test]
    fn an_answer_with_an_invalid_object_id_is_refused() {
        assert!(serde_json::from_str::<Answer>(&format!(r#"{{"Id":"{}"}}"#, "1".repeat(40))).is_ok());
        assert!(serde_json::from_str::<Answer>(r#"{"Id":"../../etc"}"#).is_err());
    }

    #[test]
    fn data_is_split_into_frames() {
        let mut written = Vec::new();
        let mut frames = DataFrames(&mut written);
        frames.write_all(b"ab").unwrap();
        assert_eq!(frames.write(&[]).unwrap(), 0);
        frames.write_all(&vec![7; MAX_FRAME + 1]).unwrap();
        assert_eq!(&written[..HEAD + 2], b"D\0\0\0\x02ab");
        assert_eq!(written.len(), 3 * HEAD + 2 + MAX_FRAME + 1);
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{bytes_near, check};

    #[test]
    fn requests_are_read_as_they_are_written() {
        let frame = |name: &str| encode(Kind::Request, &Request::Ref { name: name.to_owned() }).unwrap();
        let samples = [frame("refs/heads/main"), [frame("\n"), frame("x")].concat(), b"Q\0\0\0\x02{}".to_vec()];
        check(bytes_near(&samples), |wire| {
            let mut from = &wire[..];
            while let Ok(Some(request)) = read_request(&mut from) {
                let again = encode(Kind::Request, &request).unwrap();
                assert_eq!(read_request(&mut &again[..]).unwrap(), Some(request));
            }
        });
    }
}
