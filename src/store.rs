//! What is declared, in SQLite: the one truth that survives. Each change of state is one transaction.

mod apps;
mod buildpacks;
mod builds;
mod config_vars;
mod instances;
mod keys;
mod ports;
mod releases;
mod schema;
mod secrets;
mod stacks;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

pub use apps::{App, AppId, Deployment};
pub use buildpacks::{ChosenBuildpack, PackageRow};
pub use builds::{Build, BuildId, BuildState, Ran};
pub use config_vars::ConfigVars;
pub use instances::{Instance, InstanceState, NewInstance};
pub use keys::{Key, KeyId};
pub use ports::{PortMapping, PortScheme};
pub use releases::{NewRelease, ProcessSpec, PushedRelease, Release, ReleaseKind, ReleaseState};
pub use stacks::{MadeStack, StackRevision, StackSource};

/// Why the store refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database or its key cannot be opened.
    #[error("cannot open {what}: {source}")]
    Open {
        /// The file.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// SQLite failed.
    #[error("the database failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A row holds what this version does not understand.
    #[error("the database holds an invalid {what}: {why}")]
    Corrupt {
        /// What was read.
        what: &'static str,
        /// Why it is invalid.
        why: String,
    },
    /// The database was written by a newer paas.
    #[error("the database has schema {found}, newer than {known}: use the paas that wrote it")]
    TooNew {
        /// Its schema.
        found: i64,
        /// The newest that we know.
        known: i64,
    },
    /// A unique name, key or port belongs to another row already.
    #[error("{0}")]
    Taken(String),
    /// There is no such row.
    #[error("{0}")]
    NotFound(String),
    /// A stored secret cannot be read with this key.
    #[error("cannot decrypt a config var: is secret.key the one that belongs to this database?")]
    Secret,
}

/// Result of the store.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Milliseconds since 1970.
pub type Millis = i64;

/// Now, in milliseconds since 1970.
pub fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    connection: Mutex<Connection>,
    cipher: secrets::Cipher,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens `<data_dir>/paas.db` and `<data_dir>/secret.key`, making both if need be.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("paas.db");
        let cipher = secrets::Cipher::open(&data_dir.join("secret.key"), path.exists())?;
        let mut connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.set_prepared_statement_cache_capacity(128);
        schema::migrate(&mut connection)?;
        Ok(Self(Arc::new(Inner { connection: Mutex::new(connection), cipher })))
    }

    /// Runs `work` in one transaction, off the runtime's workers; its error rolls back.
    async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &secrets::Cipher) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        let run = move || {
            // A panic inside a transaction rolled it back, so the connection is sound.
            let mut connection = inner.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction, &inner.cipher)?;
            transaction.commit()?;
            Ok(value)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(panic) => Err(StoreError::Corrupt { what: "state", why: panic.to_string() }),
        }
    }

    /// The random name of this server among all that share an engine: eight letters and digits.
    pub async fn server_id(&self) -> Result<String> {
        self.transact(|t, _| Ok(t.query_row("SELECT value FROM meta WHERE key = 'server_id'", [], |r| r.get(0))?)).await
    }

    /// A route table version higher than all before, across restarts.
    pub async fn next_route_version(&self) -> Result<u64> {
        self.transact(|t, _| {
            t.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'route_version'", [])?;
            let text: String = t.query_row("SELECT value FROM meta WHERE key = 'route_version'", [], |r| r.get(0))?;
            read("route version", &text)
        })
        .await
    }
}

/// Parses a stored text.
fn read<T: std::str::FromStr<Err: std::fmt::Display>>(what: &'static str, text: &str) -> Result<T> {
    text.parse().map_err(|e: T::Err| StoreError::Corrupt { what, why: e.to_string() })
}

/// Parses stored JSON.
fn read_json<T: serde::de::DeserializeOwned>(what: &'static str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Writes JSON to store.
fn to_json<T: serde::Serialize>(what: &'static str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt { what, why: e.to_string() })
}

/// Turns a broken unique constraint into words.
fn taken(message: impl FnOnce() -> String) -> impl FnOnce(rusqlite::Error) -> StoreError {
    move |e| match e.sqlite_error_code() {
        Some(rusqlite::ErrorCode::ConstraintViolation) => StoreError::Taken(message()),
        _ => StoreError::Sqlite(e),
    }
}

#[cfg(test)]
mod tests;
