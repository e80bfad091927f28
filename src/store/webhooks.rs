//! Webhooks of forges, and the events that they have sent.

use rusqlite::Row;

use super::{
    columns::{optional_text, text},
    database::Store,
    error::{Result, StoreError},
    ids::{AppId, UserId},
    secrets::Cipher,
    time::{Millis, now},
};
use crate::model::{AppName, BranchName, RemoteUrl, Secret, UserName};

/// Maximum number of webhooks of an app.
const MAX_WEBHOOKS: i64 = 20;

/// Number of events of a webhook whose hashes are kept.
const KEPT_DELIVERIES: i64 = 1000;

/// A webhook, without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    /// Unguessable identity, which is part of its address.
    pub id: String,
    /// App that is deployed.
    pub app: AppId,
    /// Name of the app.
    pub app_name: AppName,
    /// Repository that is fetched.
    pub url: RemoteUrl,
    /// Branch that the app follows.
    pub branch: BranchName,
    /// User who added it, with the rights of this moment; none on the local socket.
    pub user: Option<WebhookUser>,
    /// Time of creation.
    pub created_at: Millis,
    /// Time of the last push event that was accepted.
    pub last_delivery_at: Option<Millis>,
}

/// The user whose rights a webhook has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUser {
    /// Identity.
    pub id: UserId,
    /// Name.
    pub name: UserName,
    /// Whether the user may do everything.
    pub admin: bool,
    /// Whether the user is a machine.
    pub machine: bool,
}

/// A webhook to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewWebhook {
    /// Unguessable identity.
    pub id: String,
    /// App.
    pub app: AppId,
    /// Repository that is fetched.
    pub url: RemoteUrl,
    /// Branch that the app follows.
    pub branch: BranchName,
    /// What signs its events.
    pub secret: Secret,
    /// User who adds it.
    pub user: Option<UserId>,
}

const SELECT: &str =
    "SELECT w.id AS id, w.app AS app, a.name AS app_name, w.url AS url, w.branch AS branch, w.user AS user,
    u.name AS user_name, u.admin AS admin, u.machine AS machine, w.created_at AS created_at,
    w.last_delivery_at AS last_delivery_at, w.secret AS secret
    FROM webhooks w JOIN apps a ON a.id = w.app LEFT JOIN users u ON u.id = w.user";

/// Context of [`Cipher::seal`].
fn context(id: &str) -> String {
    format!("webhooks/{id}")
}

fn webhook(row: &Row<'_>) -> Result<Webhook> {
    let name: Option<UserName> = optional_text(row, "user_name", "user name")?;
    let user = match (row.get::<_, Option<i64>>("user")?, name) {
        (Some(id), Some(name)) => {
            Some(WebhookUser { id: UserId(id), name, admin: row.get("admin")?, machine: row.get("machine")? })
        }
        _ => None,
    };
    Ok(Webhook {
        id: row.get("id")?,
        app: AppId(row.get("app")?),
        app_name: text(row, "app_name", "app name")?,
        url: text(row, "url", "address of a repository")?,
        branch: text(row, "branch", "branch name")?,
        user,
        created_at: row.get("created_at")?,
        last_delivery_at: row.get("last_delivery_at")?,
    })
}

fn secret(cipher: &Cipher, row: &Row<'_>) -> Result<Secret> {
    let (id, sealed): (String, Vec<u8>) = (row.get("id")?, row.get("secret")?);
    cipher.open_sealed(&sealed, &context(&id)).map(Secret::new)
}

impl Store {
    /// Adds a webhook.
    pub async fn add_webhook(&self, new: NewWebhook) -> Result<Webhook> {
        self.transact(move |t, cipher| {
            let count: i64 =
                t.query_row("SELECT count(*) AS n FROM webhooks WHERE app = ?1", [new.app.0], |row| row.get("n"))?;
            if count >= MAX_WEBHOOKS {
                let text = format!("an app has at most {MAX_WEBHOOKS} webhooks; webhooks:remove removes one");
                return Err(StoreError::Exhausted(text));
            }
            let sealed = cipher.seal(new.secret.expose(), &context(&new.id))?;
            t.execute(
                "INSERT INTO webhooks (id, app, url, branch, secret, user, created_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                (
                    &new.id,
                    new.app.0,
                    new.url.as_str(),
                    new.branch.as_str(),
                    sealed,
                    new.user.map(|user| user.0),
                    now(),
                ),
            )?;
            t.query_row_and_then(&format!("{SELECT} WHERE w.id = ?1"), [&new.id], webhook)
        })
        .await
    }

    /// A webhook and its secret.
    pub async fn webhook(&self, id: String) -> Result<Option<(Webhook, Secret)>> {
        self.read(move |t, cipher| {
            let sql = format!("{SELECT} WHERE w.id = ?1 AND NOT a.destroying");
            let mut query = t.prepare_cached(&sql)?;
            query.query_and_then([&id], |row| Ok((webhook(row)?, secret(cipher, row)?)))?.next().transpose()
        })
        .await
    }

    /// The webhooks of an app, oldest first.
    pub async fn webhooks(&self, app: AppId) -> Result<Vec<Webhook>> {
        self.read(move |t, _| {
            let sql = format!("{SELECT} WHERE w.app = ?1 ORDER BY w.created_at, w.id");
            t.prepare_cached(&sql)?.query_and_then([app.0], webhook)?.collect()
        })
        .await
    }

    /// Removes a webhook of an app. Returns whether there was one.
    pub async fn remove_webhook(&self, app: AppId, id: String) -> Result<bool> {
        self.transact(move |t, _| Ok(t.execute("DELETE FROM webhooks WHERE app = ?1 AND id = ?2", (app.0, &id))? > 0))
            .await
    }

    /// Accepts an event by the hash of what was signed. Returns whether it is the first of that hash.
    pub async fn accept_delivery(&self, id: String, hash: [u8; 32]) -> Result<bool> {
        self.transact(move |t, _| {
            let now = now();
            let added = t.execute(
                "INSERT INTO webhook_deliveries (webhook, hash, received_at) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
                (&id, &hash[..], now),
            )? > 0;
            if added {
                t.execute("UPDATE webhooks SET last_delivery_at = ?2 WHERE id = ?1", (&id, now))?;
                t.execute(
                    "DELETE FROM webhook_deliveries WHERE webhook = ?1 AND rowid NOT IN
                        (SELECT rowid FROM webhook_deliveries WHERE webhook = ?1 ORDER BY received_at DESC, rowid DESC LIMIT ?2)",
                    (&id, KEPT_DELIVERIES),
                )?;
            }
            Ok(added)
        })
        .await
    }
}
