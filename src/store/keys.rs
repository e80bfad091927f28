//! SSH keys: who may come in.

use rusqlite::{OptionalExtension as _, Row};

use super::{Millis, Result, Store, StoreError, now, read, taken};
use crate::model::KeyName;

/// Identity of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId(pub i64);

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Identity.
    pub id: KeyId,
    /// Its unique name.
    pub name: KeyName,
    /// `SHA256:…`, as OpenSSH prints it.
    pub fingerprint: String,
    /// As in `authorized_keys`, without comment.
    pub public_key: String,
    /// Whether it may act on everything.
    pub admin: bool,
    /// When it was added.
    pub created_at: Millis,
}

fn from_row(row: &Row<'_>) -> rusqlite::Result<(i64, String, String, String, bool, i64)> {
    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
}

fn key(
    (id, name, fingerprint, public_key, admin, created_at): (i64, String, String, String, bool, i64),
) -> Result<Key> {
    Ok(Key { id: KeyId(id), name: read("key name", &name)?, fingerprint, public_key, admin, created_at })
}

const COLUMNS: &str = "id, name, fingerprint, public_key, admin, created_at";

impl Store {
    /// Adds a key; names and keys are unique.
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
            query.query_map([], from_row)?.map(|row| key(row?)).collect()
        })
        .await
    }

    /// The key with this fingerprint.
    pub async fn key_by_fingerprint(&self, fingerprint: String) -> Result<Option<Key>> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM keys WHERE fingerprint = ?1"))?;
            query.query_row([&fingerprint], from_row).optional()?.map(key).transpose()
        })
        .await
    }

    /// Removes a key. The apps it made stay; only admins act on them then.
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
