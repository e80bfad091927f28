//! `git fast-import`, which writes one pack of all objects of a commit.

use std::{
    fs,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use super::tree::{FileMode, Mark, Tree};
use crate::{
    git::import::{ImportFailure, NewCommit},
    model::{CommitId, Line},
};

/// A ref that exists in the stream only: the commit is made on it, and it is reset before the end.
const REF: &str = "refs/paas/importing";

/// SIGXFSZ: a file became larger than the limit.
const FILE_TOO_LARGE: i32 = 25;

/// A running `git fast-import`; it is ended when this is dropped.
pub(super) struct FastImport {
    child: Child,
    to: BufWriter<ChildStdin>,
    from: BufReader<ChildStdout>,
    marks: u64,
}

impl FastImport {
    pub(super) fn start() -> io::Result<Self> {
        let mut command = Command::new("git");
        // One pack whatever its size, and no large file in memory.
        command.args(["-c", "fastimport.unpackLimit=1", "-c", "core.bigFileThreshold=16m"]);
        command.args(["fast-import", "--quiet", "--done", "--date-format=raw"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let to = BufWriter::with_capacity(256 << 10, to);
        Ok(Self { child, to, from: BufReader::new(from), marks: 0 })
    }

    /// Writes a file of this size; the inner error is that of what is read.
    pub(super) fn blob(&mut self, size: u64, mut contents: impl Read) -> io::Result<Result<Mark, io::Error>> {
        self.marks += 1;
        write!(self.to, "blob\nmark :{}\ndata {size}\n", self.marks)?;
        let mut buffer = vec![0; 64 << 10];
        let mut left = size;
        while left > 0 {
            let length = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = match contents.read(&mut buffer[..length]) {
                Ok(0) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            self.to.write_all(&buffer[..read])?;
            left -= read as u64;
        }
        self.to.write_all(b"\n")?;
        Ok(Ok(Mark(self.marks)))
    }

    /// Makes the commit and ends git; the pack is complete then.
    pub(super) fn commit(mut self, commit: &NewCommit, tree: &Tree) -> Result<CommitId, ImportFailure> {
        let made = self.write_commit(commit, tree);
        self.ended(made)
    }

    fn write_commit(&mut self, commit: &NewCommit, tree: &Tree) -> io::Result<CommitId> {
        self.marks += 1;
        let (mark, to) = (self.marks, &mut self.to);
        let name = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
        write!(to, "commit {REF}\nmark :{mark}\n")?;
        writeln!(to, "committer {} <{}> {} +0000", name(&commit.author), name(&commit.mail), commit.time)?;
        write!(to, "data {}\n{}\n", commit.message.len(), commit.message)?;
        if let Some(parent) = &commit.parent {
            writeln!(to, "from {parent}")?;
        }
        to.write_all(b"deleteall\n")?;
        for (path, file) in tree.files() {
            let mode = match file.mode {
                FileMode::Regular => "100644",
                FileMode::Executable => "100755",
                FileMode::Symlink => "120000",
            };
            write!(to, "M {mode} :{} ", file.mark.0)?;
            write_quoted(to, path)?;
            to.write_all(b"\n")?;
        }
        write!(to, "\nget-mark :{mark}\n")?;
        to.flush()?;
        let mut line = String::new();
        (&mut self.from).take(200).read_line(&mut line)?;
        let commit = line.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        write!(self.to, "reset {REF}\nfrom {}\n\ndone\n", "0".repeat(40))?;
        self.to.flush()?;
        Ok(commit)
    }

    /// The result, or why git has failed.
    pub(super) fn ended<T>(mut self, result: io::Result<T>) -> Result<T, ImportFailure> {
        let failed = |error: &io::Error| ImportFailure::Git(format!("cannot run git: {error}"));
        // It ends at the end of the stream at the latest.
        if result.is_err() {
            self.close();
        }
        let status = self.child.wait().map_err(|error| failed(&error))?;
        if status.signal() == Some(FILE_TOO_LARGE) {
            return Err(ImportFailure::PackTooLarge);
        }
        let mut text = String::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = stderr.take(4000).read_to_string(&mut text);
        }
        let _ = fs::remove_file(format!("fast_import_crash_{}", self.child.id()));
        match result {
            Ok(value) if status.success() => Ok(value),
            _ if text.contains("File too large") => Err(ImportFailure::PackTooLarge),
            Ok(_) | Err(_) => {
                let fatal = text.lines().find_map(|line| line.strip_prefix("fatal: "));
                let text = fatal.or_else(|| text.lines().next()).unwrap_or("no error message");
                Err(ImportFailure::Git(Line::sanitize(text)))
            }
        }
    }

    /// Ends git's input by an unfinished stream.
    fn close(&mut self) {
        let _ = self.to.flush();
        let _ = self.child.kill();
    }
}

impl Drop for FastImport {
    fn drop(&mut self) {
        // No effect on one that has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Writes a path in the form that every path may have: quoted, with octal escapes.
fn write_quoted(to: &mut impl Write, path: &[u8]) -> io::Result<()> {
    to.write_all(b"\"")?;
    for byte in path {
        match byte {
            b'"' | b'\\' => to.write_all(&[b'\\', *byte])?,
            b' '..=b'~' => to.write_all(&[*byte])?,
            other => write!(to, "\\{other:03o}")?,
        }
    }
    to.write_all(b"\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_path_can_be_quoted() {
        let mut written = Vec::new();
        write_quoted(&mut written, b"a \"b\\c\n\xc3\xa4").unwrap();
        assert_eq!(written, br#""a \"b\\c\012\303\244""#);
    }
}
