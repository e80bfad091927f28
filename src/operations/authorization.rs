//! Rights: the only place that decides whether a caller may do something.

use super::{
    caller::Caller,
    failure::{Failure, FailureKind},
    operation::Result,
};
use crate::{
    model::{AppName, Right, Role},
    store::{App, Store},
};

/// Decides what a caller may do.
pub struct Authorization<'a> {
    pub(super) store: &'a Store,
    pub(super) caller: &'a Caller,
    /// Name of the operation that asks.
    pub(super) operation: &'static str,
}

impl Authorization<'_> {
    /// Refuses an operation on the server that the caller has no right to.
    pub(super) fn server(&self, right: Right) -> Result {
        if self.server_right() >= right {
            return Ok(());
        }
        Err(Failure::new(FailureKind::Denied, "only an admin may do this"))
    }

    pub(super) fn server_right(&self) -> Right {
        if self.caller.admin { Right::Admin } else { Right::Use }
    }

    /// Finds an app on which the caller has a right. For an app that the caller may not see, the error is the same as for
    /// one that does not exist.
    pub(super) async fn app(&self, name: AppName, right: Right) -> Result<App> {
        let not_found = || {
            let what = format!("there is no app named {name}, or it is not yours");
            Failure::new(FailureKind::NotFound, what).remedy("apps:list shows yours")
        };
        let app = self.store.find_app(name.clone()).await?.ok_or_else(not_found)?;
        let role = self.role(&app).await?;
        let held = self.right_of(role).ok_or_else(not_found)?;
        if held >= right {
            return Ok(app);
        }
        let role = role.map_or("member", Role::as_str);
        let what = format!("{} needs the role {}, and you are {role} of {name}", self.operation, right.least_role());
        let remedy = if right == Right::Admin {
            "ask an admin of this server".to_owned()
        } else {
            format!("an owner changes that with access:add {name} {} {}", self.caller.name(), right.least_role())
        };
        Err(Failure::new(FailureKind::Denied, what).remedy(remedy))
    }

    /// The apps on which the caller has a right, by name, including those that are being destroyed.
    pub(super) async fn apps(&self, right: Right) -> Result<Vec<App>> {
        let apps = self.store.apps().await?;
        if self.caller.admin {
            return Ok(apps);
        }
        let Some(user) = self.caller.actor.user else { return Ok(Vec::new()) };
        let roles = self.store.roles_of(user).await?;
        Ok(apps.into_iter().filter(|app| roles.get(&app.id).is_some_and(|role| role.right() >= right)).collect())
    }

    /// The highest right of the caller on an app; `None` if the caller may not even see it.
    pub(super) async fn right_on(&self, app: &App) -> Result<Option<Right>> {
        Ok(self.right_of(self.role(app).await?))
    }

    fn right_of(&self, role: Option<Role>) -> Option<Right> {
        if self.caller.admin { Some(Right::Admin) } else { role.map(Role::right) }
    }

    async fn role(&self, app: &App) -> Result<Option<Role>> {
        let Some(user) = self.caller.actor.user else { return Ok(None) };
        Ok(self.store.role(app.id, user).await?)
    }
}
