//! Shared context of commands.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    error::{CommandError, Result},
    session::Session,
};
use crate::{
    config::Config,
    deploy::Deployer,
    instances::Instances,
    model::{AppName, Role},
    store::{App, Store},
};

/// What commands act on; cheap to clone.
#[derive(Clone)]
pub(super) struct Context {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) deployer: Deployer,
    pub(super) instances: Instances,
}

impl Context {
    /// Finds an app that the caller may act on. For an app of another owner, the error is the same as for one that does not
    /// exist.
    pub(super) async fn app(&self, session: &Session<'_>, name: AppName) -> Result<App> {
        let found = self.store.find_app(name.clone()).await?;
        match found {
            Some(app) if session.caller.may_use(&self.store, app.id).await? => Ok(app),
            Some(_) | None => Err(CommandError::Refused(format!(
                "there is no app named {name}, or it is not yours; apps:list shows yours"
            ))),
        }
    }

    /// The apps that the caller may act on.
    pub(super) async fn apps(&self, session: &Session<'_>) -> Result<Vec<App>> {
        let roles = match session.caller.user {
            Some(user) => self.store.roles_of(user).await?,
            None => BTreeMap::new(),
        };
        let may_use = |app: &App| session.caller.admin || roles.get(&app.id) == Some(&Role::Owner);
        Ok(self.store.apps().await?.into_iter().filter(|app| !app.destroying && may_use(app)).collect())
    }
}
