//! The SQLite connection, and the transactions in which all work is done.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{Connection, Transaction, TransactionBehavior};

use super::{
    columns::parse,
    error::{Result, StoreError},
    schema,
    secrets::Cipher,
};

/// The database; cheap to clone.
#[derive(Clone)]
pub struct Store(Arc<Database>);

struct Database {
    connection: Mutex<Connection>,
    cipher: Cipher,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl Store {
    /// Opens `<data_dir>/paas.db` and `<data_dir>/secret.key`; creates both if neither exists.
    pub fn open(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join("paas.db");
        let cipher = Cipher::open(&data_dir.join("secret.key"), path.exists())?;
        let mut connection = Connection::open(&path)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.busy_timeout(std::time::Duration::from_secs(10))?;
        connection.set_prepared_statement_cache_capacity(128);
        schema::migrate(&mut connection)?;
        Ok(Self(Arc::new(Database { connection: Mutex::new(connection), cipher })))
    }

    /// Runs `work` in one transaction, outside the runtime's worker threads. An error rolls the transaction back.
    pub(super) async fn transact<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>, &Cipher) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let database = Arc::clone(&self.0);
        let run = move || {
            // A panic inside a transaction rolled it back, so the connection is sound.
            let mut connection = database.connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
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
        self.transact(|t, _| Ok(t.query_row("SELECT value FROM meta WHERE key = 'server_id'", [], |r| r.get(0))?)).await
    }

    /// A route table version that is higher than all earlier ones, also after a restart.
    pub async fn next_route_version(&self) -> Result<u64> {
        self.transact(|t, _| {
            t.execute("UPDATE meta SET value = CAST(value AS INTEGER) + 1 WHERE key = 'route_version'", [])?;
            let text: String = t.query_row("SELECT value FROM meta WHERE key = 'route_version'", [], |r| r.get(0))?;
            parse("route version", &text)
        })
        .await
    }
}
