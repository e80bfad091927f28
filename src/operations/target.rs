//! What an operation is about: the server, an app, or several apps.

use super::{
    authorization::Authorization,
    failure::{Failure, FailureKind, Result},
    selection::AppSelection,
};
use crate::{
    model::{AppName, Right},
    store::App,
};

/// Kind of what an operation is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// The server.
    Server,
    /// One app.
    App,
    /// One app, or all.
    Apps,
}

/// What an operation is about.
pub trait Target: Send + Sync + Sized {
    /// Kind.
    const SCOPE: Scope;
    /// How the input names it.
    type Named: Send;

    /// The app that the input names, for the audit entry of an operation that is refused.
    fn app_name(named: &Self::Named) -> Option<AppName>;

    /// Finds it, if the caller has the right on it.
    fn resolve(
        named: Self::Named,
        authorization: &Authorization<'_>,
        right: Right,
    ) -> impl Future<Output = Result<Self>> + Send;

    /// The app, for the audit entry.
    fn app(&self) -> Option<&App>;

    /// The highest right of the caller on it.
    fn held_right(&self, authorization: &Authorization<'_>) -> impl Future<Output = Result<Right>> + Send;
}

/// The server as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Server;

impl Target for Server {
    const SCOPE: Scope = Scope::Server;
    type Named = ();

    fn app_name((): &()) -> Option<AppName> {
        None
    }

    async fn resolve((): (), authorization: &Authorization<'_>, right: Right) -> Result<Self> {
        authorization.server(right).map(|()| Self)
    }

    fn app(&self) -> Option<&App> {
        None
    }

    async fn held_right(&self, authorization: &Authorization<'_>) -> Result<Right> {
        Ok(authorization.server_right())
    }
}

impl Target for App {
    const SCOPE: Scope = Scope::App;
    type Named = AppName;

    fn app_name(named: &AppName) -> Option<AppName> {
        Some(named.clone())
    }

    async fn resolve(named: AppName, authorization: &Authorization<'_>, right: Right) -> Result<Self> {
        authorization.app(named, right).await
    }

    fn app(&self) -> Option<&App> {
        Some(self)
    }

    async fn held_right(&self, authorization: &Authorization<'_>) -> Result<Right> {
        Ok(authorization.right_on(self).await?.unwrap_or(Right::Use))
    }
}

/// One app, or all apps on which the caller has the right.
impl Target for Vec<App> {
    const SCOPE: Scope = Scope::Apps;
    type Named = AppSelection;

    fn app_name(named: &AppSelection) -> Option<AppName> {
        match named {
            AppSelection::One(name) => Some(name.clone()),
            AppSelection::All | AppSelection::AllEvenDestroying | AppSelection::None => None,
        }
    }

    async fn resolve(named: AppSelection, authorization: &Authorization<'_>, right: Right) -> Result<Self> {
        match named {
            AppSelection::One(name) => Ok(vec![authorization.app(name, right).await?]),
            AppSelection::All => {
                Ok(authorization.apps(right).await?.into_iter().filter(|app| !app.destroying).collect())
            }
            AppSelection::AllEvenDestroying => authorization.apps(right).await,
            AppSelection::None => Err(Failure::new(FailureKind::Invalid, "give the name of one app, or --all")),
        }
    }

    fn app(&self) -> Option<&App> {
        match &self[..] {
            [app] => Some(app),
            _ => None,
        }
    }

    async fn held_right(&self, authorization: &Authorization<'_>) -> Result<Right> {
        Ok(authorization.server_right())
    }
}
