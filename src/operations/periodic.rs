//! The operation that shows what the server does from time to time.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{context::Context, failure::Result, operation::Operation, target::Server, time::Time};
use crate::{model::Right, store::Effect};

/// Lists what the server does from time to time, with the last run and its result.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListPeriodic {}

/// Something that the server does from time to time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PeriodicInfo {
    /// Name.
    pub name: String,
    /// The longest time between two runs, in seconds.
    pub period_seconds: u64,
    /// Number of runs since the server was started.
    pub runs: u64,
    /// Number of those that failed.
    pub failures: u64,
    /// Time of the last run.
    pub last: Option<Time>,
    /// How long it took, in milliseconds.
    pub took_milliseconds: Option<u64>,
    /// What it did; empty if nothing was due.
    pub result: Option<String>,
    /// What failed.
    pub error: Option<String>,
}

impl Operation for ListPeriodic {
    const NAME: &'static str = "periodic:list";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<PeriodicInfo>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<PeriodicInfo>> {
        let infos = context.driver.statuses().into_iter().map(|status| {
            let (result, error) = match status.last.as_ref().map(|last| last.result.clone()) {
                Some(Ok(result)) => (Some(result), None),
                Some(Err(error)) => (None, Some(error)),
                None => (None, None),
            };
            PeriodicInfo {
                name: status.name.to_owned(),
                period_seconds: status.period.as_secs(),
                runs: status.runs,
                failures: status.failures,
                last: status.last.as_ref().map(|last| Time(last.at.as_millisecond())),
                took_milliseconds: status.last.map(|last| u64::try_from(last.took.as_millis()).unwrap_or(u64::MAX)),
                result,
                error,
            }
        });
        Ok(infos.collect())
    }
}
