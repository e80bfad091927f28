//! `app.json`: formation and health checks, with Dokku's keys. Unknown keys count for nothing.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;

use super::{HealthCheck, Probe, ProcessType};

/// Why an `app.json` is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("app.json: {0}")]
pub struct InvalidAppJson(pub String);

/// What paas reads of an `app.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AppJson {
    /// The number of instances declared for a process type.
    pub formation: BTreeMap<ProcessType, u32>,
    /// The startup check declared for a process type.
    pub health_checks: BTreeMap<ProcessType, HealthCheck>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    formation: BTreeMap<String, Formation>,
    #[serde(default)]
    healthchecks: BTreeMap<String, Vec<Check>>,
}

#[derive(Deserialize)]
struct Formation {
    quantity: Option<u32>,
}

#[derive(Deserialize)]
struct Check {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    path: Option<String>,
    attempts: Option<u32>,
    wait: Option<f64>,
    timeout: Option<f64>,
    uptime: Option<f64>,
}

impl AppJson {
    /// The most instances of one process type that may be declared.
    pub const MOST_INSTANCES: u32 = 100;

    /// Parses the text of an `app.json`.
    pub fn parse(text: &str) -> Result<Self, InvalidAppJson> {
        if text.len() > 256 * 1024 {
            return Err(InvalidAppJson("larger than 256 KiB; shorten it".to_owned()));
        }
        let document: Document = serde_json::from_str(text).map_err(|e| InvalidAppJson(e.to_string()))?;
        let mut parsed = Self::default();
        for (name, entry) in document.formation {
            let process_type = key(&name, "formation")?;
            if let Some(quantity) = entry.quantity {
                if quantity > Self::MOST_INSTANCES {
                    return Err(InvalidAppJson(format!(
                        "formation.{name}.quantity is {quantity}; at most {} are allowed",
                        Self::MOST_INSTANCES
                    )));
                }
                parsed.formation.insert(process_type, quantity);
            }
        }
        for (name, checks) in document.healthchecks {
            let process_type = key(&name, "healthchecks")?;
            let startup = checks.into_iter().find(|c| matches!(c.kind.as_deref(), None | Some("startup")));
            if let Some(check) = startup {
                let check = check.read(&name, &process_type)?;
                parsed.health_checks.insert(process_type, check);
            }
        }
        Ok(parsed)
    }
}

fn key(name: &str, section: &str) -> Result<ProcessType, InvalidAppJson> {
    name.parse().map_err(|e| InvalidAppJson(format!("{section}: {e}")))
}

impl Check {
    fn read(self, name: &str, process_type: &ProcessType) -> Result<HealthCheck, InvalidAppJson> {
        let bad = |what: &str, rule: &str| InvalidAppJson(format!("healthchecks.{name}: {what} {rule}"));
        let seconds = |value: Option<f64>, what: &str, default: Duration| match value {
            None => Ok(default),
            Some(s) if (0.0..=3600.0).contains(&s) => Ok(Duration::from_secs_f64(s)),
            Some(_) => Err(bad(what, "must be from 0 to 3600 seconds")),
        };
        let usual = HealthCheck::default_for(process_type);
        let probe = match (self.path, self.uptime) {
            (Some(path), _) if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => Probe::Http(path),
            (Some(_), _) => return Err(bad("path", "must begin with / and have no spaces")),
            (None, Some(uptime)) => Probe::Uptime(seconds(Some(uptime), "uptime", Duration::ZERO)?),
            (None, None) => usual.probe,
        };
        let attempts = self.attempts.unwrap_or(usual.attempts);
        if !(1..=1000).contains(&attempts) {
            return Err(bad("attempts", "must be from 1 to 1000"));
        }
        let timeout = seconds(self.timeout, "timeout", usual.timeout)?.max(Duration::from_millis(100));
        Ok(HealthCheck { probe, attempts, wait: seconds(self.wait, "wait", usual.wait)?, timeout })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formation_and_checks_are_read() {
        let text = r#"{"name":"x","formation":{"web":{"quantity":2},"worker":{"quantity":0}},
            "healthchecks":{"web":[{"type":"liveness","path":"/no"},{"type":"startup","path":"/up","attempts":5,"wait":0.5}]}}"#;
        let parsed = AppJson::parse(text).expect("valid");
        assert_eq!(parsed.formation[&ProcessType::web()], 2);
        let check = &parsed.health_checks[&ProcessType::web()];
        assert_eq!((&check.probe, check.attempts), (&Probe::Http("/up".into()), 5));
        assert_eq!(check.wait, Duration::from_millis(500));
    }

    #[test]
    fn bad_values_are_named() {
        for (text, part) in [
            ("{", "line 1"),
            (r#"{"formation":{"web":{"quantity":-1}}}"#, "invalid value"),
            (r#"{"formation":{"web":{"quantity":1000}}}"#, "formation.web.quantity"),
            (r#"{"formation":{"we b":{"quantity":1}}}"#, "process type"),
            (r#"{"healthchecks":{"web":[{"path":"up"}]}}"#, "path must begin with /"),
            (r#"{"healthchecks":{"web":[{"wait":1e300}]}}"#, "wait must be from 0"),
            (r#"{"healthchecks":{"web":[{"attempts":0}]}}"#, "attempts must be"),
        ] {
            let error = AppJson::parse(text).expect_err(text).to_string();
            assert!(error.starts_with("app.json: ") && error.contains(part), "{error}");
        }
    }
}
