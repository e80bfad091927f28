//! Reads the contents of many objects.

use std::{
    io::{self, BufRead as _, BufReader, Read, Write as _},
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use crate::git::{
    error::{GitError, Result},
    repository::Repository,
};

/// A running `git cat-file --batch`. Dropping this ends it.
pub(super) struct ObjectReader {
    child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
}

impl ObjectReader {
    /// Maximum number of requests between which responses must be read: so many fit into a pipe without blocking.
    pub(super) const MAX_REQUESTS: usize = 500;

    pub(super) fn start(repository: &Repository) -> Result<Self> {
        let mut command = repository.command().into_std();
        let command = command.args(["cat-file", "--batch"]).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().map_err(GitError::Start)?;
        match (child.stdin.take(), child.stdout.take()) {
            (Some(stdin), Some(stdout)) => {
                Ok(Self { child, stdin, stdout: BufReader::with_capacity(128 * 1024, stdout) })
            }
            _ => Err(GitError::Unexpected("no pipes".to_owned())),
        }
    }

    /// Requests the contents of objects.
    pub(super) fn request<'a>(&mut self, ids: impl Iterator<Item = &'a str>) -> io::Result<()> {
        let mut text = String::new();
        for id in ids {
            text.push_str(id);
            text.push('\n');
        }
        self.stdin.write_all(text.as_bytes())
    }

    /// Passes size and contents of the next requested object to `take`, which must read all of it.
    pub(super) fn read(&mut self, take: impl FnOnce(u64, &mut dyn Read) -> io::Result<()>) -> io::Result<()> {
        let mut head = String::new();
        (&mut self.stdout).take(200).read_line(&mut head)?;
        let size = head.trim_end().rsplit(' ').next().and_then(|size| size.parse().ok());
        let size: u64 = size.ok_or_else(|| io::Error::other(format!("git does not have the object: {head:?}")))?;
        let mut contents = (&mut self.stdout).take(size);
        take(size, &mut contents)?;
        if contents.limit() > 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "git ended in the middle of an object"));
        }
        self.stdout.read_exact(&mut [0])
    }
}

impl Drop for ObjectReader {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
