//! The commands `buildpacks:…`: buildpacks of the server, and those that an app has chosen.

use clap::Subcommand;
use serde_json::json;

use super::{
    context::Context,
    error::{CommandError, Result},
    output::{Format, Row},
    session::Session,
};
use crate::{
    build::Buildpack,
    deploy::BuildpackPosition,
    model::{AppName, BuildpackSource},
};

/// The commands of buildpacks.
#[derive(Debug, Subcommand)]
pub(super) enum BuildpacksCommand {
    /// List the buildpacks that an app has chosen.
    #[command(name = "buildpacks:list", alias = "buildpacks", after_help = "Example: buildpacks:list my-app")]
    List {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Add a buildpack to those that an app has chosen; the app is then built with these only.
    #[command(
        name = "buildpacks:add",
        after_help = "Examples: buildpacks:add my-app paas/nodejs\n          buildpacks:add my-app https://host/go.git#v1:folder\n          buildpacks:add my-app docker://registry/image:tag --index 1"
    )]
    Add {
        app: AppName,
        /// An id with an optional @version, a git URL with an optional #ref:folder, docker://IMAGE, ./FOLDER of the app, or (admins) a path.
        #[arg(value_name = "BUILDPACK")]
        source: BuildpackSource,
        /// Its position, counted from 1; without it, the last.
        #[arg(long, short)]
        index: Option<usize>,
    },
    /// Choose one buildpack for an app, or replace one of those chosen.
    #[command(name = "buildpacks:set", after_help = "Example: buildpacks:set my-app heroku/nodejs --index 2")]
    Set {
        app: AppName,
        /// As for buildpacks:add.
        #[arg(value_name = "BUILDPACK")]
        source: BuildpackSource,
        /// Position of the buildpack to replace, counted from 1.
        #[arg(long, short)]
        index: Option<usize>,
    },
    /// Remove a buildpack from those that an app has chosen.
    #[command(name = "buildpacks:remove", after_help = "Example: buildpacks:remove my-app heroku/nodejs")]
    Remove {
        app: AppName,
        /// As buildpacks:list shows it.
        #[arg(value_name = "BUILDPACK")]
        source: BuildpackSource,
    },
    /// Remove all buildpacks that an app has chosen, so that detection chooses again.
    #[command(name = "buildpacks:clear", after_help = "Example: buildpacks:clear my-app")]
    Clear { app: AppName },
    /// Show the buildpacks that an app has chosen, and those that its last build ran.
    #[command(name = "buildpacks:report", after_help = "Example: buildpacks:report my-app")]
    Report {
        app: AppName,
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// List the buildpacks of the server, which every app may choose.
    #[command(name = "buildpacks:installed", after_help = "Example: buildpacks:installed")]
    Installed {
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Install buildpacks on the server (admins only).
    #[command(name = "buildpacks:install", after_help = "Example: buildpacks:install /srv/buildpacks/elixir.cnb")]
    Install {
        /// A git URL with an optional #ref:folder, docker://IMAGE, or a folder, .tgz or .cnb on the server.
        #[arg(value_name = "SOURCE")]
        source: BuildpackSource,
    },
    /// Uninstall buildpacks from the server (admins only).
    #[command(name = "buildpacks:uninstall", after_help = "Example: buildpacks:uninstall acme/elixir@1.2.0")]
    Uninstall {
        /// An id, or id@version.
        #[arg(value_name = "BUILDPACK")]
        name: String,
    },
}

pub(super) async fn run(context: &Context, session: &mut Session<'_>, command: BuildpacksCommand) -> Result {
    use BuildpacksCommand as C;
    match command {
        C::List { app, format } => list(context, session, app, format).await,
        C::Add { app, source, index } => {
            let position = index.map_or(BuildpackPosition::Last, BuildpackPosition::Before);
            choose(context, session, app, source, position).await
        }
        C::Set { app, source, index } => {
            let position = index.map_or(BuildpackPosition::Only, BuildpackPosition::InPlaceOf);
            choose(context, session, app, source, position).await
        }
        C::Remove { app, source } => remove(context, session, app, Some(source)).await,
        C::Clear { app } => remove(context, session, app, None).await,
        C::Report { app, format } => report(context, session, app, format).await,
        C::Installed { format } => installed(context, session, format).await,
        C::Install { source } => install(context, session, source).await,
        C::Uninstall { name } => uninstall(context, session, name).await,
    }
}

#[derive(serde::Serialize)]
struct InstalledRow {
    id: String,
    version: String,
    api: String,
    name: String,
    digest: String,
    source: String,
}

impl InstalledRow {
    fn new(buildpack: &Buildpack, source: &str) -> Self {
        let about = &buildpack.about;
        Self {
            id: about.id.clone(),
            version: about.version.clone(),
            api: about.api.to_string(),
            name: about.name.clone(),
            digest: buildpack.digest.to_string(),
            source: source.to_owned(),
        }
    }
}

impl Row for InstalledRow {
    const HEADER: &'static [&'static str] = &["ID", "VERSION", "API", "DIGEST", "FROM"];

    fn cells(&self) -> Vec<String> {
        let digest = self.digest.trim_start_matches("sha256:").chars().take(12).collect();
        vec![self.id.clone(), self.version.clone(), self.api.clone(), digest, self.source.clone()]
    }
}

async fn installed(context: &Context, session: &Session<'_>, format: Format) -> Result {
    let builtin =
        context.deployer.buildpacks().builtin().all.iter().map(|buildpack| InstalledRow::new(buildpack, "built in"));
    let mut rows: Vec<_> = builtin.collect();
    for (package, source) in context.deployer.buildpacks().installed_with_sources().await? {
        // Paths of the server, and URLs, which may contain a token, are shown to admins only.
        let source = if session.caller.admin { source.as_str() } else { "installed" };
        rows.extend(package.all.iter().map(|buildpack| InstalledRow::new(buildpack, source)));
    }
    session.out.table(&rows, format).await;
    Ok(())
}

async fn install(context: &Context, session: &Session<'_>, source: BuildpackSource) -> Result {
    session.only_admin()?;
    let package = context.deployer.buildpacks().install(&source, &session.progress).await?;
    for buildpack in &package.all {
        session.progress.detail(format!("{} ({})", buildpack.about.full_name(), buildpack.digest)).await;
    }
    Ok(())
}

async fn uninstall(context: &Context, session: &Session<'_>, name: String) -> Result {
    session.only_admin()?;
    let mut removed = Vec::new();
    for (package, _) in context.deployer.buildpacks().installed_with_sources().await? {
        if package.all.iter().any(|b| b.about.full_name() == name || b.about.id == name) {
            removed.extend(package.all.iter().map(|b| b.about.full_name()));
            context.store.uninstall_package(package.digest).await?;
        }
    }
    if removed.is_empty()
        && context.deployer.buildpacks().builtin().all.iter().any(|b| b.about.full_name() == name || b.about.id == name)
    {
        let text = format!("{name} is built in and cannot be uninstalled; buildpacks:set APP chooses others");
        return Err(CommandError::Refused(text));
    }
    if removed.is_empty() {
        return Err(CommandError::Refused(format!(
            "there is no installed buildpack {name}; buildpacks:installed lists all"
        )));
    }
    context.deployer.buildpacks().remove_unused().await?;
    // All buildpacks of a package are uninstalled together.
    let are = if removed.len() == 1 { "is" } else { "are" };
    let text = format!("{} {are} uninstalled; apps that have chosen them as a package keep them", removed.join(", "));
    session.out.line(&format!("       {text}")).await;
    let apps = apps_without(context, session, &removed).await?;
    if !apps.is_empty() {
        let text = format!(
            "these apps cannot be built any more, as they chose it by name: {}; buildpacks:set APP chooses another",
            apps.join(", ")
        );
        session.out.trouble(&text).await;
    }
    Ok(())
}

/// The apps that chose one of the removed buildpacks (`id@version`) by name, and of which no version is left.
async fn apps_without(context: &Context, session: &Session<'_>, removed: &[String]) -> Result<Vec<String>> {
    let mut available: Vec<_> = context.deployer.buildpacks().builtin().all.iter().map(|b| b.about.clone()).collect();
    for (package, _) in context.deployer.buildpacks().installed_with_sources().await? {
        available.extend(package.all.iter().map(|b| b.about.clone()));
    }
    let is_removed = |id: &str| removed.iter().any(|name| name.rsplit_once('@').is_some_and(|(name, _)| name == id));
    let is_missing = |source: &BuildpackSource| match source {
        BuildpackSource::Name { id, version } => {
            let matches = |available: &str| version.as_ref().is_none_or(|version| version == available);
            is_removed(id) && !available.iter().any(|about| about.id == *id && matches(&about.version))
        }
        _ => false,
    };
    let mut apps = Vec::new();
    for app in context.apps(session).await? {
        if context.store.app_buildpacks(app.id).await?.iter().any(|chosen| is_missing(&chosen.source)) {
            apps.push(app.name.to_string());
        }
    }
    Ok(apps)
}

#[derive(serde::Serialize)]
struct ChosenRow {
    place: usize,
    buildpack: String,
    package: Option<String>,
}

impl Row for ChosenRow {
    const HEADER: &'static [&'static str] = &["POSITION", "BUILDPACK", "PACKAGE"];

    fn cells(&self) -> Vec<String> {
        let package = self.package.as_deref().unwrap_or("-");
        let package = package.trim_start_matches("sha256:").chars().take(12).collect();
        vec![self.place.to_string(), self.buildpack.clone(), package]
    }
}

async fn rows(context: &Context, session: &Session<'_>, app: AppName) -> Result<Vec<ChosenRow>> {
    let app = context.app(session, app).await?;
    let chosen = context.store.app_buildpacks(app.id).await?;
    let row = |(index, entry): (usize, crate::store::ChosenBuildpack)| ChosenRow {
        place: index + 1,
        buildpack: entry.source.to_string(),
        package: entry.package.map(|digest| digest.to_string()),
    };
    Ok(chosen.into_iter().enumerate().map(row).collect())
}

async fn list(context: &Context, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let rows = rows(context, session, app.clone()).await?;
    if rows.is_empty() && format == Format::Text {
        session
            .out
            .line(&format!(
                "       {app} has chosen none: detection chooses from those of the server (buildpacks:installed)"
            ))
            .await;
        return Ok(());
    }
    session.out.table(&rows, format).await;
    Ok(())
}

async fn report(context: &Context, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let chosen = rows(context, session, app.clone()).await?;
    let app = context.app(session, app).await?;
    let last = context.store.builds(app.id, 100).await?.into_iter().find(|build| build.image.is_some());
    let ran = last.map(|build| build.buildpacks).unwrap_or_default();
    let facts = json!({
        "chosen": chosen.iter().map(|row| row.buildpack.clone()).collect::<Vec<_>>(),
        "last_build": ran.iter().map(|ran| format!("{}@{}", ran.id, ran.version)).collect::<Vec<_>>(),
    });
    if let serde_json::Value::Object(facts) = facts {
        session.out.facts(&facts, format).await;
    }
    Ok(())
}

async fn choose(
    context: &Context,
    session: &Session<'_>,
    app: AppName,
    source: BuildpackSource,
    position: BuildpackPosition,
) -> Result {
    let app = context.app(session, app).await?;
    context.deployer.choose_buildpack(&app, source.clone(), position, session.caller.admin, &session.progress).await?;
    context.deployer.buildpacks().remove_unused().await?;
    session
        .progress
        .detail(format!(
            "{} is built with {source} from the next push on; ps:rebuild {} builds it now",
            app.name, app.name
        ))
        .await;
    Ok(())
}

/// Removes one of the chosen buildpacks, or all.
async fn remove(context: &Context, session: &Session<'_>, app: AppName, source: Option<BuildpackSource>) -> Result {
    let app = context.app(session, app).await?;
    let name = app.name.clone();
    let change = move |chosen: Vec<crate::store::ChosenBuildpack>| {
        let Some(source) = source else { return Ok(Vec::new()) };
        let (removed, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|entry| entry.source == source);
        if removed.is_empty() {
            Err(format!("{name} has not chosen {source}; buildpacks:list {name} shows those that it has chosen"))
        } else {
            Ok(kept)
        }
    };
    context.store.change_app_buildpacks(app.id, change).await?;
    context.deployer.buildpacks().remove_unused().await?;
    session.out.line(&format!("       done: takes effect at the next push of {}", app.name)).await;
    Ok(())
}
