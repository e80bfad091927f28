//! Operations of logins at image registries, with which builds pull the base images of Dockerfiles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    time::Time,
};
use crate::{
    model::{AppName, RegistryHost, Right, Secret},
    store::{App, Effect, RegistryLogin, RegistryLoginRow},
};

/// Maximum length of the name of a user at a registry, in bytes.
const MAX_USERNAME_BYTES: usize = 256;
/// Maximum length of a password, in bytes: some registries take the JSON of a key.
const MAX_PASSWORD_BYTES: usize = 16 * 1024;

/// Sets the login at an image registry, of the server or of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogIn {
    /// Registry, such as ghcr.io.
    pub host: RegistryHost,
    /// Name of the user at the registry.
    #[schemars(regex(pattern = r"^[^:\x00-\x1f\x7f-\x9f]{1,64}$"))]
    pub username: String,
    /// Password or token.
    #[schemars(length(min = 1))]
    pub password: Secret,
    /// App; without it, for the builds of all apps that have no login of their own at the registry.
    #[serde(default)]
    pub app: Option<AppName>,
}

/// A login at an image registry. Its password is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RegistryLoginInfo {
    /// Registry.
    pub host: RegistryHost,
    /// Name of the user at the registry; that of a login of the server is shown to admins only.
    pub username: Option<String>,
    /// The app whose login it is; none if it is one of the server.
    pub app: Option<AppName>,
    /// Time at which it was set.
    pub since: Time,
}

impl RegistryLoginInfo {
    fn new(row: RegistryLoginRow, app: Option<&App>, held: Right) -> Self {
        let is_shown = row.app.is_some() || held >= Right::Admin;
        Self {
            host: row.host,
            username: Some(row.username).filter(|_| is_shown),
            app: row.app.and(app).map(|app| app.name.clone()),
            since: Time(row.created_at),
        }
    }
}

impl Operation for LogIn {
    const NAME: &'static str = "registry:login";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = Option<App>;
    type Output = RegistryLoginInfo;

    fn target(&self) -> Option<AppName> {
        self.app.clone()
    }

    /// Not the user name: some registries take a token for it.
    fn audit(&self) -> String {
        self.host.to_string()
    }

    async fn run(self, context: &Context<'_>, app: Option<App>) -> Result<RegistryLoginInfo> {
        check(&self.username, &self.password)?;
        let Self { host, username, password, .. } = self;
        let id = app.as_ref().map(|app| app.id);
        let login = RegistryLogin { host: host.clone(), username, password };
        context.store.set_registry_login(id, login).await?;
        let text = format!(
            "{} use this login at {host} from now on; the registry is first asked by the next build",
            builds_of(app.as_ref())
        );
        context.progress.detail(text).await;
        let rows = context.store.registry_login_rows(id).await?;
        let row = rows.into_iter().find(|row| row.host == host && row.app == id);
        let row = row.ok_or_else(|| no_login(&host, app.as_ref()))?;
        Ok(RegistryLoginInfo::new(row, app.as_ref(), context.held))
    }
}

/// Refuses a login that no registry takes; an error never repeats a value.
fn check(username: &str, password: &Secret) -> Result {
    let is_name = (1..=MAX_USERNAME_BYTES).contains(&username.len());
    if !is_name || username.contains(':') || username.chars().any(char::is_control) {
        let text =
            "the user name is empty, longer than 256 bytes, or has a colon or control character; give the name alone";
        return Err(Failure::invalid(text));
    }
    let password = password.expose();
    if password.is_empty() {
        return Err(Failure::invalid("the password is empty; send it on standard input"));
    }
    if password.len() > MAX_PASSWORD_BYTES || password.contains('\0') {
        return Err(Failure::invalid("the password has a NUL byte or more than 16 KiB; send the password alone"));
    }
    Ok(())
}

fn builds_of(app: Option<&App>) -> String {
    app.map_or_else(|| "builds of all apps".to_owned(), |app| format!("builds of {}", app.name))
}

fn no_login(host: &RegistryHost, app: Option<&App>) -> Failure {
    Failure::not_found(match app {
        Some(App { name, .. }) => {
            format!("{name} has no login of its own at {host}; registry:list --app {name} shows those that it uses")
        }
        None => format!("the server has no login at {host}; registry:list shows those that it has"),
    })
}

/// Removes the login at an image registry, of the server or of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct LogOut {
    /// Registry, such as ghcr.io.
    pub host: RegistryHost,
    /// App; without it, the server's login (admins only).
    #[arg(long)]
    #[serde(default)]
    pub app: Option<AppName>,
}

/// A login that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LoggedOut {
    /// Registry.
    pub host: RegistryHost,
    /// The app whose login it was; none if it was one of the server.
    pub app: Option<AppName>,
}

impl Operation for LogOut {
    const NAME: &'static str = "registry:logout";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = Option<App>;
    type Output = LoggedOut;

    fn target(&self) -> Option<AppName> {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.host.to_string()
    }

    async fn run(self, context: &Context<'_>, app: Option<App>) -> Result<LoggedOut> {
        let host = self.host;
        let id = app.as_ref().map(|app| app.id);
        if !context.store.remove_registry_login(id, host.clone()).await? {
            return Err(no_login(&host, app.as_ref()));
        }
        let is_left = match id {
            Some(_) => context.store.registry_login_rows(id).await?.iter().any(|row| row.host == host),
            None => false,
        };
        let rest = if is_left { ", but that of the server" } else { "" };
        let text = format!("{} no longer use this login at {host}{rest}", builds_of(app.as_ref()));
        context.progress.detail(text).await;
        Ok(LoggedOut { host, app: app.map(|app| app.name) })
    }
}

/// Lists the logins at image registries that builds of an app use, or those of the server, without passwords.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListLogins {
    /// App; without it, the server's logins (admins only).
    #[arg(long)]
    #[serde(default)]
    pub app: Option<AppName>,
}

impl Operation for ListLogins {
    const NAME: &'static str = "registry:list";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Read;
    type Target = Option<App>;
    type Output = Vec<RegistryLoginInfo>;

    fn target(&self) -> Option<AppName> {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: Option<App>) -> Result<Vec<RegistryLoginInfo>> {
        let rows = context.store.registry_login_rows(app.as_ref().map(|app| app.id)).await?;
        Ok(rows.into_iter().map(|row| RegistryLoginInfo::new(row, app.as_ref(), context.held)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::AppId;

    #[test]
    fn a_login_is_checked_and_its_values_are_never_shown() {
        let input = serde_json::json!({ "host": "Ghcr.io", "username": "us3r", "password": "hunter2" });
        let login: LogIn = serde_json::from_value(input).unwrap();
        assert_eq!(login.audit(), "ghcr.io");
        assert!(!format!("{login:?}").contains("hunter2"));
        assert_eq!(check(&login.username, &login.password), Ok(()));
        let long = "hunter2".repeat(MAX_PASSWORD_BYTES);
        for (username, password) in [
            ("", "hunter2"),
            ("us3r:x", "hunter2"),
            ("us3r\n", "hunter2"),
            (&"us3r".repeat(100), "hunter2"),
            ("us3r", ""),
            ("us3r", "hunter2\0"),
            ("us3r", &long),
        ] {
            let error = check(username, &Secret::new(password)).unwrap_err().to_string();
            assert!(!error.contains("us3r") && !error.contains("hunter2") && error.contains("; "), "{error}");
        }
    }

    #[test]
    fn the_user_name_of_a_login_of_the_server_is_shown_to_admins_only() {
        let shown = |app, held| {
            let row =
                RegistryLoginRow { host: "ghcr.io".parse().unwrap(), username: "us3r".into(), app, created_at: 0 };
            RegistryLoginInfo::new(row, None, held).username.is_some()
        };
        assert!(shown(None, Right::Admin) && !shown(None, Right::Own) && shown(Some(AppId(1)), Right::Operate));
    }
}
