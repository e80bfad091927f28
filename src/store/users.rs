//! Users: people and machines, each with any number of SSH keys.

use rusqlite::{Row, Transaction};

use super::{
    columns::text,
    database::Store,
    error::{Result, StoreError, taken},
    ids::UserId,
    time::{Millis, now},
};
use crate::model::{AppName, UserName};

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Identity.
    pub id: UserId,
    /// Unique name.
    pub name: UserName,
    /// Whether the user may do everything.
    pub admin: bool,
    /// Whether the user is a machine: it was created with a key for one app.
    pub machine: bool,
    /// Time of creation.
    pub created_at: Millis,
}

const COLUMNS: &str = "id, name, admin, machine, created_at";

fn user(row: &Row<'_>) -> Result<User> {
    Ok(User {
        id: UserId(row.get("id")?),
        name: text(row, "name", "user name")?,
        admin: row.get("admin")?,
        machine: row.get("machine")?,
        created_at: row.get("created_at")?,
    })
}

/// The user with this identity, or [`StoreError::NotFound`].
pub(super) fn with_id(t: &Transaction<'_>, id: UserId) -> Result<User> {
    let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE id = ?1"))?;
    let found = query.query_and_then([id.0], user)?.next().transpose()?;
    found.ok_or_else(|| StoreError::NotFound("this user was removed; users:list lists all".to_owned()))
}

/// The user of this name.
pub(super) fn find(t: &Transaction<'_>, name: &UserName) -> Result<Option<User>> {
    let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM users WHERE name = ?1"))?;
    query.query_and_then([name.as_str()], user)?.next().transpose()
}

/// Adds a user.
pub(super) fn add(t: &Transaction<'_>, name: &UserName, admin: bool, machine: bool) -> Result<User> {
    t.execute(
        "INSERT INTO users (name, admin, machine, created_at) VALUES (?1, ?2, ?3, ?4)",
        (name.as_str(), admin, machine, now()),
    )
    .map_err(taken(|| format!("there is a user named {name} already; choose another name, or users:list lists all")))?;
    with_id(t, UserId(t.last_insert_rowid()))
}

/// Makes the user an admin, or takes that right away.
pub(super) fn set_admin(t: &Transaction<'_>, id: UserId, admin: bool) -> Result<()> {
    t.execute("UPDATE users SET admin = ?2 WHERE id = ?1", (id.0, admin))?;
    Ok(())
}

fn refuse_last_admin(t: &Transaction<'_>, user: &User) -> Result<()> {
    let others: bool =
        t.query_row("SELECT EXISTS (SELECT 1 FROM users WHERE admin AND id != ?1) AS others", [user.id.0], |row| {
            row.get("others")
        })?;
    if !user.admin || others {
        return Ok(());
    }
    Err(StoreError::Refused(format!("{} is the last admin; make another user an admin first", user.name)))
}

/// Apps of which the user is the only owner. One that is being destroyed needs none.
fn only_owned(t: &Transaction<'_>, id: UserId) -> Result<Vec<AppName>> {
    let mut query = t.prepare_cached(
        "SELECT a.name AS name FROM apps a JOIN members m ON m.app = a.id AND m.user = ?1 AND m.role = 'owner'
         WHERE NOT a.destroying AND NOT EXISTS (
            SELECT 1 FROM members o WHERE o.app = a.id AND o.role = 'owner' AND o.user != ?1)
         ORDER BY a.name",
    )?;
    query.query_and_then([id.0], |row| text(row, "name", "app name"))?.collect()
}

impl Store {
    /// Adds a user without keys. The name must be unique.
    pub async fn add_user(&self, name: UserName, admin: bool) -> Result<User> {
        self.transact(move |t, _| add(t, &name, admin, false)).await
    }

    /// All users, by name.
    pub async fn users(&self) -> Result<Vec<User>> {
        self.read(|t, _| {
            let mut query = t.prepare_cached(&format!("SELECT {COLUMNS} FROM users ORDER BY name"))?;
            query.query_and_then([], user)?.collect()
        })
        .await
    }

    /// The user of this name.
    pub async fn user(&self, name: UserName) -> Result<Option<User>> {
        self.read(move |t, _| find(t, &name)).await
    }

    /// The user of this name, or [`StoreError::NotFound`].
    pub async fn user_named(&self, name: UserName) -> Result<User> {
        self.user(name.clone()).await?.ok_or_else(|| {
            StoreError::NotFound(format!(
                "there is no user named {name}; users:list lists all, ssh-keys:add {name} adds one"
            ))
        })
    }

    /// Makes a user an admin, or takes that right away. Refused for the last admin.
    pub async fn set_admin(&self, id: UserId, admin: bool) -> Result<()> {
        self.transact(move |t, _| {
            let user = with_id(t, id)?;
            if !admin {
                refuse_last_admin(t, &user)?;
            }
            set_admin(t, id, admin)
        })
        .await
    }

    /// Removes a user with all keys and memberships. Refused for the last admin and for the only owner of an app.
    pub async fn remove_user(&self, id: UserId) -> Result<()> {
        self.transact(move |t, _| {
            let user = with_id(t, id)?;
            refuse_last_admin(t, &user)?;
            let apps = only_owned(t, id)?;
            if let Some(first) = apps.first() {
                let first = first.clone();
                let apps = apps.iter().map(AppName::as_str).collect::<Vec<_>>().join(", ");
                return Err(StoreError::Refused(format!(
                    "{} is the only owner of {apps}; access:transfer {first} USER gives {first} to another user",
                    user.name
                )));
            }
            t.execute("DELETE FROM users WHERE id = ?1", [id.0])?;
            Ok(())
        })
        .await
    }
}
