//! Operation that makes the health checks of running instances once.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::CheckInfo;
use crate::{
    instances::CheckOutcome,
    model::{AppName, Line, Right},
    operations::{
        context::Context,
        failure::{Failure, Result},
        operation::Operation,
    },
    store::{App, Effect, Instance, InstanceState},
};

/// Makes the health checks of running instances now, each once.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RunChecks {
    /// App.
    pub app: AppName,
    /// Process types or instances, such as web or web.2, separated by commas; without any, all.
    #[arg(value_name = "TYPE[.N]", value_delimiter = ',')]
    #[serde(default)]
    pub instances: Vec<String>,
}

/// Health checks that were made.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RanChecks {
    /// App.
    pub app: AppName,
    /// Number of checks that failed, besides those whose failure is only reported.
    pub failed: usize,
    /// All checks, by instance.
    pub checks: Vec<RanCheck>,
}

/// A health check that was made.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct RanCheck {
    /// Name of the instance.
    pub instance: String,
    /// The check.
    #[serde(flatten)]
    pub check: CheckInfo,
    /// Whether it passed.
    pub passed: bool,
    /// Why it failed.
    pub reason: Option<String>,
    /// How long it took, in seconds.
    pub seconds: f64,
}

impl From<CheckOutcome> for RanCheck {
    fn from(CheckOutcome { instance, check, failure, took }: CheckOutcome) -> Self {
        Self {
            instance,
            check: CheckInfo::from(&check),
            passed: failure.is_none(),
            reason: failure.map(|unhealthy| unhealthy.to_string()),
            seconds: took.as_secs_f64(),
        }
    }
}

impl Operation for RunChecks {
    const NAME: &'static str = "checks:run";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = RanChecks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.instances.join(",")
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<RanChecks> {
        let mut rows = context.store.instances(app.id).await?;
        let runs = |row: &Instance| row.state == InstanceState::Healthy && row.container.is_some();
        rows.retain(|row| runs(row) && app.current.is_some_and(|current| current.generation == row.generation));
        rows.sort_by_key(|row| (row.process_type.clone(), row.ordinal));
        let is_named = |row: &Instance, name: &str| row.name() == name || row.process_type.as_str() == name;
        if let Some(unknown) = self.instances.iter().find(|name| !rows.iter().any(|row| is_named(row, name))) {
            let names = rows.iter().map(Instance::name).collect::<Vec<_>>().join(", ");
            let healthy = if names.is_empty() { "none is healthy".to_owned() } else { format!("healthy: {names}") };
            let unknown = Line::excerpt(unknown);
            return Err(Failure::not_found(format!("{} has no healthy instance {unknown}; {healthy}", app.name)));
        }
        if rows.is_empty() {
            let text = format!("{} has no healthy instance to check; start it with ps:start, or push", app.name);
            return Err(Failure::not_found(text));
        }
        if !self.instances.is_empty() {
            rows.retain(|row| self.instances.iter().any(|name| is_named(row, name)));
        }
        let outcomes = context.instances.run_checks(&app, rows).await?;
        let checks: Vec<_> = outcomes.into_iter().map(RanCheck::from).collect();
        let failed = checks.iter().filter(|ran| !ran.passed && !ran.check.warn).count();
        Ok(RanChecks { app: app.name, failed, checks })
    }
}
