//! Operations of an app's members.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, failure::Result, operation::Operation, time::Time};
use crate::{
    model::{AppName, Right, Role, UserName},
    store::{App, Changer, Effect, Member, UserId},
};

/// A member of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct MemberInfo {
    /// User.
    pub user: UserName,
    /// Role.
    pub role: Role,
    /// Whether this is a machine user.
    pub machine: bool,
    /// Since when.
    pub since: Time,
}

/// The members of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Members {
    /// App.
    pub app: AppName,
    /// Members, the owner first; an app without members belongs to the admins.
    pub members: Vec<MemberInfo>,
}

impl Members {
    async fn of(context: &Context<'_>, app: App) -> Result<Self> {
        Ok(Self { members: members(context, &app).await?, app: app.name })
    }
}

/// The members of an app, the owner first.
pub(super) async fn members(context: &Context<'_>, app: &App) -> Result<Vec<MemberInfo>> {
    let info = |Member { user, role, machine, since }| MemberInfo { user, role, machine, since: Time(since) };
    Ok(context.store.members(app.id).await?.into_iter().map(info).collect())
}

fn changer(context: &Context<'_>) -> Changer {
    Changer { user: context.caller.actor.user, admin: context.caller.admin }
}

/// Refuses to give the user this role, or none, if the app then counts against one who may not have what it takes of the disk.
async fn check_next_owner(context: &Context<'_>, app: &App, user: UserId, role: Option<Role>) -> Result {
    match context.store.owner_after(app.id, user, role).await? {
        Some(next) => Ok(context.deployer.check_next_owner(app.id, next).await?),
        None => Ok(()),
    }
}

/// Lists the members of an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListMembers {
    /// App.
    pub app: AppName,
}

impl Operation for ListMembers {
    const NAME: &'static str = "access:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Members;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Members> {
        Members::of(context, app).await
    }
}

/// Gives a user a role in an app, or another role.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AddMember {
    /// App.
    pub app: AppName,
    /// User.
    pub user: UserName,
    /// viewer, deployer, operator or owner; without it, a user who has no role yet becomes deployer.
    pub role: Option<Role>,
}

impl Operation for AddMember {
    const NAME: &'static str = "access:add";
    const RIGHT: Right = Right::Own;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = Members;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.role.map_or_else(|| self.user.to_string(), |role| format!("{} {role}", self.user))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Members> {
        let user = context.store.user_named(self.user).await?;
        match self.role {
            Some(role) => {
                check_next_owner(context, &app, user.id, Some(role)).await?;
                context.store.set_member(app.id, user.id, role, changer(context)).await?;
            }
            None => context.store.add_member(app.id, user.id, Role::Deployer).await?,
        }
        Members::of(context, app).await
    }
}

/// Takes the role of a user in an app away.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RemoveMember {
    /// App.
    pub app: AppName,
    /// User.
    pub user: UserName,
}

impl Operation for RemoveMember {
    const NAME: &'static str = "access:remove";
    const RIGHT: Right = Right::Own;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = Members;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.user.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Members> {
        let user = context.store.user_named(self.user).await?;
        check_next_owner(context, &app, user.id, None).await?;
        context.store.remove_member(app.id, user.id, changer(context)).await?;
        Members::of(context, app).await
    }
}

/// Makes a user the only owner of an app; earlier owners stay members, as operators. Owners take an app for themselves; only an
/// admin gives it to somebody else.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct TransferApp {
    /// App.
    pub app: AppName,
    /// The new owner.
    pub user: UserName,
}

impl Operation for TransferApp {
    const NAME: &'static str = "access:transfer";
    const RIGHT: Right = Right::Own;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = Members;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.user.to_string()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Members> {
        let user = context.store.user_named(self.user).await?;
        context.deployer.check_next_owner(app.id, user.id).await?;
        context.store.transfer(app.id, user.id, changer(context)).await?;
        Members::of(context, app).await
    }
}
