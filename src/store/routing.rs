//! What the route table is built from.

use std::collections::{BTreeSet, HashMap};

use super::{
    apps::{self, App},
    database::Store,
    error::Result,
    ids::AppId,
    instances::{self, Instance},
    links,
    ports::{self, PortMapping},
    releases,
};
use crate::model::{ProcessType, ReleaseNumber};

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
    /// The process type that port mappings lead to, of each release that is current or has instances, if there is one.
    pub exposed: HashMap<(AppId, ReleaseNumber), ProcessType>,
    /// Apps that others reach by an internal name.
    pub linked: BTreeSet<AppId>,
}

impl RoutingState {
    /// Whether port mappings lead to the instances of this one's process type.
    pub fn is_exposed(&self, row: &Instance) -> bool {
        self.exposed.get(&(row.app, row.release)) == Some(&row.process_type)
    }
}

impl Store {
    /// What the route table is built from.
    pub async fn routing_state(&self) -> Result<RoutingState> {
        self.read(|t, _| {
            Ok(RoutingState {
                mappings: ports::all(t)?,
                apps: apps::all(t)?,
                instances: instances::all(t)?,
                exposed: releases::exposed_types(t)?,
                linked: links::targets(t)?,
            })
        })
        .await
    }
}
