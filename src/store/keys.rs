//! SSH keys that may authenticate. Each belongs to a user.

use rusqlite::{OptionalExtension as _, Row, Transaction};

use super::{
    columns::{parse, text},
    database::Store,
    error::{Result, StoreError, taken},
    ids::{AppId, KeyId, UserId},
    members,
    time::{Millis, now},
    users,
};
use crate::model::{KeyName, Role, UserName};

/// A registered key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Identity.
    pub id: KeyId,
    /// User whom the key authenticates.
    pub user: UserId,
    /// Name of the user.
    pub user_name: UserName,
    /// Whether the user may do everything.
    pub admin: bool,
    /// Whether the user is a machine.
    pub machine: bool,
    /// Unique name.
    pub name: KeyName,
    /// Fingerprint as OpenSSH prints it: `SHA256:…`.
    pub fingerprint: String,
    /// Public key as in `authorized_keys`, without comment.
    pub public_key: String,
    /// Time of registration.
    pub created_at: Millis,
}

/// A key to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Name of the user whom the key authenticates; the user is created if there is none.
    pub user: UserName,
    /// Name of the key; if there is none, the user's name, with a number if that is taken.
    pub name: Option<KeyName>,
    /// Fingerprint as OpenSSH prints it.
    pub fingerprint: String,
    /// Public key as in `authorized_keys`, without comment.
    pub public_key: String,
    /// Whether the user becomes an admin. `false` takes nothing away.
    pub admin: bool,
    /// App of which the user becomes a member, with the role. A user who is created for it is a machine.
    pub membership: Option<(AppId, Role)>,
}

/// What the registration of a key did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedKey {
    /// The key.
    pub key: Key,
    /// Whether the user was created.
    pub user_created: bool,
    /// Whether the user existed and became an admin.
    pub promoted: bool,
}

/// Maximum length of a key's name, in bytes; see [`KeyName`].
const MAX_NAME: usize = 64;

const SELECT: &str = "SELECT k.id AS id, k.user AS user, u.name AS user_name, u.admin AS admin, u.machine AS machine,
    k.name AS name, k.fingerprint AS fingerprint, k.public_key AS public_key, k.created_at AS created_at
    FROM keys k JOIN users u ON u.id = k.user";

fn key(row: &Row<'_>) -> Result<Key> {
    Ok(Key {
        id: KeyId(row.get("id")?),
        user: UserId(row.get("user")?),
        user_name: text(row, "user_name", "user name")?,
        admin: row.get("admin")?,
        machine: row.get("machine")?,
        name: text(row, "name", "key name")?,
        fingerprint: row.get("fingerprint")?,
        public_key: row.get("public_key")?,
        created_at: row.get("created_at")?,
    })
}

/// The user's name, or `user-2`, `user-3` …: the first that no key has.
fn free_name(t: &Transaction<'_>, user: &UserName) -> Result<KeyName> {
    let mut query = t.prepare_cached("SELECT 1 FROM keys WHERE name = ?1")?;
    let mut candidate = user.to_string();
    let mut number = 1u32;
    while query.exists([&candidate])? {
        number += 1;
        let suffix = format!("-{number}");
        candidate = user.as_str().chars().take(MAX_NAME - suffix.len()).chain(suffix.chars()).collect();
    }
    parse("key name", &candidate)
}

fn add(t: &Transaction<'_>, new: &NewKey) -> Result<AddedKey> {
    let other: Option<String> = t
        .query_row("SELECT name FROM keys WHERE fingerprint = ?1", [&new.fingerprint], |row| row.get("name"))
        .optional()?;
    if let Some(other) = other {
        return Err(StoreError::Taken(format!(
            "this key is registered already, as {other}; remove that with ssh-keys:remove {other} first"
        )));
    }
    let found = users::find(t, &new.user)?;
    let user_created = found.is_none();
    let user = match found {
        Some(user) => user,
        None => users::add(t, &new.user, new.admin, new.membership.is_some())?,
    };
    let promoted = new.admin && !user.admin;
    if promoted {
        users::set_admin(t, user.id, true)?;
    }
    if let Some((app, role)) = new.membership {
        members::raise(t, app, user.id, role)?;
    }
    let name = match &new.name {
        Some(name) => name.clone(),
        None => free_name(t, &new.user)?,
    };
    t.execute(
        "INSERT INTO keys (user, name, fingerprint, public_key, created_at) VALUES (?1, ?2, ?3, ?4, ?5)",
        (user.id.0, name.as_str(), &new.fingerprint, &new.public_key, now()),
    )
    .map_err(taken(|| {
        format!("there is a key named {name} already; choose another name, or ssh-keys:remove {name}")
    }))?;
    let key = t.query_row_and_then(&format!("{SELECT} WHERE k.id = ?1"), [t.last_insert_rowid()], key)?;
    Ok(AddedKey { key, user_created, promoted })
}

impl Store {
    /// Registers a key, with its user and the user's membership. Its name and the key itself must be unique.
    pub async fn add_key(&self, new: NewKey) -> Result<AddedKey> {
        self.transact(move |t, _| add(t, &new)).await
    }

    /// All keys, by the user's name, then by their own.
    pub async fn keys(&self) -> Result<Vec<Key>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached(&format!("{SELECT} ORDER BY u.name, k.name"))?;
            query.query_and_then([], key)?.collect()
        })
        .await
    }

    /// The key with this fingerprint.
    pub async fn key_by_fingerprint(&self, fingerprint: String) -> Result<Option<Key>> {
        self.read(move |t, _| {
            let mut query = t.prepare_cached(&format!("{SELECT} WHERE k.fingerprint = ?1"))?;
            query.query_and_then([&fingerprint], key)?.next().transpose()
        })
        .await
    }

    /// Removes the key of this name or fingerprint, and returns it. Its user remains, even without keys.
    pub async fn remove_key(&self, name_or_fingerprint: String) -> Result<Key> {
        self.transact(move |t, _| {
            let mut query = t.prepare_cached(&format!("{SELECT} WHERE k.name = ?1 OR k.fingerprint = ?1"))?;
            let found = query.query_and_then([&name_or_fingerprint], key)?.next().transpose()?;
            let key = found.ok_or_else(|| {
                StoreError::NotFound(format!("there is no key named {name_or_fingerprint}; ssh-keys:list shows all"))
            })?;
            t.execute("DELETE FROM keys WHERE id = ?1", [key.id.0])?;
            Ok(key)
        })
        .await
    }
}
