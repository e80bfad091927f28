//! Files that callers send.

use std::fmt;

use tokio::{io::AsyncRead, sync::Mutex};

/// A file that the caller sends. It is read when the caller's right has been checked.
pub struct SentFile(
    /// The mutex makes the reader `Sync`.
    Mutex<Box<dyn AsyncRead + Send + Unpin>>,
);

impl SentFile {
    /// The file that is read from here, to its end.
    pub fn new(reader: Box<dyn AsyncRead + Send + Unpin>) -> Self {
        Self(Mutex::new(reader))
    }

    /// What reads it.
    pub fn into_reader(self) -> Box<dyn AsyncRead + Send + Unpin> {
        self.0.into_inner()
    }
}

impl fmt::Debug for SentFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SentFile")
    }
}
