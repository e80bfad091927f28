//! Operations that restart, rebuild, stop and start apps.

use schemars::JsonSchema;
use serde::Deserialize;

use super::{
    context::Context,
    each_app::each_app,
    failure::{Failure, Result},
    operation::Operation,
    ps::{Released, Scaled, formation, instances_named, released, renew, scaled, settle, unknown_type},
    selection::AppSelection,
};
use crate::{
    instances::StartedInstances,
    model::{AppName, ProcessType, Right},
    store::{App, Effect},
};

/// Replaces instances by new ones of the same release, without downtime.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// App.
    pub app: Option<AppName>,
    /// Only the instances of this process type.
    #[arg(value_name = "TYPE")]
    #[serde(rename = "type")]
    pub process_type: Option<ProcessType>,
    /// All apps.
    #[arg(long, conflicts_with = "app")]
    #[serde(default)]
    pub all: bool,
}

impl Operation for Restart {
    const NAME: &'static str = "ps:restart";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = Vec<App>;
    type Output = Vec<Scaled>;

    fn target(&self) -> AppSelection {
        AppSelection::new(self.app.as_ref(), self.all)
    }

    fn audit(&self) -> String {
        self.process_type.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<Scaled>> {
        // One that does not run has nothing to restart, which is no failure when all are restarted.
        let all = self.app.is_none();
        let apps: Vec<_> = apps.into_iter().filter(|app| !all || (app.current.is_some() && !app.stopped)).collect();
        each_app(context, apps, |app| restart(context, app, self.process_type.as_ref())).await
    }
}

async fn restart(context: &Context<'_>, app: App, process_type: Option<&ProcessType>) -> Result<Scaled> {
    if let Some(unknown) = unknown_type(context, &app, process_type.into_iter()).await? {
        return Err(Failure::not_found(unknown));
    }
    let declared = formation(context, &app).await?;
    if let Some(name) = process_type
        && declared.get(name) == Some(&0)
    {
        let text =
            format!("{name} of {} has no instances to restart; ps:scale {} {name}=1 starts one", app.name, app.name);
        context.progress.detail(text).await;
        return scaled(context, app).await;
    }
    let why = format!("Restarting {}", instances_named(&app, process_type));
    renew(context, &app, process_type, why).await?;
    let restarted = |name: &ProcessType| process_type.is_none_or(|only| only == name);
    let started = declared.into_iter().filter(|(name, _)| restarted(name)).collect();
    // Until the old instances are no longer counted.
    settle(context, app, StartedInstances::all(&started)).await
}

/// Builds the tip of the deploy branch again, or after a rollback the deployed commit, and releases the image.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Rebuild {
    /// App.
    pub app: Option<AppName>,
    /// All apps that are deployed.
    #[arg(long, conflicts_with = "app")]
    #[serde(default)]
    pub all: bool,
}

impl Operation for Rebuild {
    const NAME: &'static str = "ps:rebuild";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Vec<App>;
    type Output = Vec<Released>;

    fn target(&self) -> AppSelection {
        AppSelection::new(self.app.as_ref(), self.all)
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<Released>> {
        let apps: Vec<_> = apps.into_iter().filter(|app| self.app.is_some() || app.current.is_some()).collect();
        each_app(context, apps, |app| rebuild(context, app)).await
    }
}

async fn rebuild(context: &Context<'_>, app: App) -> Result<Released> {
    context.deployer.rebuild(&app, context.caller.name(), context.progress, context.hangup).await?;
    released(context, app).await
}

/// Stops all instances; the formation is kept.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// App.
    pub app: Option<AppName>,
    /// All apps.
    #[arg(long, conflicts_with = "app")]
    #[serde(default)]
    pub all: bool,
}

impl Operation for Stop {
    const NAME: &'static str = "ps:stop";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = Vec<App>;
    type Output = Vec<Scaled>;

    fn target(&self) -> AppSelection {
        AppSelection::new(self.app.as_ref(), self.all)
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<Scaled>> {
        each_app(context, apps, |app| set_stopped(context, app, true)).await
    }
}

/// Starts a stopped app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// App.
    pub app: Option<AppName>,
    /// All apps.
    #[arg(long, conflicts_with = "app")]
    #[serde(default)]
    pub all: bool,
}

impl Operation for Start {
    const NAME: &'static str = "ps:start";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = Vec<App>;
    type Output = Vec<Scaled>;

    fn target(&self) -> AppSelection {
        AppSelection::new(self.app.as_ref(), self.all)
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<Scaled>> {
        each_app(context, apps, |app| set_stopped(context, app, false)).await
    }
}

async fn set_stopped(context: &Context<'_>, app: App, stopped: bool) -> Result<Scaled> {
    context.store.set_stopped(app.id, stopped).await?;
    context.progress.step(format!("{} {}", if stopped { "Stopping" } else { "Starting" }, app.name)).await;
    let started =
        if stopped { StartedInstances::default() } else { StartedInstances::all(&formation(context, &app).await?) };
    settle(context, app, started).await
}
