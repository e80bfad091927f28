//! Rights: the only place that decides whether a caller may do something.

use super::{
    caller::Caller,
    failure::{Failure, FailureKind, Result},
};
use crate::{
    model::{AppName, Right, Role},
    store::{App, AppId, Store},
};

/// Decides what a caller may do.
pub struct Authorization<'a> {
    pub(super) store: &'a Store,
    pub(super) caller: &'a Caller,
    /// Name of the operation that asks.
    pub(super) operation: &'static str,
}

impl Authorization<'_> {
    /// Refuses an operation on the server that the caller has no right to. Returns the right that the caller has.
    pub(super) fn server(&self, right: Right) -> Result<Right> {
        let held = self.server_right();
        if held >= right {
            return Ok(held);
        }
        if self.caller.scope.is_some() && right == Right::Use {
            let failure = Failure::new(FailureKind::Denied, "this token is limited to an app or a role");
            return Err(failure.remedy("use one that is not, or an SSH key"));
        }
        Err(Failure::new(FailureKind::Denied, "only an admin may do this"))
    }

    pub(super) fn server_right(&self) -> Right {
        match self.caller.scope {
            Some(_) => Right::Connect,
            None if self.caller.admin => Right::Admin,
            None => Right::Use,
        }
    }

    /// Finds an app on which the caller has a right, and the right that the caller has. For an app that the caller may not
    /// see, the error is the same as for one that does not exist.
    pub(super) async fn app(&self, name: AppName, right: Right) -> Result<(App, Right)> {
        let not_found = || {
            let failure = Failure::not_found(format!("there is no app named {name}, or it is not yours"));
            failure.remedy(if self.caller.machine {
                "apps:list shows yours; a machine user creates none"
            } else {
                "apps:list shows yours"
            })
        };
        let app = self.store.find_app(name.clone()).await?.ok_or_else(not_found)?;
        let role = self.role(app.id).await?;
        let held = self.right_on(app.id, role).ok_or_else(not_found)?;
        if held >= right {
            return Ok((app, held));
        }
        if let Some(limit) = self.caller.scope.and_then(|scope| scope.role).filter(|limit| limit.right() == held) {
            let text = format!(
                "{} needs the role {}, and this token is limited to {}",
                self.operation,
                right.least_role(),
                limit.as_str()
            );
            return Err(Failure::new(FailureKind::Denied, text).remedy("create one with a higher role (tokens:create)"));
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
        let held = |app: &App| self.right_on(app.id, roles.get(&app.id).copied());
        Ok(apps.into_iter().filter(|app| held(app).is_some_and(|held| held >= right)).collect())
    }

    /// Whether the caller has a right on an app, or without one on the server.
    pub(super) async fn has_right(&self, app: Option<AppId>, right: Right) -> Result<bool> {
        let held = match app {
            Some(app) => self.right_on(app, self.role(app).await?),
            None => Some(self.server_right()),
        };
        Ok(held.is_some_and(|held| held >= right))
    }

    /// The right that the caller has on an app, with this role in it.
    fn right_on(&self, app: AppId, role: Option<Role>) -> Option<Right> {
        let Some(scope) = self.caller.scope else {
            return if self.caller.admin { Some(Right::Admin) } else { role.map(Role::right) };
        };
        if scope.app.is_some_and(|only| only != app) {
            return None;
        }
        let held = if scope.admin { Right::Admin } else { role?.right() };
        Some(scope.role.map_or(held, |limit| limit.right().min(held)))
    }

    async fn role(&self, app: AppId) -> Result<Option<Role>> {
        let Some(user) = self.caller.actor.user else { return Ok(None) };
        Ok(self.store.role(app, user).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{AppId, Changer, NewKey, UserId};

    struct Fixture {
        store: Store,
        _dir: tempfile::TempDir,
    }

    impl Fixture {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            Self { store: Store::open(dir.path()).unwrap(), _dir: dir }
        }

        async fn app(&self, name: &str, owner: Option<UserId>) -> AppId {
            self.store.create_app(name.parse().unwrap(), owner, 10_000..=10_009, vec![]).await.unwrap().id
        }

        async fn caller(&self, user: &str, admin: bool, membership: Option<(AppId, Role)>) -> Caller {
            Caller::registered(&self.store, user, admin, membership).await
        }

        async fn ask(&self, caller: &Caller, app: &str, right: Right) -> Result<AppId, (FailureKind, String)> {
            let authorization = Authorization { store: &self.store, caller, operation: "ps:scale" };
            let app = authorization.app(app.parse().unwrap(), right).await;
            app.map(|(app, _)| app.id).map_err(|failure| (failure.kind, failure.to_string()))
        }
    }

    #[tokio::test]
    async fn an_app_that_the_caller_may_not_see_does_not_exist() {
        let f = Fixture::new();
        let stranger = f.caller("stranger", false, None).await;
        f.app("secret", None).await;
        let hidden = f.ask(&stranger, "secret", Right::View).await.unwrap_err();
        assert_eq!(hidden.0, FailureKind::NotFound);
        let missing = f.ask(&stranger, "missing", Right::View).await.unwrap_err();
        assert_eq!(hidden.1.replace("secret", "missing"), missing.1);
        let admin = f.caller("root", true, None).await;
        assert!(f.ask(&admin, "secret", Right::Own).await.is_ok(), "without an owner, it belongs to the admins");
        assert!(f.ask(&Caller::local(), "secret", Right::Own).await.is_ok());
        let authorization = Authorization { store: &f.store, caller: &stranger, operation: "apps:list" };
        assert!(authorization.apps(Right::View).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_member_who_lacks_a_right_is_told_which_role_has_it() {
        let f = Fixture::new();
        let app = f.app("shop", None).await;
        let ci = f.caller("ci", false, Some((app, Role::Deployer))).await;
        assert!(f.ask(&ci, "shop", Right::Deploy).await.is_ok());
        let (kind, text) = f.ask(&ci, "shop", Right::Operate).await.unwrap_err();
        assert_eq!(kind, FailureKind::Denied);
        assert_eq!(
            text,
            "ps:scale needs the role operator, and you are deployer of shop; an owner changes that with access:add shop ci operator"
        );
        let authorization = Authorization { store: &f.store, caller: &ci, operation: "ps:restart" };
        assert!(authorization.apps(Right::Operate).await.unwrap().is_empty());
        assert_eq!(authorization.apps(Right::Deploy).await.unwrap().len(), 1);
        assert_eq!(authorization.server(Right::Admin).unwrap_err().kind, FailureKind::Denied);
    }

    #[tokio::test]
    async fn a_lost_key_is_replaced_and_a_removed_member_sees_nothing() {
        let f = Fixture::new();
        let ann = f.caller("ann", false, None).await;
        let app = f.app("shop", ann.actor.user).await;
        let key = f.store.keys().await.unwrap().into_iter().find(|key| key.user_name.as_str() == "ann").unwrap();
        f.store.remove_key(key.name.to_string()).await.unwrap();
        let new = NewKey {
            user: "ann".parse().unwrap(),
            name: None,
            fingerprint: "SHA256:new".into(),
            public_key: "k".into(),
            admin: false,
            membership: None,
        };
        let ann = Caller::of_key(f.store.add_key(new).await.unwrap().key, String::new());
        assert_eq!(f.ask(&ann, "shop", Right::Own).await, Ok(app));
        let bob = f.caller("bob", false, Some((app, Role::Viewer))).await;
        assert_eq!(f.ask(&bob, "shop", Right::View).await, Ok(app));
        let admin = Changer { user: None, admin: true };
        f.store.remove_member(app, bob.actor.user.unwrap(), admin).await.unwrap();
        assert_eq!(f.ask(&bob, "shop", Right::View).await.unwrap_err().0, FailureKind::NotFound);
    }
}
