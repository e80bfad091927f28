//! Operations of apps on stacks: the stack of an app, and rebases.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::require_stack;
use crate::{
    deploy::{DeployError, Rebased},
    model::{AppName, ReleaseNumber, Right, StackName},
    operations::{
        audit::outcome_of,
        context::Context,
        failure::{Failure, FailureKind, Result},
        operation::Operation,
        selection::AppSelection,
    },
    store::{App, Effect},
};

/// Shows the stack that an app is built in and runs on.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowAppStack {
    /// App.
    pub app: AppName,
}

/// The stack of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppStack {
    /// App.
    pub app: AppName,
    /// Name of the stack.
    pub stack: String,
    /// Whether the app has chosen none, so that it is the server's default.
    pub default: bool,
}

impl Operation for ShowAppStack {
    const NAME: &'static str = "apps:show-stack";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = AppStack;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppStack> {
        let stack = context.deployer.stacks().name_for(&app).to_owned();
        Ok(AppStack { stack, default: app.stack.is_none(), app: app.name })
    }
}

/// Chooses the stack that an app is built in and runs on, from its next build on.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ChooseStack {
    /// App.
    pub app: AppName,
    /// Name of the stack; without it, the server's default.
    pub stack: Option<StackName>,
}

/// The stack that was chosen for an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct ChosenStack(pub AppStack);

impl Operation for ChooseStack {
    const NAME: &'static str = "apps:stack";
    const RIGHT: Right = Right::Operate;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = ChosenStack;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.stack.as_ref().map_or_else(|| "default".to_owned(), ToString::to_string)
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<ChosenStack> {
        if let Some(name) = &self.stack {
            require_stack(context, name).await?;
        }
        let chosen = self.stack.map(|name| name.to_string());
        if !context.store.set_app_stack(app.id, chosen.clone()).await? {
            return Err(Failure::conflict("the stack has just been removed; stacks:list lists the others"));
        }
        let default = chosen.is_none();
        let stack = chosen.unwrap_or_else(|| context.deployer.stacks().default_name().to_owned());
        Ok(ChosenStack(AppStack { app: app.name, stack, default }))
    }
}

/// Rebases apps onto the newest revision of their stack, without a build.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct RebaseApps {
    /// App.
    pub app: Option<AppName>,
    /// All apps that are not on the newest revision.
    #[arg(long, conflicts_with = "app")]
    #[serde(default)]
    pub all: bool,
    /// Only apps on this stack.
    #[arg(long, requires = "all")]
    pub stack: Option<StackName>,
}

/// What a rebase did to an app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RebaseOutcome {
    /// It has a new release on the newest revision.
    Rebased,
    /// It was on the newest revision already.
    UpToDate,
    /// It has no release.
    NotDeployed,
}

/// An app after a rebase.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct RebasedApp {
    /// App.
    pub app: AppName,
    /// What the rebase did.
    pub outcome: RebaseOutcome,
    /// Number of its current release.
    pub release: Option<ReleaseNumber>,
}

impl RebasedApp {
    fn new(app: &App, rebased: &Rebased) -> Self {
        let current = app.current.map(|current| current.release);
        let (outcome, release) = match rebased {
            Rebased::Released(number) => (RebaseOutcome::Rebased, Some(*number)),
            Rebased::Nothing if current.is_some() => (RebaseOutcome::UpToDate, current),
            Rebased::Nothing => (RebaseOutcome::NotDeployed, None),
        };
        Self { app: app.name.clone(), outcome, release }
    }
}

impl Operation for RebaseApps {
    const NAME: &'static str = "apps:rebase";
    const RIGHT: Right = Right::Deploy;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Vec<App>;
    type Output = Vec<RebasedApp>;

    fn target(&self) -> AppSelection {
        AppSelection::new(self.app.as_ref(), self.all)
    }

    fn audit(&self) -> String {
        self.stack.as_ref().map(|stack| format!("stack={stack}")).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, mut apps: Vec<App>) -> Result<Vec<RebasedApp>> {
        if self.app.is_none() {
            return rebase_all(context, apps, self.stack).await;
        }
        if self.stack.is_some() {
            return Err(Failure::invalid("a stack chooses among all apps; leave it out to rebase one app"));
        }
        let app = apps.remove(0);
        let rebased = context.deployer.rebase(&app, context.caller.name(), context.progress, context.hangup).await?;
        let rebased = RebasedApp::new(&app, &rebased);
        let why = match rebased.outcome {
            RebaseOutcome::Rebased => None,
            RebaseOutcome::UpToDate => Some("is already on the newest revision of its stack"),
            RebaseOutcome::NotDeployed => Some("has no release yet"),
        };
        if let Some(why) = why {
            context.progress.detail(format!("{} {why}", app.name)).await;
        }
        Ok(vec![rebased])
    }
}

/// Rebases those of the apps that are behind.
async fn rebase_all(context: &Context<'_>, apps: Vec<App>, stack: Option<StackName>) -> Result<Vec<RebasedApp>> {
    if let Some(stack) = &stack {
        require_stack(context, stack).await?;
    }
    let behind = context.deployer.stacks().statuses(apps).await?.into_iter().filter(|status| status.is_behind);
    let wanted = behind.filter(|status| stack.as_ref().is_none_or(|stack| status.stack == stack.as_str()));
    let apps: Vec<_> = wanted.map(|status| status.app).collect();
    context.progress.step(format!("Rebasing {} apps", apps.len())).await;
    let mut entries = BTreeMap::new();
    for app in &apps {
        entries.insert(app.id, context.recording.begin_app(app).await?);
    }
    let by = context.caller.name();
    let results = context.deployer.rebase_all(apps, by, context.progress, context.hangup).await;
    let not_started = results.iter().filter(|(_, result)| result.is_none()).count();
    let results: Vec<_> = results.into_iter().map(|(app, result)| (rebased(&app, result), app)).collect();
    for (result, app) in &results {
        if let Some(entry) = entries.remove(&app.id).flatten() {
            entry.end(outcome_of(result)).await;
        }
    }
    result_of_all(results.into_iter().map(|(result, _)| result).collect(), not_started)
}

/// The result of an app; one whose rebase was not started has failed, too.
fn rebased(app: &App, result: Option<Result<Rebased, DeployError>>) -> Result<RebasedApp> {
    match result {
        Some(result) => Ok(RebasedApp::new(app, &result?)),
        None => Err(Failure::new(FailureKind::Failed, "not started, because another app failed or the client left")),
    }
}

/// The apps by name, or the failure of the whole if one failed; the lines of progress have told why.
fn result_of_all(results: Vec<Result<RebasedApp>>, not_started: usize) -> Result<Vec<RebasedApp>> {
    let total = results.len();
    let mut done: Vec<_> = results.into_iter().flatten().collect();
    if done.len() < total {
        let failed = total - done.len() - not_started;
        let text = format!(
            "{failed} apps failed and keep their current release, {not_started} were not started; fix the failed apps \
             and run the command again"
        );
        return Err(Failure::new(FailureKind::Failed, text));
    }
    done.sort_by(|one, other| one.app.cmp(&other.app));
    Ok(done)
}
