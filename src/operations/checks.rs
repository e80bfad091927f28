//! Operations of health checks.

mod modes;
mod run;

use std::time::Duration;

pub use modes::{DisableChecks, EnableChecks, SkipChecks};
pub use run::{RanCheck, RanChecks, RunChecks};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    selection::AppSelection,
};
use crate::{
    model::{AppName, CheckMode, CheckSettings, CheckType, HealthCheck, Line, ProcessType, Right},
    store::{App, Effect},
};

/// Longest time of a property, in seconds.
const MAX_SECONDS: f64 = 3600.0;

/// Shows the health checks of an app, or of all apps.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportChecks {
    /// App; without it, all.
    pub app: Option<AppName>,
}

/// The health checks of an app, and their settings.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct AppChecks {
    /// App.
    pub app: AppName,
    /// Settings that apply where `app.json` says nothing.
    pub settings: CheckDefaults,
    /// The process types of its current release.
    pub types: Vec<TypeChecks>,
}

/// Settings of an app's health checks.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CheckDefaults {
    /// Number of attempts.
    pub attempts: Option<u32>,
    /// Time between two attempts, in seconds.
    pub wait: Option<f64>,
    /// Longest duration of one attempt, in seconds.
    pub timeout: Option<f64>,
    /// Longest time for which an instance that was replaced goes on with its requests, in seconds.
    pub wait_to_retire: f64,
}

/// The health checks of a process type.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TypeChecks {
    /// Process type.
    #[serde(rename = "type")]
    pub process_type: ProcessType,
    /// What becomes of the checks.
    pub mode: CheckMode,
    /// The checks, with defaults filled in.
    pub checks: Vec<CheckInfo>,
}

/// A health check.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct CheckInfo {
    /// When it is made, and what its failure means.
    #[serde(rename = "type")]
    pub check_type: CheckType,
    /// Name.
    pub name: Option<String>,
    /// What each attempt does.
    pub check: String,
    /// Time between the start of the instance and the first attempt, in seconds.
    pub initial_delay: f64,
    /// Number of attempts in a row before it counts as failed.
    pub attempts: u32,
    /// Time between two attempts, in seconds.
    pub wait: f64,
    /// Longest duration of one attempt, in seconds.
    pub timeout: f64,
    /// Whether a failure is only reported.
    pub warn: bool,
}

impl From<&HealthCheck> for CheckInfo {
    fn from(check: &HealthCheck) -> Self {
        Self {
            check_type: check.check_type,
            name: check.name.clone(),
            check: check.description(),
            initial_delay: check.initial_delay.as_secs_f64(),
            attempts: check.attempts,
            wait: check.wait.as_secs_f64(),
            timeout: check.timeout.as_secs_f64(),
            warn: check.warn,
        }
    }
}

async fn checks(context: &Context<'_>, app: App) -> Result<AppChecks> {
    let release = context.current_release(&app).await?;
    let specs = release.into_iter().flat_map(|release| release.processes);
    let types = specs.filter(|spec| !spec.process.process_type.is_release()).map(|spec| TypeChecks {
        mode: app.checks.mode(&spec.process.process_type),
        checks: app.checks.all_checks(&spec.health_checks, spec.exposes).iter().map(CheckInfo::from).collect(),
        process_type: spec.process.process_type,
    });
    Ok(AppChecks { types: types.collect(), settings: defaults(context, &app.checks), app: app.name })
}

fn defaults(context: &Context<'_>, settings: &CheckSettings) -> CheckDefaults {
    let drain = Duration::from_secs(context.config.instances.drain_seconds);
    CheckDefaults {
        attempts: settings.attempts,
        wait: settings.wait.map(|wait| wait.as_secs_f64()),
        timeout: settings.timeout.map(|timeout| timeout.as_secs_f64()),
        wait_to_retire: settings.wait_to_retire.unwrap_or(drain).as_secs_f64(),
    }
}

impl Operation for ReportChecks {
    const NAME: &'static str = "checks:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<AppChecks>;

    fn target(&self) -> AppSelection {
        AppSelection::one_or_all(self.app.as_ref())
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<AppChecks>> {
        let mut reports = Vec::new();
        for app in apps {
            reports.push(checks(context, app).await?);
        }
        Ok(reports)
    }
}

/// A property of an app's health checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum CheckProperty {
    /// Number of attempts.
    Attempts,
    /// Seconds between two attempts.
    Wait,
    /// Longest duration of one attempt, in seconds.
    Timeout,
    /// Longest time for which an instance that was replaced goes on with its requests, in seconds.
    WaitToRetire,
}

impl CheckProperty {
    const ALL: [Self; 4] = [Self::Attempts, Self::Timeout, Self::Wait, Self::WaitToRetire];

    fn as_str(self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::Wait => "wait",
            Self::Timeout => "timeout",
            Self::WaitToRetire => "wait-to-retire",
        }
    }
}

impl std::str::FromStr for CheckProperty {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::as_str).join(", ");
        let unknown = || format!("there is no property {}; the properties are {names}", Line::excerpt(text));
        Self::ALL.into_iter().find(|property| property.as_str() == text).ok_or_else(unknown)
    }
}

/// Sets a property of an app's health checks: attempts, timeout, wait or wait-to-retire.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SetChecks {
    /// App.
    pub app: AppName,
    /// attempts, timeout, wait or wait-to-retire
    pub property: CheckProperty,
    /// A number, of seconds but for attempts; without it, the default applies again.
    pub value: Option<f64>,
}

impl SetChecks {
    fn attempts(&self) -> Result<Option<u32>> {
        let Some(value) = self.value else { return Ok(None) };
        let max = HealthCheck::MAX_ATTEMPTS;
        let number = value.to_string().parse().ok().filter(|number| (1..=max).contains(number));
        let refused = || Failure::invalid(format!("attempts must be a whole number from 1 to {max}, not {value}"));
        number.map(Some).ok_or_else(refused)
    }

    fn seconds(&self, min: f64) -> Result<Option<Duration>> {
        let Some(value) = self.value else { return Ok(None) };
        if !(min..=MAX_SECONDS).contains(&value) {
            let name = self.property.as_str();
            let text = format!("{name} must be a number of seconds from {min} to {MAX_SECONDS}, not {value}");
            return Err(Failure::invalid(text));
        }
        Ok(Some(Duration::from_secs_f64(value)))
    }
}

impl Operation for SetChecks {
    const NAME: &'static str = "checks:set";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppChecks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        format!("{} {}", self.property.as_str(), self.value.map_or_else(String::new, |value| value.to_string()))
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppChecks> {
        match self.property {
            CheckProperty::Attempts => {
                let attempts = self.attempts()?;
                change(context, app, move |settings| settings.attempts = attempts).await
            }
            CheckProperty::Wait => {
                let wait = self.seconds(0.1)?;
                change(context, app, move |settings| settings.wait = wait).await
            }
            CheckProperty::Timeout => {
                let timeout = self.seconds(0.1)?;
                change(context, app, move |settings| settings.timeout = timeout).await
            }
            CheckProperty::WaitToRetire => {
                let wait_to_retire = self.seconds(0.0)?;
                change(context, app, move |settings| settings.wait_to_retire = wait_to_retire).await
            }
        }
    }
}

async fn change(
    context: &Context<'_>,
    app: App,
    change: impl FnOnce(&mut CheckSettings) + Send + 'static,
) -> Result<AppChecks> {
    let checks_of = App { checks: context.store.change_checks(app.id, change).await?, ..app };
    context.instances.checks_changed(&checks_of);
    checks(context, checks_of).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(property: &str, value: f64) -> SetChecks {
        SetChecks { app: "shop".parse().unwrap(), property: property.parse().unwrap(), value: Some(value) }
    }

    #[test]
    fn values_out_of_range_are_refused_with_the_range() {
        assert_eq!(set("attempts", 3.0).attempts().unwrap(), Some(3));
        for bad in [0.0, 1.5, -1.0, 1001.0, f64::NAN] {
            let error = set("attempts", bad).attempts().unwrap_err().to_string();
            assert_eq!(error, format!("attempts must be a whole number from 1 to 1000, not {bad}"));
        }
        assert_eq!(set("wait", 0.5).seconds(0.1).unwrap(), Some(Duration::from_millis(500)));
        let error = set("wait-to-retire", 3601.0).seconds(0.0).unwrap_err().to_string();
        assert_eq!(error, "wait-to-retire must be a number of seconds from 0 to 3600, not 3601");
        assert!(set("timeout", f64::NAN).seconds(0.1).is_err());
    }

    #[test]
    fn an_unknown_property_is_answered_with_those_that_there_are() {
        let error = "default-wait".parse::<CheckProperty>().unwrap_err();
        assert_eq!(
            error,
            "there is no property default-wait; the properties are attempts, timeout, wait, wait-to-retire"
        );
    }
}
