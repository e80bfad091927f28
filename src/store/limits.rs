//! What the configuration and the machine allow.

use std::time::Duration;

use super::error::{Result, StoreError};
use crate::{
    config::{Config, ConfigError, Quota},
    model::{Capacity, Size},
};

/// What the configuration and the machine allow.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    /// Quotas of users who have none of their own.
    pub(super) quota: Quota,
    /// Size of instances and tasks that have none of their own.
    pub(super) default_size: Size,
    /// Log that the engine keeps of an instance or task, in MiB.
    pub(super) log_mib: u64,
    /// How long a port rests before another app gets it.
    pub(super) port_rest: Duration,
    /// What the machine has, if it is known.
    pub(super) capacity: Option<Capacity>,
}

impl Limits {
    pub(super) fn new(config: &Config) -> Result<Self> {
        let invalid =
            |error: ConfigError| StoreError::Corrupt { what: "size in the configuration", why: error.to_string() };
        let default_size = config.default_size().map_err(invalid)?;
        let port_rest = Duration::from_secs(config.router.port_rest_seconds);
        let log_mib = config.instances.log_mib;
        Ok(Self { quota: config.quota.clone(), default_size, log_mib, port_rest, capacity: None })
    }

    /// The same on a machine that has so much, if it is known.
    pub(super) fn on(&self, capacity: Option<Capacity>) -> Self {
        Self { capacity, ..self.clone() }
    }
}
