//! Health checks: when an instance counts as healthy.

use std::time::Duration;

use super::Exposure;

/// What one attempt of a health check tests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// The instance's port accepts a TCP connection.
    Tcp,
    /// `GET` of this path is answered with a status from 200 to 399.
    Http(String),
    /// The instance runs for this long without exiting; for process types without a port.
    Uptime(Duration),
}

/// The health check of a process type. As in Dokku's `app.json`, times in JSON are seconds, whole or fractional.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HealthCheck {
    /// What each attempt tests.
    pub probe: Probe,
    /// Number of attempts before the instance counts as failed.
    pub attempts: u32,
    /// Time between two attempts.
    pub wait: Duration,
    /// Longest duration of one attempt.
    pub timeout: Duration,
}

/// What an app declares of a health check.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeclaredCheck {
    /// What each attempt tests.
    pub probe: Option<Probe>,
    /// Number of attempts before the instance counts as failed.
    pub attempts: Option<u32>,
    /// Time between two attempts.
    pub wait: Option<Duration>,
    /// Longest duration of one attempt.
    pub timeout: Option<Duration>,
}

impl DeclaredCheck {
    /// The check of a process type; what the app does not declare of it is that of [`HealthCheck::default_for`].
    pub fn complete(self, exposure: Exposure) -> HealthCheck {
        let default = HealthCheck::default_for(exposure);
        HealthCheck {
            probe: self.probe.unwrap_or(default.probe),
            attempts: self.attempts.unwrap_or(default.attempts),
            wait: self.wait.unwrap_or(default.wait),
            timeout: self.timeout.unwrap_or(default.timeout),
        }
    }
}

impl HealthCheck {
    /// The check of a process type for which the app declares none: one that is exposed must accept a connection within a
    /// minute, others must run for two seconds.
    pub fn default_for(exposure: Exposure) -> Self {
        let (probe, attempts) = match exposure {
            Exposure::PortMappings => (Probe::Tcp, 60),
            Exposure::Nothing => (Probe::Uptime(Duration::from_secs(2)), 1),
        };
        Self { probe, attempts, wait: Duration::from_secs(1), timeout: Duration::from_secs(5) }
    }

    /// Longest duration of the whole check.
    pub fn deadline(&self) -> Duration {
        match self.probe {
            Probe::Uptime(uptime) => uptime,
            Probe::Tcp | Probe::Http(_) => {
                self.wait.max(Duration::from_millis(10)) * self.attempts.max(1) + self.timeout
            }
        }
    }
}
