//! What an operation is about: the server, an app, either of them, or several apps.

use super::{
    authorization::Authorization,
    failure::{Failure, Result},
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
    /// One app, or the server.
    #[serde(rename = "app or server")]
    AppOrServer,
}

/// What an operation is about.
pub trait Target: Send + Sync + Sized {
    /// Kind.
    const SCOPE: Scope;
    /// How the input names it.
    type Named: Clone + Send + Sync;

    /// The app that the input names, for the audit entry of an operation that is refused.
    fn app_name(named: &Self::Named) -> Option<AppName>;

    /// Whether the input names several apps, so that each has an audit entry of its own.
    fn is_several(_named: &Self::Named) -> bool {
        false
    }

    /// Finds it, if the caller has the right on it. Returns it with the highest right that the caller has on it.
    fn resolve(
        named: Self::Named,
        authorization: &Authorization<'_>,
        right: Right,
    ) -> impl Future<Output = Result<(Self, Right)>> + Send;

    /// Its apps.
    fn apps(&self) -> &[App];
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

    async fn resolve((): (), authorization: &Authorization<'_>, right: Right) -> Result<(Self, Right)> {
        authorization.server(right).map(|held| (Self, held))
    }

    fn apps(&self) -> &[App] {
        &[]
    }
}

impl Target for App {
    const SCOPE: Scope = Scope::App;
    type Named = AppName;

    fn app_name(named: &AppName) -> Option<AppName> {
        Some(named.clone())
    }

    async fn resolve(named: AppName, authorization: &Authorization<'_>, right: Right) -> Result<(Self, Right)> {
        authorization.app(named, right).await
    }

    fn apps(&self) -> &[App] {
        std::slice::from_ref(self)
    }
}

/// An app, or without one the server.
impl Target for Option<App> {
    const SCOPE: Scope = Scope::AppOrServer;
    type Named = Option<AppName>;

    fn app_name(named: &Option<AppName>) -> Option<AppName> {
        named.clone()
    }

    async fn resolve(named: Option<AppName>, authorization: &Authorization<'_>, right: Right) -> Result<(Self, Right)> {
        if let Some(name) = named {
            return authorization.app(name, right).await.map(|(app, held)| (Some(app), held));
        }
        let held = authorization.server(right);
        Ok((None, held.map_err(|failure| failure.remedy("for an app of yours, name it: --app APP"))?))
    }

    fn apps(&self) -> &[App] {
        self.as_slice()
    }
}

/// One app, or all apps on which the caller has the right.
impl Target for Vec<App> {
    const SCOPE: Scope = Scope::Apps;
    type Named = AppSelection;

    fn app_name(named: &AppSelection) -> Option<AppName> {
        match named {
            AppSelection::One(name) => Some(name.clone()),
            AppSelection::All | AppSelection::AllEvenDestroying | AppSelection::Unclear => None,
        }
    }

    fn is_several(named: &AppSelection) -> bool {
        matches!(named, AppSelection::All | AppSelection::AllEvenDestroying)
    }

    async fn resolve(named: AppSelection, authorization: &Authorization<'_>, right: Right) -> Result<(Self, Right)> {
        let apps = match named {
            AppSelection::One(name) => {
                return authorization.app(name, right).await.map(|(app, held)| (vec![app], held));
            }
            AppSelection::All => authorization.apps(right).await?.into_iter().filter(|app| !app.destroying).collect(),
            AppSelection::AllEvenDestroying => authorization.apps(right).await?,
            AppSelection::Unclear => {
                return Err(Failure::invalid("give either the name of one app, or --all"));
            }
        };
        Ok((apps, authorization.server_right()))
    }

    fn apps(&self) -> &[App] {
        self
    }
}
