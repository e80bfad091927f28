//! Why a command failed.

use crate::{
    deploy::DeployError,
    instances::{InstancesError, RolloutError},
    keys::KeyError,
    model::InvalidName,
    store::StoreError,
};

/// Why a command failed: one line for the caller.
#[derive(Debug, thiserror::Error)]
pub(super) enum CommandError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Deploy(#[from] DeployError),
    #[error(transparent)]
    Rollout(#[from] RolloutError),
    #[error(transparent)]
    Instances(#[from] InstancesError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error(transparent)]
    Name(#[from] InvalidName),
    #[error("only an admin key may do this")]
    NotAdmin,
    #[error("{0}")]
    Refused(String),
    #[error("cannot read {path}: {source}")]
    File { path: String, source: std::io::Error },
    #[error("cannot read standard input: {0}")]
    Input(#[source] std::io::Error),
}

pub(super) type Result<T = (), E = CommandError> = std::result::Result<T, E>;
