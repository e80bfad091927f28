//! Operations of users: persons and machines.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, failure::Result, operation::Operation, target::Server, time::Time};
use crate::{
    model::{Right, UserName},
    store::{Effect, User},
};

/// Tells who calls.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct WhoAmI {}

/// The caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CallerInfo {
    /// Name of the user, or `local`.
    pub name: String,
    /// Whether the caller may do everything.
    pub admin: bool,
    /// Whether this is a machine user.
    pub machine: bool,
    /// Fingerprint of the SSH key.
    pub fingerprint: Option<String>,
}

impl Operation for WhoAmI {
    const NAME: &'static str = "whoami";
    const RIGHT: Right = Right::Connect;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = CallerInfo;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<CallerInfo> {
        let caller = context.caller;
        Ok(CallerInfo {
            name: caller.name().to_owned(),
            admin: caller.admin,
            machine: caller.machine,
            fingerprint: caller.actor.fingerprint.clone(),
        })
    }
}

/// Adds a user, who has no key yet.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AddUser {
    /// Name of the new user.
    pub name: UserName,
    /// Make the user an admin, who may do everything.
    #[arg(long)]
    #[serde(default)]
    pub admin: bool,
}

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UserInfo {
    /// Name.
    pub name: UserName,
    /// Whether the user may do everything.
    pub admin: bool,
    /// Whether this is a machine user, which creates no apps.
    pub machine: bool,
    /// Number of SSH keys.
    pub keys: usize,
    /// Time of creation.
    pub created_at: Time,
}

impl UserInfo {
    fn new(user: User, keys: usize) -> Self {
        let User { id: _, name, admin, machine, created_at } = user;
        Self { name, admin, machine, keys, created_at: Time(created_at) }
    }
}

impl Operation for AddUser {
    const NAME: &'static str = "users:add";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = UserInfo;

    fn target(&self) {}

    fn audit(&self) -> String {
        format!("{}{}", self.name, if self.admin { " --admin" } else { "" })
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<UserInfo> {
        Ok(UserInfo::new(context.store.add_user(self.name, self.admin).await?, 0))
    }
}

/// Lists the users.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListUsers {}

impl Operation for ListUsers {
    const NAME: &'static str = "users:list";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<UserInfo>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<UserInfo>> {
        let keys = context.store.keys().await?;
        let count = |user: &User| keys.iter().filter(|key| key.user == user.id).count();
        Ok(context.store.users().await?.into_iter().map(|user| UserInfo::new(user.clone(), count(&user))).collect())
    }
}

/// A property of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum UserProperty {
    /// Whether the user may do everything.
    Admin,
}

/// Sets a property of a user.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetUser {
    /// User.
    pub user: UserName,
    /// admin
    #[arg(value_enum)]
    pub property: UserProperty,
    /// true or false
    #[arg(action = clap::ArgAction::Set)]
    pub value: bool,
}

impl Operation for SetUser {
    const NAME: &'static str = "users:set";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = UserInfo;

    fn target(&self) {}

    fn audit(&self) -> String {
        let UserProperty::Admin = self.property;
        format!("{} admin {}", self.user, self.value)
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<UserInfo> {
        let user = context.store.user_named(self.user).await?;
        let UserProperty::Admin = self.property;
        context.store.set_admin(user.id, self.value).await?;
        let keys = context.store.keys().await?.iter().filter(|key| key.user == user.id).count();
        Ok(UserInfo::new(User { admin: self.value, ..user }, keys))
    }
}

/// Removes a user with all keys and memberships.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveUser {
    /// User.
    pub user: UserName,
}

/// A user that was removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RemovedUser {
    /// Name.
    pub name: UserName,
}

impl Operation for RemoveUser {
    const NAME: &'static str = "users:remove";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = RemovedUser;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.user.to_string()
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<RemovedUser> {
        let user = context.store.user_named(self.user).await?;
        context.store.remove_user(user.id).await?;
        Ok(RemovedUser { name: user.name })
    }
}
