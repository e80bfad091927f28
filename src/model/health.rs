//! Health checks: when an instance counts as healthy, when it gets requests, and when it is restarted. The format is that
//! of `healthchecks` in Dokku's `app.json` (docker-container-healthchecker, docs/file-format.md).

use std::{collections::BTreeMap, time::Duration};

use super::{Exposure, ProcessType};

/// When a check is made, and what its failure means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckType {
    /// After the start, until it passes once: only then does the instance count as healthy.
    #[default]
    Startup,
    /// From time to time: an instance that fails it gets no requests until it passes again.
    Readiness,
    /// From time to time: an instance that fails it is restarted.
    Liveness,
}

impl CheckType {
    /// Name in `app.json`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Startup => "startup",
            Self::Readiness => "readiness",
            Self::Liveness => "liveness",
        }
    }
}

/// Protocol of an HTTP check.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// Plain HTTP.
    #[default]
    Http,
    /// HTTP over TLS; the certificate is not verified.
    Https,
}

/// A header field of the request of an HTTP check.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CheckHeader {
    /// Name.
    pub name: String,
    /// Value.
    pub value: String,
}

/// The request of an HTTP check, and the response that it needs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(from = "StoredHttpProbe")]
pub struct HttpProbe {
    /// Path, and query if there is one.
    pub path: String,
    /// Text that the body of the response must contain.
    pub content: Option<String>,
    /// Header fields in addition to ours; one of the same name replaces ours.
    pub headers: Vec<CheckHeader>,
    /// Protocol.
    pub scheme: Scheme,
}

/// An HTTP check as any version of paas has stored it: the first ones had only a path.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum StoredHttpProbe {
    Path(String),
    Probe {
        path: String,
        content: Option<String>,
        #[serde(default)]
        headers: Vec<CheckHeader>,
        #[serde(default)]
        scheme: Scheme,
    },
}

impl From<StoredHttpProbe> for HttpProbe {
    fn from(stored: StoredHttpProbe) -> Self {
        match stored {
            StoredHttpProbe::Path(path) => Self::get(path),
            StoredHttpProbe::Probe { path, content, headers, scheme } => Self { path, content, headers, scheme },
        }
    }
}

impl HttpProbe {
    /// `GET` of a path, with no other conditions.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), content: None, headers: Vec::new(), scheme: Scheme::Http }
    }
}

/// What one attempt of a health check tests.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Probe {
    /// The instance's port accepts a TCP connection.
    Tcp,
    /// A `GET` is answered with a status from 200 to 399.
    Http(HttpProbe),
    /// A command in the instance's container exits with status 0.
    Command(Vec<String>),
    /// The instance runs for this long without exiting; for process types without a port.
    Uptime(Duration),
}

/// A health check of a process type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// When it is made, and what its failure means.
    pub check_type: CheckType,
    /// Name, for messages.
    pub name: Option<String>,
    /// What each attempt tests.
    pub probe: Probe,
    /// Port of the instance; `None` for that in the variable `PORT`.
    pub port: Option<u16>,
    /// Time between the start of the instance and the first attempt.
    pub initial_delay: Duration,
    /// Number of attempts in a row before the check counts as failed.
    pub attempts: u32,
    /// Time between two attempts.
    pub wait: Duration,
    /// Longest duration of one attempt.
    pub timeout: Duration,
    /// Whether a failure is only reported.
    pub warn: bool,
}

/// What an app declares of a health check. It is stored with a release.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DeclaredCheck {
    /// When it is made, and what its failure means.
    #[serde(default, rename = "type")]
    pub check_type: CheckType,
    /// Name, for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What each attempt tests.
    pub probe: Option<Probe>,
    /// Port of the instance; `None` for that in the variable `PORT`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Time between the start of the instance and the first attempt.
    #[serde(default)]
    pub initial_delay: Duration,
    /// Number of attempts in a row before the check counts as failed.
    pub attempts: Option<u32>,
    /// Time between two attempts.
    pub wait: Option<Duration>,
    /// Longest duration of one attempt.
    pub timeout: Option<Duration>,
    /// Whether a failure is only reported.
    #[serde(default)]
    pub warn: bool,
}

impl From<HealthCheck> for DeclaredCheck {
    fn from(check: HealthCheck) -> Self {
        let HealthCheck { check_type, name, probe, port, initial_delay, attempts, wait, timeout, warn } = check;
        let (attempts, wait, timeout) = (Some(attempts), Some(wait), Some(timeout));
        Self { check_type, name, probe: Some(probe), port, initial_delay, attempts, wait, timeout, warn }
    }
}

/// What becomes of the health checks of a process type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[cfg_attr(feature = "server", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum CheckMode {
    /// They are made.
    #[default]
    Enabled,
    /// None is made: an instance is healthy as soon as it runs.
    Skipped,
    /// None is made, and the old instances are stopped before the new ones start.
    Disabled,
}

/// An app's own settings of health checks (`checks:set`, `checks:disable`).
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CheckSettings {
    /// Attempts of checks for which `app.json` says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Time between their attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<Duration>,
    /// Longest duration of one of their attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Duration>,
    /// Longest time for which an instance that was replaced goes on with its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_to_retire: Option<Duration>,
    /// What becomes of the checks of process types that `modes` does not name.
    #[serde(default)]
    pub default_mode: CheckMode,
    /// What becomes of the checks of these process types.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub modes: BTreeMap<ProcessType, CheckMode>,
}

impl CheckSettings {
    /// What becomes of the checks of a process type.
    pub fn mode(&self, process_type: &ProcessType) -> CheckMode {
        self.modes.get(process_type).copied().unwrap_or(self.default_mode)
    }

    /// The checks that are made of the instances of a process type. One for which no startup check is declared has the
    /// default one.
    pub fn checks(
        &self,
        process_type: &ProcessType,
        declared: &[DeclaredCheck],
        exposure: Exposure,
    ) -> Vec<HealthCheck> {
        match self.mode(process_type) {
            CheckMode::Enabled => {}
            CheckMode::Skipped | CheckMode::Disabled => return Vec::new(),
        }
        self.all_checks(declared, exposure)
    }

    /// The same, whatever becomes of them.
    pub fn all_checks(&self, declared: &[DeclaredCheck], exposure: Exposure) -> Vec<HealthCheck> {
        let starts = declared.iter().any(|check| check.check_type == CheckType::Startup);
        let default = (!starts).then(|| self.default_check(exposure));
        default.into_iter().chain(declared.iter().map(|check| self.complete(check, exposure))).collect()
    }

    fn default_check(&self, exposure: Exposure) -> HealthCheck {
        let default = HealthCheck::default_for(exposure);
        let wait = self.wait.unwrap_or(default.wait);
        let attempts = match default.probe {
            Probe::Uptime(_) => default.attempts,
            Probe::Tcp | Probe::Http(_) | Probe::Command(_) => self.attempts.unwrap_or_else(|| fitting(wait)),
        };
        HealthCheck { wait, attempts, timeout: self.timeout.unwrap_or(default.timeout), ..default }
    }

    /// A declared check, with what the app does not declare of it.
    fn complete(&self, declared: &DeclaredCheck, exposure: Exposure) -> HealthCheck {
        let default = HealthCheck::default_for(exposure);
        let wait = declared.wait.or(self.wait).unwrap_or(HealthCheck::WAIT);
        let attempts = declared.attempts.or(self.attempts).unwrap_or_else(|| match declared.check_type {
            CheckType::Startup => fitting(wait),
            CheckType::Readiness | CheckType::Liveness => HealthCheck::ATTEMPTS,
        });
        HealthCheck {
            check_type: declared.check_type,
            name: declared.name.clone(),
            probe: declared.probe.clone().unwrap_or(default.probe),
            port: declared.port,
            initial_delay: declared.initial_delay,
            attempts,
            wait,
            timeout: declared.timeout.or(self.timeout).unwrap_or(default.timeout),
            warn: declared.warn,
        }
    }
}

/// Time within which an instance must have started, if the app declares no other.
const START: Duration = Duration::from_mins(1);

/// The number of attempts, this time apart, that fit in [`START`]; at least those of Dokku.
fn fitting(wait: Duration) -> u32 {
    fitting_in(START, wait)
}

fn fitting_in(time: Duration, wait: Duration) -> u32 {
    let fit = time.as_millis().div_ceil(wait.max(HealthCheck::MIN_WAIT).as_millis());
    u32::try_from(fit).unwrap_or(HealthCheck::MAX_ATTEMPTS).clamp(HealthCheck::ATTEMPTS, HealthCheck::MAX_ATTEMPTS)
}

impl HealthCheck {
    /// Largest number of attempts.
    pub const MAX_ATTEMPTS: u32 = 1000;
    /// Number of attempts of readiness and liveness checks, if none is declared.
    const ATTEMPTS: u32 = 3;
    /// Time between two attempts of a declared check, if none is declared.
    const WAIT: Duration = Duration::from_secs(5);
    /// Shortest time between two attempts.
    const MIN_WAIT: Duration = Duration::from_millis(10);

    /// The startup check of a process type for which the app declares none: one that is exposed must accept a connection
    /// within a minute, others must run for two seconds.
    pub fn default_for(exposure: Exposure) -> Self {
        let (probe, attempts) = match exposure {
            Exposure::PortMappings => (Probe::Tcp, 60),
            Exposure::Nothing => (Probe::Uptime(Duration::from_secs(2)), 1),
        };
        Self {
            check_type: CheckType::Startup,
            name: None,
            probe,
            port: None,
            initial_delay: Duration::ZERO,
            attempts,
            wait: Duration::from_secs(1),
            timeout: Duration::from_secs(5),
            warn: false,
        }
    }

    /// Time from the first attempt within which the check must pass, if it must pass once.
    pub fn limit(&self) -> Duration {
        match self.probe {
            Probe::Uptime(uptime) => uptime,
            Probe::Tcp | Probe::Http(_) | Probe::Command(_) => self.wait.max(Self::MIN_WAIT) * self.attempts.max(1),
        }
    }

    /// A readiness check as it is made of an instance that starts: it has as long as an instance has to start.
    #[must_use]
    pub fn at_start(&self) -> Self {
        Self { attempts: self.attempts.max(fitting(self.wait)), ..self.clone() }
    }

    /// Text about a failure of this check, which its name precedes.
    pub fn failure(&self, reason: &impl std::fmt::Display) -> String {
        format!("{}: {reason}", self.label())
    }

    /// The check in a message: `readiness check`, `startup check "database"`.
    pub fn label(&self) -> String {
        match &self.name {
            Some(name) => format!("{} check {name:?}", self.check_type.as_str()),
            None => format!("{} check", self.check_type.as_str()),
        }
    }

    /// What each attempt does: `GET /up`, `curl -f http://localhost/`.
    pub fn description(&self) -> String {
        let port = self.port.map_or_else(|| "$PORT".to_owned(), |port| format!("port {port}"));
        match &self.probe {
            Probe::Tcp => format!("connect to {port}"),
            Probe::Http(http) => match http.scheme {
                Scheme::Http => format!("GET {} on {port}", http.path),
                Scheme::Https => format!("GET {} on {port} over TLS", http.path),
            },
            Probe::Command(command) => command.join(" "),
            Probe::Uptime(uptime) => format!("run for {} s", uptime.as_secs_f32()),
        }
    }
}

/// The `HEALTHCHECK` of an image (docs.docker.com/reference/dockerfile, "HEALTHCHECK").
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageHealthCheck {
    /// The command and its arguments.
    pub command: Vec<String>,
    /// Time between two runs.
    pub interval: Duration,
    /// Longest duration of one run.
    pub timeout: Duration,
    /// Time that an instance has to start.
    pub start_period: Duration,
    /// Number of failures in a row before the instance counts as unhealthy.
    pub retries: u32,
}

impl ImageHealthCheck {
    /// The checks that it stands for: an instance that is healthy has passed it, and one that fails it gets no requests. It
    /// is not restarted: Docker's engine does not do so either.
    pub fn checks(&self, exposure: Exposure) -> Vec<DeclaredCheck> {
        let start = (self.start_period + self.interval * self.retries).max(START);
        let wait = self.interval.min(HealthCheck::WAIT);
        let check = |check_type, wait: Duration, attempts| DeclaredCheck {
            check_type,
            name: Some("HEALTHCHECK".to_owned()),
            probe: Some(Probe::Command(self.command.clone())),
            wait: Some(wait),
            attempts: Some(attempts),
            timeout: Some(self.timeout),
            ..DeclaredCheck::default()
        };
        let startup = check(CheckType::Startup, wait, fitting_in(start, wait));
        let readiness = || check(CheckType::Readiness, self.interval, self.retries);
        match exposure {
            Exposure::PortMappings => vec![startup, readiness()],
            Exposure::Nothing => vec![startup],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(settings: &CheckSettings, declared: &[DeclaredCheck]) -> Vec<HealthCheck> {
        settings.checks(&ProcessType::web(), declared, Exposure::PortMappings)
    }

    #[test]
    fn a_process_type_without_a_startup_check_has_the_default_one() {
        let settings = CheckSettings::default();
        assert_eq!(checks(&settings, &[]), [HealthCheck::default_for(Exposure::PortMappings)]);
        let live = DeclaredCheck {
            check_type: CheckType::Liveness,
            probe: Some(Probe::Http(HttpProbe::get("/live"))),
            ..DeclaredCheck::default()
        };
        let made = checks(&settings, &[live]);
        assert_eq!((made[0].check_type, made[1].check_type), (CheckType::Startup, CheckType::Liveness));
        assert_eq!((made[1].attempts, made[1].wait.as_secs(), made[1].timeout.as_secs()), (3, 5, 5));
    }

    #[test]
    fn a_startup_check_has_a_minute_unless_it_says_otherwise() {
        let declared = |attempts: Option<u32>, wait: Option<u64>| DeclaredCheck {
            attempts,
            wait: wait.map(Duration::from_secs),
            ..DeclaredCheck::default()
        };
        let settings = CheckSettings::default();
        for (attempts, wait, made) in [
            (None, None, (12, 5)),
            (Some(3), None, (3, 5)),
            (None, Some(1), (60, 1)),
            (None, Some(50), (3, 50)),
            (Some(2), Some(9), (2, 9)),
        ] {
            let check = checks(&settings, &[declared(attempts, wait)]).remove(0);
            assert_eq!((check.attempts, check.wait.as_secs()), made);
        }
    }

    #[test]
    fn the_settings_of_the_app_hold_where_app_json_says_nothing() {
        let settings =
            CheckSettings { attempts: Some(7), timeout: Some(Duration::from_secs(9)), ..CheckSettings::default() };
        let declared = DeclaredCheck { attempts: Some(2), ..DeclaredCheck::default() };
        let check = checks(&settings, &[declared]).remove(0);
        assert_eq!((check.attempts, check.timeout.as_secs()), (2, 9));
        let default = checks(&settings, &[]).remove(0);
        assert_eq!((default.attempts, default.wait.as_secs(), default.timeout.as_secs()), (7, 1, 9));
    }

    #[test]
    fn checks_that_are_skipped_or_disabled_are_not_made() {
        let web = ProcessType::web();
        let worker: ProcessType = "worker".parse().unwrap();
        let settings = CheckSettings {
            default_mode: CheckMode::Disabled,
            modes: [(worker.clone(), CheckMode::Enabled)].into(),
            ..CheckSettings::default()
        };
        assert_eq!((settings.mode(&web), settings.mode(&worker)), (CheckMode::Disabled, CheckMode::Enabled));
        assert_eq!(settings.checks(&web, &[DeclaredCheck::default()], Exposure::PortMappings), []);
        assert_eq!(settings.checks(&worker, &[], Exposure::Nothing).len(), 1);
    }

    #[test]
    fn checks_of_older_versions_are_read() {
        let old =
            r#"{"probe":{"http":"/up"},"attempts":60,"wait":{"secs":1,"nanos":0},"timeout":{"secs":5,"nanos":0}}"#;
        let read: DeclaredCheck = serde_json::from_str(old).unwrap();
        let expected = HealthCheck {
            probe: Probe::Http(HttpProbe::get("/up")),
            ..HealthCheck::default_for(Exposure::PortMappings)
        };
        assert_eq!(read, expected.into());
        let again: DeclaredCheck = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again, read);
    }

    #[test]
    fn the_health_check_of_an_image_is_a_startup_and_a_readiness_check() {
        let second = Duration::from_secs(1);
        let of_image = ImageHealthCheck {
            command: vec!["true".into()],
            interval: 30 * second,
            timeout: 9 * second,
            start_period: 10 * second,
            retries: 3,
        };
        let [startup, readiness] = &of_image.checks(Exposure::PortMappings)[..] else { panic!() };
        assert_eq!((startup.wait, startup.attempts, startup.timeout), (Some(5 * second), Some(20), Some(9 * second)));
        assert_eq!((readiness.wait, readiness.attempts), (Some(30 * second), Some(3)));
        assert_eq!(of_image.checks(Exposure::Nothing).len(), 1);
    }

    #[test]
    fn a_readiness_check_has_as_long_as_a_start_takes() {
        let ready = HealthCheck {
            attempts: 3,
            wait: Duration::from_secs(5),
            ..HealthCheck::default_for(Exposure::PortMappings)
        };
        assert_eq!((ready.limit().as_secs(), ready.at_start().limit().as_secs()), (15, 60));
    }
}
