//! Tokens of the HTTP API. Each belongs to a user, and gives the user's rights or a part of them.

use rusqlite::Row;

use super::{
    columns::{optional_text, text},
    database::Store,
    error::{Result, StoreError, taken},
    ids::{AppId, UserId},
    time::{Millis, now},
};
use crate::model::{AppName, Role, TokenName, UserName};

/// A token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// User whose rights it gives.
    pub user: UserId,
    /// Name of the user.
    pub user_name: UserName,
    /// Whether the user may do everything.
    pub admin: bool,
    /// Whether the user is a machine.
    pub machine: bool,
    /// Unique name among the user's tokens.
    pub name: TokenName,
    /// SHA-256 of the token: `SHA256:…`.
    pub fingerprint: String,
    /// The only app on which it gives rights, with its name.
    pub app: Option<(AppId, AppName)>,
    /// The role whose rights it gives at most.
    pub role: Option<Role>,
    /// Time of creation.
    pub created_at: Millis,
    /// Time from which it is not accepted.
    pub expires_at: Option<Millis>,
    /// Time of the last use, to the minute.
    pub last_used_at: Option<Millis>,
}

/// A token to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// User whose rights it gives.
    pub user: UserId,
    /// Unique name among the user's tokens.
    pub name: TokenName,
    /// SHA-256 of the token.
    pub fingerprint: String,
    /// The only app on which it gives rights.
    pub app: Option<AppId>,
    /// The role whose rights it gives at most.
    pub role: Option<Role>,
    /// Time from which it is not accepted.
    pub expires_at: Option<Millis>,
}

/// Maximum number of tokens of a user.
const MAX_TOKENS: i64 = 100;

/// The time of the last use is stored only if it is later than the stored one by this much.
const USE_RESOLUTION: Millis = 60_000;

const SELECT: &str =
    "SELECT k.user AS user, u.name AS user_name, u.admin AS admin, u.machine AS machine, k.name AS name,
    k.fingerprint AS fingerprint, k.app AS app, a.name AS app_name, k.role AS role, k.created_at AS created_at,
    k.expires_at AS expires_at, k.last_used_at AS last_used_at
    FROM tokens k JOIN users u ON u.id = k.user LEFT JOIN apps a ON a.id = k.app";

fn token(row: &Row<'_>) -> Result<Token> {
    let app = row.get::<_, Option<i64>>("app")?.map(AppId);
    Ok(Token {
        user: UserId(row.get("user")?),
        user_name: text(row, "user_name", "user name")?,
        admin: row.get("admin")?,
        machine: row.get("machine")?,
        name: text(row, "name", "token name")?,
        fingerprint: row.get("fingerprint")?,
        app: app.zip(optional_text(row, "app_name", "app name")?),
        role: optional_text(row, "role", "role")?,
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
        last_used_at: row.get("last_used_at")?,
    })
}

impl Store {
    /// Stores a token. Its name must be unique among the user's.
    pub async fn add_token(&self, new: NewToken) -> Result<Token> {
        self.transact(move |t, _| {
            let count: i64 =
                t.query_row("SELECT count(*) AS n FROM tokens WHERE user = ?1", [new.user.0], |row| row.get("n"))?;
            if count >= MAX_TOKENS {
                let text = format!("a user has at most {MAX_TOKENS} tokens; tokens:revoke removes one");
                return Err(StoreError::Exhausted(text));
            }
            t.execute(
                "INSERT INTO tokens (user, name, fingerprint, app, role, created_at, expires_at)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (
                    new.user.0,
                    new.name.as_str(),
                    &new.fingerprint,
                    new.app.map(|app| app.0),
                    new.role.map(Role::as_str),
                    now(),
                    new.expires_at,
                ),
            )
            .map_err(taken(|| {
                let name = &new.name;
                format!("there is a token named {name} already; choose another name, or tokens:revoke {name}")
            }))?;
            t.query_row_and_then(&format!("{SELECT} WHERE k.id = ?1"), [t.last_insert_rowid()], token)
        })
        .await
    }

    /// The token with this fingerprint, unless it has expired.
    pub async fn valid_token(&self, fingerprint: String) -> Result<Option<Token>> {
        self.read(move |t, _| {
            let sql = format!("{SELECT} WHERE k.fingerprint = ?1 AND (k.expires_at IS NULL OR k.expires_at > ?2)");
            let mut query = t.prepare_cached(&sql)?;
            query.query_and_then((&fingerprint, now()), token)?.next().transpose()
        })
        .await
    }

    /// Records that a token is used, unless that was recorded within the last minute.
    pub async fn use_token(&self, used: &Token) -> Result<()> {
        let now = now();
        if used.last_used_at.is_some_and(|last| last + USE_RESOLUTION > now) {
            return Ok(());
        }
        let fingerprint = used.fingerprint.clone();
        self.transact(move |t, _| {
            t.execute("UPDATE tokens SET last_used_at = ?2 WHERE fingerprint = ?1", (&fingerprint, now))?;
            Ok(())
        })
        .await
    }

    /// The tokens of a user, or of all, by user and name.
    pub async fn tokens(&self, user: Option<UserId>) -> Result<Vec<Token>> {
        self.read(move |t, _| {
            let sql = format!("{SELECT} WHERE ?1 IS NULL OR k.user = ?1 ORDER BY u.name, k.name");
            t.prepare_cached(&sql)?.query_and_then([user.map(|user| user.0)], token)?.collect()
        })
        .await
    }

    /// Removes a token of a user, and returns it.
    pub async fn remove_token(&self, user: UserId, name: TokenName) -> Result<Token> {
        self.transact(move |t, _| {
            let sql = format!("{SELECT} WHERE k.user = ?1 AND k.name = ?2");
            let mut query = t.prepare_cached(&sql)?;
            let found = query.query_and_then((user.0, name.as_str()), token)?.next().transpose()?;
            let not_found = || StoreError::NotFound(format!("there is no token named {name}; tokens:list shows all"));
            let found = found.ok_or_else(not_found)?;
            t.execute("DELETE FROM tokens WHERE user = ?1 AND name = ?2", (user.0, name.as_str()))?;
            Ok(found)
        })
        .await
    }
}
