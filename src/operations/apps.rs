//! Operations of apps.

mod state;

pub use state::AppState;

use std::collections::{BTreeMap, HashMap};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::{Context, Requirement},
    failure::{Failure, Result},
    members::{self, MemberInfo},
    operation::Operation,
    ports::{self, Mapping},
    ps,
    selection::AppSelection,
    target::Server,
    time::Time,
};
use crate::{
    instances::Instances,
    model::{
        AppName, BranchName, DockerfilePath, ProcessType, ReleaseNumber, Right, SourceFolder, StageName, UserName,
        VolumeName, VolumeSize,
    },
    store::{App, Effect, Link, RoutingState},
};

/// Creates an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct CreateApp {
    /// Name of the new app.
    pub app: AppName,
}

/// An app that was created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CreatedApp {
    /// Name.
    pub name: AppName,
    /// URLs of its port mappings.
    pub urls: Vec<String>,
}

impl Operation for CreateApp {
    const NAME: &'static str = "apps:create";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Server;
    type Output = CreatedApp;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.app.to_string()
    }

    async fn requirement(&self, context: &Context<'_>, _: &Server) -> Result<Option<Requirement>> {
        let reason = || {
            let name = context.caller.name();
            format!("{name} is a machine user, which creates no apps; a person creates {}, then access:add", self.app)
        };
        Ok(context.caller.machine.then(|| Requirement { right: Right::Admin, reason: reason() }))
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<CreatedApp> {
        let app = context.deployer.create_app(self.app, context.caller.actor.user).await?;
        context.recording.about(app.id, &app.name);
        Ok(CreatedApp { urls: urls(context, &app).await?.unwrap_or_default(), name: app.name })
    }
}

/// Lists the apps that the caller may see.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListApps {
    /// Also those that are being destroyed.
    #[arg(long)]
    #[serde(default)]
    pub all: bool,
}

/// An app of a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppRow {
    /// Name.
    pub name: AppName,
    /// Its owner; without one, it belongs to the admins.
    pub owner: Option<UserName>,
    /// Number of the current release.
    pub release: Option<ReleaseNumber>,
    /// State.
    pub state: AppState,
    /// Whether it is stopped.
    pub stopped: bool,
    /// Time of creation.
    pub created_at: Time,
    /// URL of the first port mapping.
    pub url: Option<String>,
}

impl Operation for ListApps {
    const NAME: &'static str = "apps:list";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = Vec<App>;
    type Output = Vec<AppRow>;

    fn target(&self) -> AppSelection {
        if self.all { AppSelection::AllEvenDestroying } else { AppSelection::All }
    }

    async fn run(self, context: &Context<'_>, apps: Vec<App>) -> Result<Vec<AppRow>> {
        // Few queries, however many apps there are.
        let mut owners = context.store.owners().await?;
        let RoutingState { mappings, instances, exposed, .. } = context.store.routing_state().await?;
        let reports = Instances::report_each(instances);
        let mut first = HashMap::new();
        for (app, mapping) in mappings {
            first.entry(app).or_insert(mapping);
        }
        let row = |app: App| {
            let leads_nowhere = app.current.is_some_and(|current| !exposed.contains_key(&(app.id, current.release)));
            let mapping = first.get(&app.id).filter(|_| !leads_nowhere);
            AppRow {
                owner: owners.remove(&app.id),
                release: app.current.map(|current| current.release),
                state: AppState::with_report(&app, reports.get(&app.id).map_or(&[], Vec::as_slice)),
                stopped: app.stopped,
                created_at: Time(app.created_at),
                url: mapping.map(|mapping| context.deployer.ports().url(mapping)),
                name: app.name,
            }
        };
        Ok(apps.into_iter().map(row).collect())
    }
}

/// Shows an app.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowApp {
    /// App.
    pub app: AppName,
}

/// An app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppInfo {
    /// Name.
    pub name: AppName,
    /// Its owner; without one, it belongs to the admins.
    pub owner: Option<UserName>,
    /// Its members, the owner first.
    pub members: Vec<MemberInfo>,
    /// Number of the current release.
    pub release: Option<ReleaseNumber>,
    /// State.
    pub state: AppState,
    /// Whether it is stopped.
    pub stopped: bool,
    /// Declared quantity of instances of each process type.
    pub formation: BTreeMap<ProcessType, u32>,
    /// Stack that it is built in and runs on.
    pub stack: String,
    /// Branch whose pushes are deployed.
    pub deploy_branch: Option<BranchName>,
    /// Folder of the repository that is built; without one, the whole repository.
    pub build_dir: Option<SourceFolder>,
    /// Path of the Dockerfile in the folder that is built; without one, `Dockerfile`, if there is such a file.
    pub dockerfile: Option<DockerfilePath>,
    /// Stage of the Dockerfile that is built; without one, the last.
    pub build_target: Option<StageName>,
    /// Port mappings.
    pub ports: Vec<Mapping>,
    /// URLs of the port mappings; none if the app has no web process.
    pub urls: Vec<String>,
    /// Its volumes.
    pub volumes: Vec<AppVolume>,
    /// Apps that its instances reach by an internal name (`apps:link`).
    pub links: Vec<AppName>,
    /// Apps whose instances reach it so.
    pub linked_from: Vec<AppName>,
    /// Time of creation.
    pub created_at: Time,
}

/// A volume of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct AppVolume {
    /// Name.
    pub name: VolumeName,
    /// Size, in MiB.
    #[serde(rename = "size_mib")]
    pub size: VolumeSize,
}

impl Operation for ShowApp {
    const NAME: &'static str = "apps:info";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = AppInfo;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<AppInfo> {
        let owner = context.store.owners().await?.remove(&app.id);
        let links = context.store.links(app.id).await?;
        let names = |links: Vec<Link>| links.into_iter().map(|link| link.name).collect();
        let volumes = context.store.volumes(app.id).await?.into_iter();
        let volumes = volumes.map(|volume| AppVolume { name: volume.name, size: volume.size }).collect();
        let ports = ports::rows(context, &app).await?.into_iter().map(|row| row.mapping).collect();
        Ok(AppInfo {
            owner,
            members: members::members(context, &app).await?,
            release: app.current.map(|current| current.release),
            state: AppState::of(context, &app).await?,
            stopped: app.stopped,
            formation: ps::formation(context, &app).await?,
            stack: context.deployer.stacks().name_for(&app).to_owned(),
            ports,
            urls: urls(context, &app).await?.unwrap_or_default(),
            volumes,
            links: names(links.to),
            linked_from: names(links.from),
            created_at: Time(app.created_at),
            deploy_branch: app.deploy_branch,
            build_dir: app.source_folder,
            dockerfile: app.dockerfile,
            build_target: app.build_target,
            name: app.name,
        })
    }
}

/// Whether there is an app of this name that the caller may see: fails if there is none.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct AppExists {
    /// App.
    pub app: AppName,
}

/// An app that exists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct ExistingApp {
    /// Name.
    pub name: AppName,
    /// Always true.
    pub exists: bool,
}

impl Operation for AppExists {
    const NAME: &'static str = "apps:exists";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = ExistingApp;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, _: &Context<'_>, app: App) -> Result<ExistingApp> {
        Ok(ExistingApp { name: app.name, exists: true })
    }
}

/// Destroys an app with its instances, releases and repository.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DestroyApp {
    /// App.
    pub app: AppName,
    /// Its name once more.
    #[schemars(length(min = 1))]
    pub confirm: String,
}

/// An app that was destroyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct DestroyedApp {
    /// Its name, which is free again.
    pub name: AppName,
}

impl Operation for DestroyApp {
    const NAME: &'static str = "apps:destroy";
    const RIGHT: Right = Right::Own;
    const EFFECT: Effect = Effect::Change;
    type Target = App;
    type Output = DestroyedApp;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<DestroyedApp> {
        if self.confirm.is_empty() {
            let text =
                format!("no name was given: {} is not destroyed; --force destroys it without a question", app.name);
            return Err(Failure::invalid(text));
        }
        if self.confirm != app.name.as_str() {
            return Err(Failure::invalid(format!("that is not the app's name: {} is not destroyed", app.name)));
        }
        context.deployer.destroy_app(&app, context.progress).await?;
        context.progress.detail(format!("{} is destroyed", app.name)).await;
        Ok(DestroyedApp { name: app.name })
    }
}

/// Shows the app's URLs.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowUrls {
    /// App.
    pub app: AppName,
}

/// URLs of an app's port mappings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(transparent)]
pub struct Urls(pub Vec<String>);

impl Operation for ShowUrls {
    const NAME: &'static str = "url";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Urls;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Urls> {
        match urls(context, &app).await? {
            Some(urls) => Ok(Urls(urls)),
            None => Err(Failure::conflict(format!(
                "{} has no web process, so it has no URL; a Procfile with a web line gives it one",
                app.name
            ))),
        }
    }
}

/// The URLs of the port mappings; `None` if the current release has no process type that they lead to.
async fn urls(context: &Context<'_>, app: &App) -> Result<Option<Vec<String>>> {
    if context.current_release(app).await?.is_some_and(|release| release.exposed().is_none()) {
        return Ok(None);
    }
    let mappings = context.store.port_mappings(app.id).await?;
    Ok(Some(mappings.iter().map(|mapping| context.deployer.ports().url(mapping)).collect()))
}
