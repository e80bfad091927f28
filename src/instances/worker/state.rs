//! What the worker of an app keeps from round to round.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use tokio::sync::Mutex;

use super::{memory::Memory, tasks::InstanceTasks};
use crate::{
    instances::{
        diagnosis::Diagnosis,
        error::InstancesError,
        failure::InstanceFailure,
        monitor::Monitors,
        plan::{DeclaredType, UpdateStrategy},
        shared::Shared,
        waiting::WorkerHandle,
    },
    model::{CheckMode, HealthCheck, ProcessType, ReleaseNumber},
    store::{App, AppId, Instance, ProcessSpec, Release},
};

/// State of the worker of one app.
pub(super) struct WorkerState {
    pub(super) shared: Arc<Shared>,
    pub(super) app: AppId,
    pub(super) handle: Arc<WorkerHandle>,
    /// The releases that are current, the candidate, or those of instances.
    pub(super) releases: HashMap<ReleaseNumber, Arc<Release>>,
    pub(super) memory: Memory,
    pub(super) tasks: InstanceTasks,
    /// The checks of its running instances.
    pub(super) monitors: Monitors,
    /// Locked during a pull: one at a time.
    pub(super) pull: Arc<Mutex<()>>,
    /// Whether the rows may have changed since the route table was published.
    pub(super) routes_stale: bool,
}

impl WorkerState {
    pub(super) fn new(shared: Arc<Shared>, app: AppId, handle: Arc<WorkerHandle>) -> Self {
        Self {
            shared,
            app,
            handle,
            releases: HashMap::new(),
            memory: Memory::default(),
            tasks: InstanceTasks::default(),
            monitors: Monitors::default(),
            pull: Arc::default(),
            routes_stale: true,
        }
    }

    pub(super) async fn load_releases(&mut self, app: &App, rows: &[Instance]) -> Result<(), InstancesError> {
        let deployed = app.current.iter().chain(&app.candidate).map(|deployment| deployment.release);
        let needed: HashSet<_> = deployed.chain(rows.iter().map(|row| row.release)).collect();
        self.releases.retain(|number, _| needed.contains(number));
        for number in needed {
            if !self.releases.contains_key(&number)
                && let Some(release) = self.shared.store.release(self.app, number).await?
            {
                self.releases.insert(number, Arc::new(release));
            }
        }
        Ok(())
    }

    /// What a release declares for a process type.
    pub(super) fn spec(&self, release: ReleaseNumber, process_type: &ProcessType) -> Option<&ProcessSpec> {
        let release = self.releases.get(&release)?;
        release.processes.iter().find(|spec| spec.process.process_type == *process_type)
    }

    /// Whether port mappings lead to an instance. The releases of all rows are loaded; an instance of another one would be
    /// drained for nothing, which does no harm.
    pub(super) fn is_exposed(&self, row: &Instance) -> bool {
        self.spec(row.release, &row.process_type).is_none_or(ProcessSpec::is_exposed)
    }

    /// The health checks of an instance.
    pub(super) fn checks(&self, app: &App, row: &Instance) -> Vec<HealthCheck> {
        let spec = self.spec(row.release, &row.process_type);
        spec.map_or_else(Vec::new, |spec| app.checks.checks(&row.process_type, &spec.health_checks, spec.exposes))
    }

    pub(super) fn declared_types(&self, app: &App) -> HashMap<ReleaseNumber, BTreeMap<ProcessType, DeclaredType>> {
        let declared = |spec: &ProcessSpec| {
            let process_type = &spec.process.process_type;
            let writes = app.mounts_of(process_type).any(|mount| !mount.read_only);
            let strategy = match app.checks.mode(process_type) {
                CheckMode::Disabled => UpdateStrategy::Unchecked,
                CheckMode::Enabled | CheckMode::Skipped if writes => UpdateStrategy::StopFirst,
                CheckMode::Enabled | CheckMode::Skipped => UpdateStrategy::Surge,
            };
            DeclaredType { strategy, writes, default_quantity: spec.default_quantity }
        };
        let types = |release: &Release| {
            let scalable = release.processes.iter().filter(|spec| !spec.process.process_type.is_release());
            scalable.map(|spec| (spec.process.process_type.clone(), declared(spec))).collect()
        };
        self.releases.iter().map(|(number, release)| (*number, types(release))).collect()
    }

    /// Records the failure of an instance, for the next plan and in the app's log.
    pub(super) async fn instance_failed(&mut self, row: &Instance, failure: InstanceFailure) {
        // The end of a container says less than why it was killed.
        let overused = self.handle.overuse(&row.id).map(|overuse| Diagnosis::overused(&overuse));
        let failure = InstanceFailure { diagnosis: overused.unwrap_or(failure.diagnosis), ..failure };
        let reason = as_sentence(&failure.diagnosis.reason);
        self.shared.logs.event(self.app, &failure.instance, reason).await;
        self.memory.remember_failure(row.id.clone(), failure);
    }
}

/// `it exited with status 1` as `Exited with status 1`.
pub(super) fn as_sentence(reason: &str) -> String {
    let text = reason.strip_prefix("it ").unwrap_or(reason);
    let mut rest = text.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().chain(rest).collect())
}
