//! Operations that set what becomes of the health checks of process types. Their fields are the same; each has its own type,
//! which names it in the documentation.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{AppChecks, change};
use crate::{
    model::{AppName, CheckMode, ProcessType, Right},
    operations::{
        context::Context,
        failure::{Failure, Result},
        operation::Operation,
        ps,
    },
    store::{App, Effect},
};

/// Makes the health checks of process types again.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct EnableChecks {
    /// App.
    pub app: AppName,
    /// Process types, separated by commas; without any, all.
    #[arg(value_name = "TYPE", value_delimiter = ',')]
    #[serde(default)]
    pub types: Vec<ProcessType>,
}

/// Skips the health checks of process types: an instance is healthy as soon as it runs.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct SkipChecks {
    /// App.
    pub app: AppName,
    /// Process types, separated by commas; without any, all.
    #[arg(value_name = "TYPE", value_delimiter = ',')]
    #[serde(default)]
    pub types: Vec<ProcessType>,
}

/// Disables the health checks of process types, and with them deployments without downtime: the old instances are stopped
/// before the new ones start.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct DisableChecks {
    /// App.
    pub app: AppName,
    /// Process types, separated by commas; without any, all.
    #[arg(value_name = "TYPE", value_delimiter = ',')]
    #[serde(default)]
    pub types: Vec<ProcessType>,
}

/// Sets the mode of process types, or of all.
async fn set_mode(context: &Context<'_>, app: App, types: Vec<ProcessType>, mode: CheckMode) -> Result<AppChecks> {
    if let Some(unknown) = ps::unknown_type(context, &app, types.iter()).await? {
        return Err(Failure::not_found(unknown));
    }
    change(context, app, move |settings| {
        if types.is_empty() {
            settings.default_mode = mode;
            settings.modes = BTreeMap::new();
        } else {
            settings.modes.extend(types.into_iter().map(|name| (name, mode)));
        }
    })
    .await
}

fn join(types: &[ProcessType]) -> String {
    types.iter().map(ProcessType::as_str).collect::<Vec<_>>().join(",")
}

impl Operation for EnableChecks {
    const NAME: &'static str = "checks:enable";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppChecks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.types)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppChecks> {
        set_mode(context, app, self.types, CheckMode::Enabled).await
    }
}

impl Operation for SkipChecks {
    const NAME: &'static str = "checks:skip";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppChecks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.types)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppChecks> {
        set_mode(context, app, self.types, CheckMode::Skipped).await
    }
}

impl Operation for DisableChecks {
    const NAME: &'static str = "checks:disable";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = AppChecks;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        join(&self.types)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppChecks> {
        set_mode(context, app, self.types, CheckMode::Disabled).await
    }
}
