//! Operations of sizes: CPU time and memory of an app's instances, tasks and builds.

mod change;
mod named;

pub use named::{ListSizes, NamedSizeInfo};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use change::Change;
use named::{name_of, size_named};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::Operation,
    ps,
    selection::AppSelection,
};
use crate::{
    model::{AppName, CpuMillis, Line, MemoryMib, PartialSize, ProcessType, Right, Size, SizeTarget},
    store::{App, Effect, SizeKind},
};

/// What a size is set for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SizedPart {
    /// Process type; without one, all that have no size of their own.
    #[arg(long, short = 'p', value_name = "TYPE", conflicts_with_all = ["tasks", "builds"])]
    #[serde(default)]
    pub process_type: Option<ProcessType>,
    /// Tasks: commands that are run, the release phase, scheduled jobs.
    #[arg(long, conflicts_with = "builds")]
    #[serde(default)]
    pub tasks: bool,
    /// Builds.
    #[arg(long)]
    #[serde(default)]
    pub builds: bool,
}

impl SizedPart {
    fn target(&self) -> Result<SizeTarget> {
        match (&self.process_type, self.tasks, self.builds) {
            (None, false, false) => Ok(SizeTarget::Instances),
            (Some(name), false, false) => Ok(SizeTarget::Type(name.clone())),
            (None, true, false) => Ok(SizeTarget::Tasks),
            (None, false, true) => Ok(SizeTarget::Builds),
            _ => Err(Failure::invalid("give only one of process_type, tasks and builds")),
        }
    }
}

/// Whose instances something is kept free for.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReservedPart {
    /// Process type; without one, all that have no size of their own.
    #[arg(long, short = 'p', value_name = "TYPE")]
    #[serde(default)]
    pub process_type: Option<ProcessType>,
}

impl ReservedPart {
    fn target(&self) -> SizeTarget {
        self.process_type.clone().map_or(SizeTarget::Instances, SizeTarget::Type)
    }
}

/// Sets what instances, tasks or builds of an app may use at most.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = serde_json::json!([{ "required": ["cpu_millis"], "properties": { "cpu_millis": { "not": { "type": "null" } } } }, { "required": ["memory_mib"], "properties": { "memory_mib": { "not": { "type": "null" } } } }, { "required": ["size"], "properties": { "size": { "not": { "type": "null" } } } }])))]
pub struct LimitResources {
    /// App.
    pub app: AppName,
    /// What the size is for.
    #[command(flatten)]
    #[serde(default)]
    pub part: SizedPart,
    /// CPU time, in thousandths of a CPU.
    #[arg(long = "cpu", value_name = "CPUS", help = "CPU time, as a number of CPUs: 1.5")]
    #[serde(default)]
    pub cpu_millis: Option<CpuMillis>,
    /// Memory, in MiB.
    #[arg(long = "memory", value_name = "MEMORY", help = "Memory: 512m, 1.5g")]
    #[serde(default)]
    pub memory_mib: Option<MemoryMib>,
    /// Name of a size that the operator has defined in paas.toml (resource:sizes lists them); `--cpu` and `--memory` change parts of it.
    #[arg(long)]
    #[serde(default)]
    pub size: Option<String>,
    /// Replace no instances: the change takes effect when they are started the next time.
    #[arg(long)]
    #[serde(default)]
    pub no_restart: bool,
}

/// Sets what is kept free for each of an app's instances.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
#[schemars(extend("anyOf" = serde_json::json!([{ "required": ["cpu_millis"], "properties": { "cpu_millis": { "not": { "type": "null" } } } }, { "required": ["memory_mib"], "properties": { "memory_mib": { "not": { "type": "null" } } } }])))]
pub struct ReserveResources {
    /// App.
    pub app: AppName,
    /// What it is kept free for.
    #[command(flatten)]
    #[serde(default)]
    pub part: ReservedPart,
    /// CPU time, in thousandths of a CPU.
    #[arg(long = "cpu", value_name = "CPUS", help = "CPU time, as a number of CPUs: 1.5")]
    #[serde(default)]
    pub cpu_millis: Option<CpuMillis>,
    /// Memory, in MiB.
    #[arg(long = "memory", value_name = "MEMORY", help = "Memory: 512m, 1.5g")]
    #[serde(default)]
    pub memory_mib: Option<MemoryMib>,
    /// Replace no instances: the change takes effect when they are started the next time.
    #[arg(long)]
    #[serde(default)]
    pub no_restart: bool,
}

/// Clears sizes of an app, so that those of the configuration apply.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ClearLimits {
    /// App.
    pub app: AppName,
    /// What the size is for.
    #[command(flatten)]
    #[serde(default)]
    pub part: SizedPart,
    /// Replace no instances: the change takes effect when they are started the next time.
    #[arg(long)]
    #[serde(default)]
    pub no_restart: bool,
}

/// Clears what is kept free for an app's instances.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ClearReserves {
    /// App.
    pub app: AppName,
    /// What it is kept free for.
    #[command(flatten)]
    #[serde(default)]
    pub part: ReservedPart,
    /// Replace no instances: the change takes effect when they are started the next time.
    #[arg(long)]
    #[serde(default)]
    pub no_restart: bool,
}

/// Shows the sizes of an app, or of all apps.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportResources {
    /// App; without it, all.
    pub app: Option<AppName>,
}

/// The sizes of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppResources {
    /// App.
    pub app: AppName,
    /// Size of each process type, of tasks (`_tasks_`) and of builds (`_builds_`); `_default_` is that of process types that have
    /// none of their own.
    pub sizes: Vec<ResourceRow>,
}

/// A size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ResourceRow {
    /// What it is for.
    pub target: String,
    /// Name that the operator has given to this size, if there is one.
    pub size: Option<String>,
    /// CPU time that each has at most, in thousandths of a CPU.
    pub cpu_millis: u32,
    /// Memory that each has at most, in MiB.
    pub memory_mib: u64,
    /// CPU time that is kept free for each, in thousandths of a CPU.
    pub reserved_cpu_millis: Option<u32>,
    /// Memory that is kept free for each, in MiB.
    pub reserved_memory_mib: Option<u64>,
    /// Whether a limit was set for the target itself.
    pub own: bool,
}

impl Operation for LimitResources {
    const NAME: &'static str = "resource:limit";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppResources;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        let size = PartialSize { cpu: self.cpu_millis, memory: self.memory_mib };
        let named = self.size.as_deref().map(|name| format!(" size={}", Line::excerpt(name)));
        described(self.part.target().ok().as_ref(), size) + &named.unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppResources> {
        let named =
            self.size.as_deref().map_or(Ok(PartialSize::default()), |name| size_named(&context.config.sizes, name))?;
        let size = PartialSize { cpu: self.cpu_millis.or(named.cpu), memory: self.memory_mib.or(named.memory) };
        given(size)?;
        let change = Change { target: self.part.target()?, kind: SizeKind::Limit, size };
        change.apply(context, &app, !self.no_restart).await?;
        report(context, app).await
    }
}

impl Operation for ReserveResources {
    const NAME: &'static str = "resource:reserve";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppResources;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        described(Some(&self.part.target()), PartialSize { cpu: self.cpu_millis, memory: self.memory_mib })
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppResources> {
        let size = PartialSize { cpu: self.cpu_millis, memory: self.memory_mib };
        given(size)?;
        let change = Change { target: self.part.target(), kind: SizeKind::Reserve, size };
        change.apply(context, &app, !self.no_restart).await?;
        report(context, app).await
    }
}

impl Operation for ClearLimits {
    const NAME: &'static str = "resource:limit-clear";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppResources;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        described(self.part.target().ok().as_ref(), PartialSize::default())
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppResources> {
        let change = Change { target: self.part.target()?, kind: SizeKind::Limit, size: PartialSize::default() };
        change.apply(context, &app, !self.no_restart).await?;
        report(context, app).await
    }
}

impl Operation for ClearReserves {
    const NAME: &'static str = "resource:reserve-clear";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppResources;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        described(Some(&self.part.target()), PartialSize::default())
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppResources> {
        let change = Change { target: self.part.target(), kind: SizeKind::Reserve, size: PartialSize::default() };
        change.apply(context, &app, !self.no_restart).await?;
        report(context, app).await
    }
}

/// What the audit entry tells of a change.
fn described(target: Option<&SizeTarget>, size: PartialSize) -> String {
    let target = target.map(ToString::to_string).unwrap_or_default();
    let cpu = size.cpu.map(|cpu| format!(" cpu={cpu}")).unwrap_or_default();
    let memory = size.memory.map(|memory| format!(" memory={}m", memory.mebibytes())).unwrap_or_default();
    format!("{target}{cpu}{memory}")
}

fn given(size: PartialSize) -> Result {
    if size.is_empty() {
        return Err(Failure::invalid("no size is given; give --cpu, --memory or both, such as --cpu 1.5 --memory 1g"));
    }
    Ok(())
}

impl Operation for ReportResources {
    const NAME: &'static str = "resource:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<AppResources>;

    fn target(&self) -> AppSelection {
        AppSelection::one_or_all(self.app.as_ref())
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<AppResources>> {
        let mut all = Vec::new();
        for app in apps {
            all.push(report(context, app).await?);
        }
        Ok(all)
    }
}

async fn report(context: &Context<'_>, app: App) -> Result<AppResources> {
    let limits = context.store.sizes(app.id, SizeKind::Limit).await?;
    let reserves = context.store.sizes(app.id, SizeKind::Reserve).await?;
    let default = context.store.default_size();
    let types = ps::formation(context, &app).await?.into_keys().map(SizeTarget::Type);
    let set = limits.targets().chain(reserves.targets()).cloned();
    let general = [SizeTarget::Instances, SizeTarget::Tasks, SizeTarget::Builds];
    let targets: std::collections::BTreeSet<_> = types.chain(set).chain(general).collect();
    let rows = targets.into_iter().map(|target| {
        let build = &context.config.build;
        let amounts = |size: Size| (size.cpu.millis(), size.memory.mebibytes());
        // What applies where no size is set for the target itself.
        let general = match &target {
            SizeTarget::Builds => (build.cpus.saturating_mul(1000), build.memory_mib),
            SizeTarget::Type(_) => amounts(limits.size(&SizeTarget::Instances, default)),
            SizeTarget::Instances | SizeTarget::Tasks => amounts(default),
        };
        let own = limits.set(&target);
        let cpu_millis = own.cpu.map_or(general.0, CpuMillis::millis);
        let memory_mib = own.memory.map_or(general.1, MemoryMib::mebibytes);
        let reserve = reserves.set_for(&target);
        ResourceRow {
            cpu_millis,
            memory_mib,
            reserved_cpu_millis: reserve.cpu.map(CpuMillis::millis),
            reserved_memory_mib: reserve.memory.map(MemoryMib::mebibytes),
            own: !own.is_empty(),
            size: name_of(&context.config.sizes, (cpu_millis, memory_mib), general),
            target: target.to_string(),
        }
    });
    Ok(AppResources { sizes: rows.collect(), app: app.name })
}
