//! The SQLite connections, one that writes and one that reads, and the transactions in which all work is done.

use std::{
    fs, io,
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rusqlite::{Connection, OpenFlags, Transaction, TransactionBehavior};

use super::{
    columns::parse,
    error::{Result, StoreError},
    limits::Limits,
    schema,
    secrets::Cipher,
};
use crate::{config::Config, model::Capacity};

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Database>);

struct Database {
    /// Reads do not wait for writes: in SQLite's WAL mode, a reader sees what was committed before it began. Closed
    /// before the writer, because only a connection that writes can empty the WAL at the end.
    reader: Mutex<Connection>,
    writer: Mutex<Connection>,
    cipher: Cipher,
    limits: Limits,
    capacity: OnceLock<Capacity>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

/// Creates the database if necessary, so that only its owner may read it: SQLite gives the files beside it the same
/// permissions. Those of earlier versions were open to all users. None of the files is opened: closing it would give up the
/// locks that this process may have on it.
fn close_to_others(data_dir: &Path) -> io::Result<()> {
    let created = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(data_dir.join("paas.db"));
    if let Err(e) = created
        && e.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(e);
    }
    for name in ["paas.db", "paas.db-wal", "paas.db-shm"] {
        match fs::set_permissions(data_dir.join(name), fs::Permissions::from_mode(0o600)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

fn configure(connection: &Connection) -> Result<()> {
    connection.busy_timeout(std::time::Duration::from_secs(10))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

impl Store {
    /// Opens the store of a folder, with the limits that hold where none are configured.
    pub fn open(data_dir: &Path) -> Result<Self> {
        Self::open_for(&Config { data_dir: data_dir.to_owned(), ..Config::default() })
    }

    /// Opens `<data_dir>/paas.db` and `<data_dir>/secret.key`; creates both if neither exists.
    pub fn open_for(config: &Config) -> Result<Self> {
        let data_dir = &*config.data_dir;
        let limits = Limits::new(config)?;
        let path = data_dir.join("paas.db");
        let cipher = Cipher::open(&data_dir.join("secret.key"), path.exists())?;
        close_to_others(data_dir).map_err(|source| StoreError::Open { path: path.display().to_string(), source })?;
        let mut writer = Connection::open(&path)?;
        writer.pragma_update(None, "journal_mode", "WAL")?;
        writer.pragma_update(None, "synchronous", "FULL")?;
        // What is removed or replaced may be a secret, or tell something of one.
        writer.pragma_update(None, "secure_delete", true)?;
        configure(&writer)?;
        schema::migrate(&mut writer)?;
        let reader =
            Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        reader.pragma_update(None, "query_only", true)?;
        configure(&reader)?;
        Ok(Self(Arc::new(Database {
            reader: Mutex::new(reader),
            writer: Mutex::new(writer),
            cipher,
            limits,
            capacity: OnceLock::new(),
        })))
    }

    /// What the configuration and the machine allow.
    pub(super) fn limits(&self) -> Limits {
        self.0.limits.on(self.0.capacity.get().copied())
    }

    /// Says what the machine has. Until then, and only the first time, any amount can be reserved.
    pub fn set_capacity(&self, capacity: Capacity) {
        let _ = self.0.capacity.set(capacity);
    }

    /// Runs `work`, which may write, in one transaction, outside the runtime's worker threads. An error rolls the
    /// transaction back.
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Cipher) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(|database| &database.writer, TransactionBehavior::Immediate, work).await
    }

    /// Runs `work`, which only reads, in one transaction: all that it reads was committed before it began. It waits for
    /// no transaction that writes.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Cipher) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.run(|database| &database.reader, TransactionBehavior::Deferred, work).await
    }

    async fn run<T: Send + 'static>(
        &self,
        connection: fn(&Database) -> &Mutex<Connection>,
        behavior: TransactionBehavior,
        work: impl FnOnce(&Transaction<'_>, &Cipher) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let database = Arc::clone(&self.0);
        let run = move || {
            // A panic inside a transaction rolled it back, so the connection is sound.
            let mut connection = connection(&database).lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(behavior)?;
            let value = work(&transaction, &database.cipher)?;
            transaction.commit()?;
            Ok(value)
        };
        match tokio::task::spawn_blocking(run).await {
            Ok(result) => result,
            Err(panic) => Err(StoreError::Corrupt { what: "state", why: panic.to_string() }),
        }
    }

    /// Random name that distinguishes this server from others on the same engine: eight hexadecimal digits.
    pub async fn server_id(&self) -> Result<String> {
        self.read(|t, _| Ok(t.query_row("SELECT value FROM meta WHERE key = 'server_id'", [], |row| row.get("value"))?))
            .await
    }

    /// A route table version that is higher than all earlier ones, also after a restart.
    pub async fn next_route_version(&self) -> Result<u64> {
        self.transact(|t, _| {
            let sql = "UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'route_version' RETURNING value";
            let text: String = t.query_row(sql, [], |row| row.get("value"))?;
            parse("route version", &text)
        })
        .await
    }
}
