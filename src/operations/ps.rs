//! Operations of processes: formation, instances and their properties.

mod settings;

use std::collections::BTreeMap;

pub use settings::{ProcessProperty, SetProcesses, StopTimeouts, TypeTimeout};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    selection::AppSelection,
    time::Time,
};
use crate::{
    instances::{ReportState, StartedInstances},
    model::{AppJson, AppName, InstanceId, ProcessType, ReleaseNumber, Right, Size, SizeTarget},
    release,
    store::{App, Effect, SizeKind},
};

/// Declared quantity of instances of a process type: `web=3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quantity {
    /// Process type.
    pub process_type: ProcessType,
    /// Number of instances.
    pub quantity: u32,
}

impl std::str::FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let max = AppJson::MAX_INSTANCES;
        let refused = || format!("write TYPE=N with N from 0 to {max}, for example web=3");
        let (name, count) = text.split_once('=').ok_or_else(refused)?;
        let quantity = count.parse().ok().filter(|count| *count <= max).ok_or_else(refused)?;
        let process_type = name.parse().map_err(|e: crate::model::InvalidName| e.to_string())?;
        Ok(Self { process_type, quantity })
    }
}

impl std::fmt::Display for Quantity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", self.process_type, self.quantity)
    }
}

/// Shows the declared quantity of instances of each process type.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ShowFormation {
    /// App.
    pub app: AppName,
}

/// The declared quantity of instances of each process type of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Formation {
    /// App.
    pub app: AppName,
    /// Quantity of each process type.
    pub formation: BTreeMap<ProcessType, u32>,
}

impl Operation for ShowFormation {
    const NAME: &'static str = "ps:formation";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Formation;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Formation> {
        Ok(Formation { formation: formation(context, &app).await?, app: app.name })
    }
}

/// Sets the quantity of instances of process types.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// App.
    pub app: AppName,
    /// New quantities by process type; those of other process types stay.
    #[schemars(schema_with = "quantities")]
    pub quantities: BTreeMap<ProcessType, u32>,
}

/// The schema of quantities by process type.
fn quantities(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = BTreeMap::<ProcessType, u32>::json_schema(generator);
    let of_types = schema.get_mut("patternProperties").and_then(serde_json::Value::as_object_mut);
    for quantity in of_types.into_iter().flat_map(serde_json::Map::values_mut) {
        quantity["maximum"] = AppJson::MAX_INSTANCES.into();
    }
    schema.insert("minProperties".to_owned(), 1.into());
    schema
}

/// The instances of an app after a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Scaled {
    /// App.
    pub app: AppName,
    /// Whether the app is stopped, so that it has no instances.
    pub stopped: bool,
    /// Declared quantity of each process type.
    pub formation: BTreeMap<ProcessType, u32>,
    /// Number of healthy instances.
    pub healthy: usize,
}

impl Operation for Scale {
    const NAME: &'static str = "ps:scale";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = Scaled;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        let quantities = self.quantities.iter().map(|(process_type, quantity)| format!("{process_type}={quantity}"));
        quantities.collect::<Vec<_>>().join(" ")
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Scaled> {
        let text = self.audit();
        let max = AppJson::MAX_INSTANCES;
        match self.quantities.iter().find(|(_, quantity)| **quantity > max) {
            Some((name, quantity)) => {
                return Err(Failure::invalid(format!("{name}={quantity} is too many; give at most {max}")));
            }
            None if self.quantities.is_empty() => {
                return Err(Failure::invalid("no process type is given; give at least one, such as web=3"));
            }
            None => {}
        }
        if self.quantities.keys().any(ProcessType::is_release) {
            let text = "release is run once for each release and has no instances; run:list shows its runs";
            return Err(Failure::invalid(text));
        }
        let wanted = self.quantities;
        if let Some(unknown) = unknown_type(context, &app, wanted.keys()).await? {
            return Err(Failure::not_found(unknown));
        }
        let before = context.store.scale(app.id, wanted.clone()).await?;
        let before = formation(context, &App { formation: before, ..app.clone() }).await?;
        context.progress.step(format!("Scaling {} to {text}", app.name)).await;
        if app.stopped {
            let text = format!("{} is stopped: the change takes effect when the app is started (ps:start)", app.name);
            context.progress.detail(text).await;
            return scaled(context, app).await;
        }
        let after = before.clone().into_iter().chain(wanted).collect();
        settle(context, app, StartedInstances::added(&before, &after)).await
    }
}

/// Lists the instances of an app, or of all apps.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListInstances {
    /// App; without it, all.
    pub app: Option<AppName>,
    /// All apps, as without a name.
    #[arg(long, conflicts_with = "app")]
    #[serde(default)]
    pub all: bool,
}

/// An instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InstanceRow {
    /// App.
    pub app: AppName,
    /// Name within the app: `web.1`.
    pub name: String,
    /// State.
    pub state: ReportState,
    /// Number of its release.
    pub release: ReleaseNumber,
    /// How many predecessors of the same name failed in a row.
    pub restarts: u32,
    /// How often a process of it was killed because it was out of memory.
    pub oom_kills: u32,
    /// Why the instance of the same name before it failed, if it replaces one.
    pub last_failure: Option<String>,
    /// Time of creation; of an instance that is waiting, time of the start.
    pub since: Time,
    /// Stop timeout of its process type, in seconds: the time that the processes of an instance that is started from now on
    /// have to end when it is stopped. One that was started with a longer time keeps that.
    pub stop_timeout_seconds: u64,
    /// CPU time and memory that instances of its process type have at most.
    pub limit: InstanceSize,
    /// CPU time and memory that it uses; none if it does not run.
    pub used: Option<InstanceSize>,
    /// Address, once it has one.
    pub address: Option<std::net::IpAddr>,
    /// Random identity, and name of the container.
    pub id: InstanceId,
}

/// CPU time and memory of an instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InstanceSize {
    /// CPU time, in thousandths of a CPU.
    pub cpu_millis: u64,
    /// Memory, in MiB.
    pub memory_mib: u64,
}

impl From<Size> for InstanceSize {
    fn from(size: Size) -> Self {
        Self { cpu_millis: size.cpu.millis().into(), memory_mib: size.memory.mebibytes() }
    }
}

impl Operation for ListInstances {
    const NAME: &'static str = "ps:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<InstanceRow>;

    fn target(&self) -> AppSelection {
        if self.all { AppSelection::new(self.app.as_ref(), true) } else { AppSelection::one_or_all(self.app.as_ref()) }
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<InstanceRow>> {
        let mut rows = Vec::new();
        for app in apps {
            let default = context.config.instances.stop_grace();
            let sizes = context.store.sizes(app.id, SizeKind::Limit).await?;
            let limit = |name: &ProcessType| sizes.size(&SizeTarget::Type(name.clone()), context.store.default_size());
            rows.extend(context.instances.report(app.id).await?.into_iter().map(|instance| InstanceRow {
                app: app.name.clone(),
                limit: limit(&instance.process_type).into(),
                used: None,
                stop_timeout_seconds: app.stop_grace(&instance.process_type, default).as_secs(),
                name: instance.name,
                state: instance.state,
                release: instance.release,
                restarts: instance.restarts,
                oom_kills: instance.oom_kills,
                last_failure: instance.last_failure,
                since: Time(instance.since),
                address: instance.address,
                id: instance.id,
            }));
        }
        let running = rows.iter().filter(|row| row.state != ReportState::Waiting).map(|row| row.id.clone()).collect();
        let used = context.instances.usage(running).await;
        for row in &mut rows {
            row.used =
                used.get(&row.id).map(|used| InstanceSize { cpu_millis: used.cpu_millis, memory_mib: used.memory_mib });
        }
        Ok(rows)
    }
}

/// The formation of an app.
pub(super) async fn formation(context: &Context<'_>, app: &App) -> Result<BTreeMap<ProcessType, u32>> {
    let release = context.current_release(app).await?;
    Ok(release.map_or_else(|| app.formation.clone(), |live| release::formation(&live.processes, &app.formation)))
}

/// An error message, if the deployed release lacks one of these process types.
pub(super) async fn unknown_type(
    context: &Context<'_>,
    app: &App,
    mut names: impl Iterator<Item = &ProcessType>,
) -> Result<Option<String>> {
    let Some(release) = context.current_release(app).await? else { return Ok(None) };
    let known: Vec<_> = release.processes.iter().map(|spec| spec.process.process_type.as_str()).collect();
    let unknown = names.find(|name| !known.contains(&name.as_str()));
    Ok(unknown.map(|name| format!("{} has no process type {name}; it has: {}", app.name, known.join(", "))))
}

/// How messages name all instances of an app, or those of one of its process types.
pub(super) fn instances_named(app: &App, process_type: Option<&ProcessType>) -> String {
    process_type.map_or_else(|| app.name.to_string(), |name| format!("{name} of {}", app.name))
}

/// Replaces running instances with new ones, after reporting why.
pub(super) async fn renew(context: &Context<'_>, app: &App, process_type: Option<&ProcessType>, why: String) -> Result {
    context.progress.step(why).await;
    context.deployer.restart(app, process_type.cloned(), context.progress, context.hangup).await?;
    let replaced =
        process_type.map_or_else(|| "all instances were".to_owned(), |name| format!("all {name} instances were"));
    context.progress.detail(format!("{replaced} replaced")).await;
    Ok(())
}

/// A new release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Released {
    /// App.
    pub app: AppName,
    /// Number of its current release.
    pub release: Option<ReleaseNumber>,
}

/// The current release of an app.
pub(super) async fn released(context: &Context<'_>, app: App) -> Result<Released> {
    let now = context.store.app(app.id).await?;
    Ok(Released { app: app.name, release: now.and_then(|app| app.current).map(|current| current.release) })
}

/// Waits until the declared instances run, and fails if one of `started` does not.
pub(super) async fn settle(context: &Context<'_>, app: App, started: StartedInstances) -> Result<Scaled> {
    if app.current.is_none() {
        context.progress.detail("nothing is deployed yet: the change takes effect at the first push").await;
        return scaled(context, app).await;
    }
    context.instances.settle(app.id, started, context.progress, context.hangup).await?;
    let scaled = scaled(context, app).await?;
    let instances = if scaled.healthy == 1 { "instance is" } else { "instances are" };
    context.progress.detail(format!("{} {instances} healthy", scaled.healthy)).await;
    Ok(scaled)
}

pub(super) async fn scaled(context: &Context<'_>, app: App) -> Result<Scaled> {
    let app = context.store.app(app.id).await?.unwrap_or(app);
    let report = context.instances.report(app.id).await?;
    let healthy = report.iter().filter(|instance| instance.state == ReportState::Healthy).count();
    Ok(Scaled { formation: formation(context, &app).await?, stopped: app.stopped, healthy, app: app.name })
}
