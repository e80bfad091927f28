//! Errors of the reconciler and of rollouts.

use std::path::PathBuf;

use super::{diagnosis::Diagnosis, failure::InstanceFailure};
use crate::{config::ConfigError, engine::EngineError, model::InvalidName, store::StoreError};

/// Errors that no app caused.
#[derive(Debug, thiserror::Error)]
pub enum InstancesError {
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A name that paas generated is invalid.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// An app's log cannot be written or read.
    #[error("cannot use the log {path}: {source}; check the disk's free space and the folder's permissions")]
    Log {
        /// Folder of the log.
        path: PathBuf,
        /// Cause.
        source: std::io::Error,
    },
    /// The runtime did not say where an instance can be reached.
    #[error("the instance was started, but has no address; it is tried again")]
    NoAddress,
    /// A task panicked.
    #[error("an instance's task failed: {0}")]
    Panicked(#[source] tokio::task::JoinError),
    /// The app is not marked for removal.
    #[error("the app {0} is not marked for removal; its instances are kept")]
    NotDestroying(String),
    /// Instances of an app that is being destroyed are not removed in time.
    #[error("{left} instances of the app are not removed yet: {why}; repeat the command later")]
    NotRemoved {
        /// Number of instances that are left.
        left: usize,
        /// Probable cause.
        why: &'static str,
    },
    /// The app cannot be reconciled at the moment; the reconciler retries.
    #[error("{0}; the change is stored, and is retried until it succeeds")]
    Stalled(String),
    /// The server is shutting down.
    #[error("the server is shutting down; try again when it is back")]
    ShuttingDown,
}

/// Why a release was not rolled out, or a formation is not running.
#[derive(Debug, thiserror::Error)]
pub enum RolloutError {
    /// An instance failed.
    #[error("{instance} did not become healthy: {reason}{}", hint.as_ref().map(|h| format!("; {h}")).unwrap_or_default())]
    Unhealthy {
        /// Name of the instance: `web.1`.
        instance: String,
        /// What is wrong with the instance.
        reason: String,
        /// What to do.
        hint: Option<String>,
        /// Last lines that the instance printed.
        log: Vec<String>,
    },
    /// A later rollout or restart of the app replaced this one.
    #[error("superseded by a newer release of this app; releases:list shows it")]
    Superseded,
    /// The caller cancelled the rollout.
    #[error("cancelled; the previous release keeps running")]
    Cancelled,
    /// The app has no release to restart.
    #[error("the app {0} has no release yet; deploy one with git push")]
    NotDeployed(String),
    /// The app is stopped, so there is nothing to restart.
    #[error("the app {0} is stopped; ps:start {0} starts it")]
    Stopped(String),
    /// The app or the release does not exist any more.
    #[error("the app or its release no longer exists")]
    Gone,
    /// An error that no app caused.
    #[error(transparent)]
    Instances(#[from] InstancesError),
}

impl From<InstanceFailure> for RolloutError {
    fn from(
        InstanceFailure { instance, diagnosis: Diagnosis { reason, hint, .. }, log, run: _ }: InstanceFailure,
    ) -> Self {
        Self::Unhealthy { instance, reason, hint, log }
    }
}

impl From<StoreError> for RolloutError {
    fn from(error: StoreError) -> Self {
        Self::Instances(error.into())
    }
}
