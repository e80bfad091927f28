//! Health checks: when an instance counts as healthy.

use std::time::Duration;

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

impl HealthCheck {
    /// The check of a process type for which the app declares none: `web` must accept a connection within a minute, others
    /// must run for two seconds.
    pub fn default_for(process_type: &super::ProcessType) -> Self {
        if process_type.is_web() {
            return Self {
                probe: Probe::Tcp,
                attempts: 60,
                wait: Duration::from_secs(1),
                timeout: Duration::from_secs(5),
            };
        }
        Self {
            probe: Probe::Uptime(Duration::from_secs(2)),
            attempts: 1,
            wait: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
        }
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
