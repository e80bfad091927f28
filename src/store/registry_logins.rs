//! Logins at image registries: of the server, for the builds of all apps, and of single apps.

use super::{
    columns::text,
    database::Store,
    error::Result,
    ids::AppId,
    secrets::Cipher,
    time::{Millis, now},
};
use crate::model::{RegistryHost, Secret};

/// A login at an image registry, with which builds pull base images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLogin {
    /// Registry.
    pub host: RegistryHost,
    /// Name of the user at the registry.
    pub username: String,
    /// Password or token.
    pub password: Secret,
}

/// A login as lists show it: without its password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegistryLoginRow {
    /// Registry.
    pub host: RegistryHost,
    /// Name of the user at the registry.
    pub username: String,
    /// The app whose builds use it; `None` for the builds of all apps that have no login of their own at this registry.
    pub app: Option<AppId>,
    /// Time at which it was set.
    pub created_at: Millis,
}

/// Context of [`Cipher::seal`]: a password moved to another app or registry cannot be decrypted.
fn context(app: Option<i64>, host: &str) -> String {
    format!("registry_logins/{}/{host}", app.unwrap_or_default())
}

impl Store {
    /// Sets a login of an app, or without one of the server; replaces that at the same registry.
    pub async fn set_registry_login(&self, app: Option<AppId>, login: RegistryLogin) -> Result<()> {
        self.transact(move |t, cipher| {
            let (app, host) = (app.map(|app| app.0), login.host.as_str());
            let sealed = cipher.seal(login.password.expose(), &context(app, host))?;
            t.execute(
                "INSERT INTO registry_logins (app, host, username, password, created_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT DO UPDATE SET username = excluded.username, password = excluded.password,
                    created_at = excluded.created_at",
                (app, host, &login.username, sealed, now()),
            )?;
            Ok(())
        })
        .await
    }

    /// Removes a login of an app, or without one of the server. Returns whether there was one.
    pub async fn remove_registry_login(&self, app: Option<AppId>, host: RegistryHost) -> Result<bool> {
        self.transact(move |t, _| {
            let app = app.map(|app| app.0);
            Ok(t.execute("DELETE FROM registry_logins WHERE app IS ?1 AND host = ?2", (app, host.as_str()))? > 0)
        })
        .await
    }

    /// The logins that builds of the app use, by registry: its own, and those of the server at other registries. Without an
    /// app, those of the server.
    pub async fn registry_login_rows(&self, app: Option<AppId>) -> Result<Vec<RegistryLoginRow>> {
        self.read(move |t, _| {
            let sql = format!("SELECT host, username, app, created_at FROM registry_logins AS login {OF_APP}");
            let mut query = t.prepare_cached(&sql)?;
            let rows = query.query_and_then([app.map(|app| app.0)], |row| {
                Ok(RegistryLoginRow {
                    host: text(row, "host", "registry host")?,
                    username: row.get("username")?,
                    app: row.get::<_, Option<i64>>("app")?.map(AppId),
                    created_at: row.get("created_at")?,
                })
            })?;
            rows.collect()
        })
        .await
    }

    /// The same logins with their passwords.
    pub async fn registry_logins(&self, app: AppId) -> Result<Vec<RegistryLogin>> {
        self.read(move |t, cipher| {
            let sql = format!("SELECT host, username, app, password FROM registry_logins AS login {OF_APP}");
            let mut query = t.prepare_cached(&sql)?;
            query.query_and_then([Some(app.0)], |row| login(cipher, row))?.collect()
        })
        .await
    }
}

/// The logins that builds of the app `?1` use, by registry.
const OF_APP: &str = "WHERE app IS ?1 OR app IS NULL AND NOT EXISTS
    (SELECT 1 FROM registry_logins AS own WHERE own.app = ?1 AND own.host = login.host) ORDER BY host";

fn login(cipher: &Cipher, row: &rusqlite::Row<'_>) -> Result<RegistryLogin> {
    let host: RegistryHost = text(row, "host", "registry host")?;
    let sealed: Vec<u8> = row.get("password")?;
    let password = cipher.open_sealed(&sealed, &context(row.get("app")?, host.as_str()))?;
    Ok(RegistryLogin { host, username: row.get("username")?, password: Secret::new(password) })
}
