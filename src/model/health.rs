//! When an instance counts as healthy.

use std::time::Duration;

/// What is asked of an instance.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// Its port accepts a TCP connection.
    Tcp,
    /// `GET` of this path answers with a status from 200 to 399.
    Http(String),
    /// It runs for this long without exiting; for process types without a port.
    Uptime(Duration),
}

/// A startup check of one process type. Times are whole or broken seconds in JSON, as in Dokku's `app.json`.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct HealthCheck {
    /// What is asked.
    pub probe: Probe,
    /// How often it is asked before the instance counts as failed.
    pub attempts: u32,
    /// The wait between two attempts.
    pub wait: Duration,
    /// How long one attempt may take.
    pub timeout: Duration,
}

impl HealthCheck {
    /// The check of a process type for which the app declares none: `web` has a minute to accept a connection; others
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

    /// The longest that this check can take.
    pub fn deadline(&self) -> Duration {
        match self.probe {
            Probe::Uptime(uptime) => uptime,
            Probe::Tcp | Probe::Http(_) => {
                self.wait.max(Duration::from_millis(10)) * self.attempts.max(1) + self.timeout
            }
        }
    }
}
