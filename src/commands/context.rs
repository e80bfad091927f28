//! Shared context of commands.

use std::sync::Arc;

use super::{
    error::{CommandError, Result},
    session::Session,
};
use crate::{
    config::Config,
    deploy::Deployer,
    instances::Instances,
    model::AppName,
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
        found.filter(|app| session.caller.may_use(app)).ok_or_else(|| {
            CommandError::Refused(format!("there is no app named {name}, or it is not yours; apps:list shows yours"))
        })
    }

    /// The apps that the caller may act on.
    pub(super) async fn apps(&self, session: &Session<'_>) -> Result<Vec<App>> {
        let apps = self.store.apps().await?;
        Ok(apps.into_iter().filter(|app| !app.destroying && session.caller.may_use(app)).collect())
    }
}
