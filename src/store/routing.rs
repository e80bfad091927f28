//! What the route table is built from.

use super::{
    apps::{self, App},
    database::Store,
    error::Result,
    ids::AppId,
    instances::{self, Instance},
    ports::{self, PortMapping},
};

/// What the route table is built from. All of it is of the same moment: a commit point changes an app and its instances
/// together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutingState {
    /// Active port mappings of all apps.
    pub mappings: Vec<(AppId, PortMapping)>,
    /// All apps, by name.
    pub apps: Vec<App>,
    /// The instances of all apps.
    pub instances: Vec<Instance>,
}

impl Store {
    /// What the route table is built from.
    pub async fn routing_state(&self) -> Result<RoutingState> {
        self.read(|t, _| {
            Ok(RoutingState { mappings: ports::all(t)?, apps: apps::all(t)?, instances: instances::all(t)? })
        })
        .await
    }
}
