//! Operations of SSH keys.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    target::Server,
    time::Time,
};
use crate::{
    keys,
    model::{AppName, KeyName, Right, Role, UserName},
    store::{AddedKey, Effect, Key, NewKey},
};

/// Registers an SSH key of a user; makes the user when there is none.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AddKey {
    /// The user whose key it is; a new one is made.
    #[arg(value_name = "USER")]
    pub user: UserName,
    /// Name of the key; by default, the user's.
    #[arg(long, value_name = "NAME")]
    pub name: Option<KeyName>,
    /// Make the user an admin, who may do everything.
    #[arg(long)]
    #[serde(default)]
    pub admin: bool,
    /// Make the user a member of this app only: a new user is then a machine user, such as CI.
    #[arg(long, value_name = "APP", conflicts_with = "admin")]
    pub app: Option<AppName>,
    /// Role in the app: viewer, deployer, operator or owner; by default, deployer.
    #[arg(long, requires = "app")]
    pub role: Option<Role>,
    /// The key: the one line of a .pub file.
    #[arg(skip)]
    #[schemars(extend("format" = "ssh-public-key"))]
    pub public_key: String,
}

/// An SSH key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct KeyInfo {
    /// User.
    pub user: UserName,
    /// Name of the key.
    pub name: KeyName,
    /// Fingerprint as OpenSSH prints it: `SHA256:…`.
    pub fingerprint: String,
    /// Whether the user may do everything.
    pub admin: bool,
    /// Whether this is a machine user.
    pub machine: bool,
    /// Time of registration.
    pub created_at: Time,
}

impl From<Key> for KeyInfo {
    fn from(key: Key) -> Self {
        let Key { id: _, user: _, public_key: _, user_name, admin, machine, name, fingerprint, created_at } = key;
        Self { user: user_name, name, fingerprint, admin, machine, created_at: Time(created_at) }
    }
}

impl Operation for AddKey {
    const NAME: &'static str = "ssh-keys:add";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = KeyInfo;

    fn target(&self) {}

    fn audit(&self) -> String {
        let mut text = self.user.to_string();
        if let Some(name) = &self.name {
            let _ = write!(text, " --name {name}");
        }
        if let Ok(key) = keys::parse_public_key(&self.public_key) {
            let _ = write!(text, " {}", key.fingerprint);
        }
        if self.admin {
            text.push_str(" --admin");
        }
        if let Some(app) = &self.app {
            let _ = write!(text, " --app {app} --role {}", self.role.unwrap_or(Role::Deployer));
        }
        text
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<KeyInfo> {
        let parsed = keys::parse_public_key(&self.public_key)?;
        if self.admin && self.app.is_some() {
            return Err(Failure::invalid("a key for one app makes no admin; leave out --admin or --app"));
        }
        let joined = match self.app {
            Some(app) => {
                let app = context.store.app_named(app).await?;
                context.recording.about(app.id, &app.name);
                Some((app, self.role.unwrap_or(Role::Deployer)))
            }
            None if self.role.is_some() => return Err(Failure::invalid("a role needs an app; add --app APP")),
            None => None,
        };
        let new = NewKey {
            user: self.user,
            name: self.name,
            fingerprint: parsed.fingerprint,
            public_key: parsed.openssh,
            admin: self.admin,
            membership: joined.as_ref().map(|(app, role)| (app.id, *role)),
        };
        let AddedKey { key, user_created, promoted } = context.store.add_key(new).await?;
        if promoted {
            context.progress.detail(format!("{} is an admin now", key.user_name)).await;
        }
        if !user_created {
            let text = format!("{} is another key of the user {}, with all its rights", key.name, key.user_name);
            context.progress.detail(text).await;
            if let Some((app, role)) = &joined {
                context
                    .progress
                    .detail(format!("{} is {role} of {} now, with every key", key.user_name, app.name))
                    .await;
            }
        }
        Ok(key.into())
    }
}

/// Lists the SSH keys of all users.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListKeys {}

impl Operation for ListKeys {
    const NAME: &'static str = "ssh-keys:list";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<KeyInfo>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<KeyInfo>> {
        Ok(context.store.keys().await?.into_iter().map(KeyInfo::from).collect())
    }
}

/// Removes an SSH key; its user and that user's apps stay.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveKey {
    /// Name or fingerprint of the key.
    pub name: String,
}

/// A key that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemovedKey {
    /// User.
    pub user: UserName,
    /// Name of the key.
    pub name: KeyName,
}

impl Operation for RemoveKey {
    const NAME: &'static str = "ssh-keys:remove";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = RemovedKey;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.name.chars().take(100).collect()
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<RemovedKey> {
        let removed = context.store.remove_key(self.name).await?;
        context.progress.step(format!("Removed the key {}", removed.name)).await;
        let left = context.store.keys().await?;
        if !left.iter().any(|key| key.user == removed.user) {
            let text = format!(
                "{0} has no key left; ssh-keys:add {0} adds one, users:remove {0} removes the user",
                removed.user_name
            );
            context.progress.detail(text).await;
        }
        if !left.iter().any(|key| key.admin) {
            let text = "no admin key is left: on the server's own machine, `paas ssh-keys:add NAME --admin` adds one";
            context.progress.trouble(text).await;
        }
        Ok(RemovedKey { user: removed.user_name, name: removed.name })
    }
}
