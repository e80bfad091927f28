//! The objects of a repository. libgit2 loads an object as a whole, so git itself streams the large ones.

use std::{
    fmt,
    io::{self, Cursor, Read},
    process::{Child, ChildStdout, Command, Stdio},
};

use git2::{ErrorCode, ObjectType, Odb, OdbObject, Oid, Repository};

use crate::{
    git::protocol::Failure,
    model::{CommitId, Line},
};

/// Objects that are larger than this, in bytes, are not loaded into memory. For such an object the start of another
/// process takes little of the time.
const MAX_LOADED_BYTES: u64 = 16 << 20;

/// The objects of a repository.
pub(super) struct Objects<'r> {
    pub(super) repository: &'r Repository,
    odb: Odb<'r>,
}

/// Kind and size of an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: ObjectType,
    /// Size in bytes.
    pub(super) size: u64,
}

/// The bytes of an object.
pub(super) enum Contents<'a> {
    Loaded(Cursor<LoadedBytes<'a>>),
    Streamed(StreamedObject),
}

/// The bytes of an object that libgit2 has loaded.
pub(super) struct LoadedBytes<'a>(OdbObject<'a>);

/// A running `git cat-file`. Dropping this ends it.
pub(super) struct StreamedObject {
    child: Child,
    stdout: ChildStdout,
    /// Number of bytes that it has not sent yet.
    left: u64,
}

impl<'r> Objects<'r> {
    pub(super) fn new(repository: &'r Repository) -> Result<Self, Failure> {
        Ok(Self { repository, odb: repository.odb().map_err(|e| unreadable(&e))? })
    }

    /// Kind and size of an object, without its contents.
    pub(super) fn header(&self, id: Oid) -> Result<Header, Failure> {
        let (size, kind) = self.odb.read_header(id).map_err(|e| unreadable(&e))?;
        Ok(Header { kind, size: size as u64 })
    }

    /// Whether an object exists and is a commit.
    pub(super) fn is_commit(&self, id: Oid) -> Result<bool, Failure> {
        match self.odb.read_header(id) {
            Ok((_, kind)) => Ok(kind == ObjectType::Commit),
            Err(e) if e.code() == ErrorCode::NotFound => Ok(false),
            Err(e) => Err(unreadable(&e)),
        }
    }

    /// Size and contents of an object of this kind.
    pub(super) fn contents(&self, id: Oid, kind: ObjectType) -> Result<(u64, Contents<'_>), Failure> {
        let header = self.header(id)?;
        if header.kind != kind {
            return Err(Failure::Unreadable(format!("the object {id} is a {}, not a {kind}", header.kind)));
        }
        if header.size > MAX_LOADED_BYTES {
            return Ok((header.size, Contents::Streamed(self.stream(id, kind, header.size)?)));
        }
        let object = self.odb.read(id).map_err(|e| unreadable(&e))?;
        Ok((object.len() as u64, Contents::Loaded(Cursor::new(LoadedBytes(object)))))
    }

    /// The first bytes of an object of this kind.
    pub(super) fn prefix(&self, id: Oid, kind: ObjectType, max: u64) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        let (_, contents) = self.contents(id, kind)?;
        contents.take(max).read_to_end(&mut bytes).map_err(|e| Failure::Unreadable(format!("{id}: {e}")))?;
        Ok(bytes)
    }

    fn stream(&self, id: Oid, kind: ObjectType, size: u64) -> Result<StreamedObject, Failure> {
        let failed = |e: io::Error| Failure::Unreadable(format!("cannot run git: {e}"));
        let mut command = Command::new("git");
        command.args(["cat-file", kind.str(), &id.to_string()]).current_dir(self.repository.path());
        command.env("GIT_NO_REPLACE_OBJECTS", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(failed)?;
        let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
        Ok(StreamedObject { child, stdout, left: size })
    }
}

impl fmt::Debug for Objects<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Objects").field("repository", &self.repository.path()).finish_non_exhaustive()
    }
}

impl AsRef<[u8]> for LoadedBytes<'_> {
    fn as_ref(&self) -> &[u8] {
        self.0.data()
    }
}

impl Read for Contents<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Loaded(bytes) => bytes.read(buffer),
            Self::Streamed(object) => object.read(buffer),
        }
    }
}

impl Read for StreamedObject {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if length == 0 {
            return Ok(0);
        }
        let length = self.stdout.read(&mut buffer[..length])?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "git ended in the middle of an object"));
        }
        self.left -= length as u64;
        Ok(length)
    }
}

impl Drop for StreamedObject {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// libgit2's form of an object id.
pub(super) fn oid(id: &CommitId) -> Result<Oid, Failure> {
    Oid::from_str(id.as_str()).map_err(|e| unreadable(&e))
}

/// Our form of an object id.
pub(super) fn commit_id(id: Oid) -> Result<CommitId, Failure> {
    id.to_string().parse().map_err(|_| Failure::Unreadable(format!("the object id {id} is invalid")))
}

/// The failure to read an object or a ref.
pub(super) fn unreadable(error: &git2::Error) -> Failure {
    Failure::Unreadable(Line::sanitize(error.message()))
}
