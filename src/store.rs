//! The database (SQLite): what users declared, releases, builds and instances. Each state change is one transaction.

mod apps;
mod buildpacks;
mod builds;
mod columns;
mod config_vars;
mod database;
mod deployments;
mod error;
mod ids;
mod instances;
mod keys;
mod ports;
mod releases;
mod schema;
mod secrets;
mod stacks;
#[cfg(test)]
mod tests;
mod time;

pub use apps::App;
pub use buildpacks::{ChosenBuildpack, PackageRow};
pub use builds::{Build, BuildState, UsedBuildpack};
pub use config_vars::ConfigVars;
pub use database::Store;
pub use deployments::Deployment;
pub use error::{Result, StoreError};
pub use ids::{AppId, BuildId, KeyId};
pub use instances::{Instance, InstanceState, NewInstance};
pub use keys::Key;
pub use ports::{PortMapping, PortScheme};
pub use releases::{NewRelease, ProcessSpec, PushedRelease, Release, ReleaseKind, ReleaseState};
pub use stacks::{StackImages, StackRevision, StackSource};
pub use time::{Millis, now};
