//! SSH keys that may authenticate.

use rusqlite::{OptionalExtension as _, Row};

use super::{
    columns::text,
    database::Store,
    error::{Result, StoreError, taken},
    ids::KeyId,
    time::{Millis, now},
};
use crate::model::KeyName;

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Identity.
    pub id: KeyId,
    /// Unique name.
    pub name: KeyName,
    /// Fingerprint as OpenSSH prints it: `SHA256:…`.
    pub fingerprint: String,
    /// Public key as in `authorized_keys`, without comment.
    pub public_key: String,
    /// Whether the key may do everything.
    pub admin: bool,
    /// Time of registration.
    pub created_at: Millis,
}

const COLUMNS: &str = "id, name, fingerprint, public_key, admin, created_at";

fn key(row: &Row<'_>) -> Result<Key> {
    Ok(Key {
        id: KeyId(row.get("id")?),
        name: text(row, "name", "key name")?,
        fingerprint: row.get("fingerprint")?,
        public_key: row.get("public_key")?,
        admin: row.get("admin")?,
        created_at: row.get("created_at")?,
    })
}

impl Store {
    /// Registers a key. Its name and the key itself must be unique.
    pub async fn add_key(&self, name: KeyName, fingerprint: String, public_key: String, admin: bool) -> Result<KeyId> {
        self.transact(move |t, _| {
            let other: Option<String> =
                t.query_row("SELECT name FROM keys WHERE fingerprint = ?1", [&fingerprint], |r| r.get(0)).optional()?;
            if let Some(other) = other {
                return Err(StoreError::Taken(format!(
                    "this key is registered already, as {other}; remove that with ssh-keys:remove {other} first"
                )));
            }
            t.execute(
                "INSERT INTO keys (name, fingerprint, public_key, admin, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
                (name.as_str(), &fingerprint, &public_key, admin, now()),
            )
            .map_err(taken(|| {
                format!("there is a key named {name} already; choose another name, or ssh-keys:remove {name}")
            }))?;
            Ok(KeyId(t.last_insert_rowid()))
        })
        .await
    }

    /// All keys, by name.
    pub async fn keys(&self) -> Result<Vec<Key>> {
        self.transact(|t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM keys ORDER BY name"))?;
            query.query_and_then([], key)?.collect()
        })
        .await
    }

    /// The key with this fingerprint.
    pub async fn key_by_fingerprint(&self, fingerprint: String) -> Result<Option<Key>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE fingerprint = ?1"))?;
            query.query_and_then([&fingerprint], key)?.next().transpose()
        })
        .await
    }

    /// Removes a key. The apps that it created remain; only admins may access them then.
    pub async fn remove_key(&self, name: KeyName) -> Result<()> {
        self.transact(move |t, _| {
            if t.execute("DELETE FROM keys WHERE name = ?1", [name.as_str()])? == 0 {
                return Err(StoreError::NotFound(format!("there is no key named {name}; ssh-keys:list shows all")));
            }
            Ok(())
        })
        .await
    }
}
