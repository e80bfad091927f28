//! The database (SQLite): what users declared, releases, builds and instances. Each state change is one transaction.

mod apps;
mod buildpacks;
mod builds;
mod columns;
mod config_vars;
mod database;
mod deployments;
mod error;
mod events;
mod ids;
mod instances;
mod keys;
mod members;
mod ports;
mod process_spec;
mod releases;
mod routing;
mod schema;
mod secrets;
mod stacks;
#[cfg(test)]
mod tests;
mod time;
mod users;

pub use apps::App;
pub use buildpacks::{ChosenBuildpack, PackageRow};
pub use builds::{Build, BuildState, UsedBuildpack};
pub use config_vars::ConfigVars;
pub use database::Store;
pub use deployments::Deployment;
pub use error::{Result, StoreError};
pub use events::{Actor, Door, Effect, Event, EventFilter, NewEvent, Outcome};
pub use ids::{AppId, BuildId, EventId, KeyId, UserId};
pub use instances::{Instance, InstanceState, NewInstance};
pub use keys::{AddedKey, Key, NewKey};
pub use members::Member;
pub use ports::{PortMapping, PortScheme};
pub use process_spec::ProcessSpec;
pub use releases::{NewRelease, PushedRelease, Release, ReleaseKind, ReleaseState};
pub use routing::RoutingState;
pub use stacks::{StackImages, StackRevision, StackSource};
pub use time::{Millis, now};
pub use users::User;
