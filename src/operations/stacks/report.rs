//! The report of stacks: the revision that each app is on.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::require_stack;
use crate::{
    deploy::StackStatus,
    model::{AppName, PackageChange, Right, StackName},
    operations::{context::Context, failure::Result, operation::Operation, selection::AppSelection},
    store::{App, Effect},
};

/// Shows the stack revision of each app that the caller may see; for one stack, also what its newest revision changed.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ReportStacks {
    /// Name of a stack; without it, all.
    pub name: Option<StackName>,
}

/// Whether an app is on the newest revision of its stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AppStackState {
    /// It is.
    UpToDate,
    /// A rebase would change its image.
    Behind,
    /// It has no image, or one that is on no stack, such as that of a Dockerfile.
    NoStack,
}

impl AppStackState {
    /// The state as people read it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UpToDate => "up to date",
            Self::Behind => "behind",
            Self::NoStack => "no stack",
        }
    }
}

/// One revision of a stack.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RevisionOfStack {
    /// Name of the stack.
    pub stack: String,
    /// Number of the revision.
    pub revision: u64,
}

/// The stack revision of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppStackRow {
    /// App.
    pub app: AppName,
    /// Name of the app's stack: the chosen one, or the default.
    pub stack: String,
    /// Stack and revision that the app's image is on, if it is on a known one.
    pub on: Option<RevisionOfStack>,
    /// Newest revision of the app's stack.
    pub newest: Option<u64>,
    /// Whether the app is on it.
    pub state: AppStackState,
}

impl From<StackStatus> for AppStackRow {
    fn from(status: StackStatus) -> Self {
        let state = match (&status.on, status.is_behind) {
            (_, true) => AppStackState::Behind,
            (None, false) => AppStackState::NoStack,
            (Some(_), false) => AppStackState::UpToDate,
        };
        Self {
            app: status.app.name,
            stack: status.stack,
            on: status.on.map(|(stack, revision)| RevisionOfStack { stack, revision }),
            newest: status.newest,
            state,
        }
    }
}

/// The stack revisions of apps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct StackReport {
    /// The stack, if the report is about one.
    pub stack: Option<StackName>,
    /// Apps on it; without a stack, all that the caller may see.
    pub apps: Vec<AppStackRow>,
    /// Packages that the newest revision of the stack changed.
    pub changes: Vec<PackageChange>,
}

impl Operation for ReportStacks {
    const NAME: &'static str = "stacks:report";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = StackReport;

    fn target(&self) -> AppSelection {
        AppSelection::All
    }

    fn audit(&self) -> String {
        self.name.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<StackReport> {
        let stacks = context.deployer.stacks();
        let changes = match &self.name {
            Some(name) => {
                require_stack(context, name).await?;
                stacks.changes(name.as_str()).await?
            }
            None => Vec::new(),
        };
        let mut statuses = stacks.statuses(apps).await?;
        if let Some(name) = &self.name {
            statuses.retain(|status| status.stack == name.as_str());
        }
        Ok(StackReport { stack: self.name, apps: statuses.into_iter().map(AppStackRow::from).collect(), changes })
    }
}
