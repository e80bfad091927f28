//! Errors of the store.

/// Error of the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or its key cannot be opened.
    #[error("cannot open {path}: {source}")]
    Open {
        /// Path of the file.
        path: String,
        /// Cause.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row holds a value that this version does not understand.
    #[error("the database holds an invalid {what}: {why}")]
    Corrupt {
        /// Kind of the value.
        what: &'static str,
        /// Why the value is invalid.
        why: String,
    },
    /// The database was written by a newer paas.
    #[error("the database has schema version {found}, newer than {known}: use the version of paas that wrote it")]
    TooNew {
        /// Schema version of the database.
        found: i64,
        /// Newest schema version that this paas supports.
        known: i64,
    },
    /// A unique name, key or port already belongs to another row.
    #[error("{0}")]
    Taken(String),
    /// All of something that is limited is in use.
    #[error("{0}")]
    Exhausted(String),
    /// There is no such row.
    #[error("{0}")]
    NotFound(String),
    /// The change is not allowed in the present state.
    #[error("{0}")]
    Refused(String),
    /// A stored secret cannot be decrypted with this server's key.
    #[error("cannot decrypt a config var: is secret.key the one that belongs to this database?")]
    Secret,
}

/// Result of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Maps a violated unique constraint to [`StoreError::Taken`] with this message.
pub(super) fn taken(message: impl FnOnce() -> String) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |e| match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Taken(message()),
        _ => StoreError::Sqlite(e),
    }
}
