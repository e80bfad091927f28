//! The reconciler: it brings the instances of every app to what the store declares, and keeps them so.
//!
//! Each app has a worker ([`worker`]), which asks a pure function ([`plan`]) for the next actions and carries them out:
//! launches ([`launch`], [`health`]), routes ([`routes`]), teardown ([`teardown`]). Callers wait for it by its handle
//! ([`waiting`]). It keeps no state that matters: after a crash, the rows and the engine's containers say how to go on
//! ([`adopt`]).

mod adopt;
mod check_target;
mod check_tls;
mod command_check;
mod container;
mod diagnosis;
mod error;
mod failure;
mod health;
mod http_check;
mod identity;
mod launch;
mod listening;
mod logs;
mod memory_kills;
mod monitor;
mod plan;
mod pump;
mod reconciler;
mod report;
mod requests;
mod rollout;
mod routes;
mod run_checks;
mod shared;
mod started;
mod sweeps;
mod teardown;
#[cfg(test)]
mod tests;
mod unhealthy;
mod waiting;
mod watched;
mod worker;
mod workers;

pub use error::{InstancesError, RolloutError};
pub use health::until_accepting;
pub use logs::{LogEntry, LogSelection, Logs};
pub use plan::UpdateStrategy;
pub use reconciler::Instances;
pub use report::{InstanceReport, ReportState};
pub use run_checks::CheckOutcome;
pub use started::StartedInstances;
pub use unhealthy::Unhealthy;
