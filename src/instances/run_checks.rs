//! The health checks of running instances, made once on request.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use tokio::time::Instant;

use super::{error::InstancesError, reconciler::Instances, unhealthy::Unhealthy};
use crate::{
    model::{HealthCheck, Probe},
    store::{App, Instance, ProcessSpec},
};

/// Number of instances that are checked at a time.
const MAX_INSTANCES: usize = 4;

/// Outcome of a check that was made once.
#[derive(Debug)]
pub struct CheckOutcome {
    /// Name of the instance: `web.1`.
    pub instance: String,
    /// The check.
    pub check: HealthCheck,
    /// Why it failed.
    pub failure: Option<Unhealthy>,
    /// How long it took.
    pub took: Duration,
}

impl Instances {
    /// Makes all checks of these running instances of an app, each once, whether or not they are skipped or disabled.
    pub async fn run_checks(&self, app: &App, rows: Vec<Instance>) -> Result<Vec<CheckOutcome>, InstancesError> {
        let mut outcomes = stream::iter(rows).map(|row| self.check(app, row)).buffered(MAX_INSTANCES);
        let mut all = Vec::new();
        while let Some(of_instance) = outcomes.try_next().await? {
            all.extend(of_instance);
        }
        Ok(all)
    }

    async fn check(&self, app: &App, row: Instance) -> Result<Vec<CheckOutcome>, InstancesError> {
        let shared = &self.shared;
        let Some(release) = shared.store.release(app.id, row.release).await? else { return Ok(Vec::new()) };
        let spec = release.processes.iter().find(|spec| spec.process.process_type == row.process_type).cloned();
        let (Some(spec), Some(address)) = (spec, row.endpoint) else { return Ok(Vec::new()) };
        let mappings = shared.store.port_mappings(app.id).await?;
        let ProcessSpec { health_checks, exposes, .. } = &spec;
        let slots = Arc::clone(&self.worker(app.id).check_slots);
        let target = shared.check_target(&row, Arc::new(release), spec.is_exposed(), &mappings, slots);
        let instance = target.at(address);
        let mut outcomes = Vec::new();
        for check in app.checks.all_checks(health_checks, *exposes) {
            let begun = Instant::now();
            let failure = match check.probe {
                Probe::Uptime(uptime) => self.runs_for_less(&row, uptime).await?.then_some(Unhealthy::Uptime(uptime)),
                Probe::Tcp | Probe::Http(_) | Probe::Command(_) => instance.attempt(&check).await.err(),
            };
            outcomes.push(CheckOutcome { instance: row.name(), check, failure, took: begun.elapsed() });
        }
        Ok(outcomes)
    }

    async fn runs_for_less(&self, row: &Instance, uptime: Duration) -> Result<bool, InstancesError> {
        let container = self.shared.runtime.observe(row.id.as_str()).await?.filter(|found| found.state.is_alive());
        let started = container.and_then(|container| container.started_at);
        let runs = started.and_then(|started| Duration::try_from(jiff::Timestamp::now().duration_since(started)).ok());
        Ok(runs.is_none_or(|runs| runs < uptime))
    }

    /// Has an app's settings of health checks take effect.
    pub fn checks_changed(&self, app: &App) {
        self.worker(app.id).wake();
    }
}
