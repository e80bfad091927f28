//! Buildpacks: those of the server, and those that an app has chosen.

use serde_json::json;

use super::{CommandError, Commands, Result, Session, line::Format, output::Row};
use crate::{
    build::Buildpack,
    deploy::BuildpackPosition,
    model::{AppName, BuildpackSource},
};

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

pub(super) async fn installed(commands: &Commands, session: &Session<'_>, format: Format) -> Result {
    let builtin =
        commands.deployer.buildpacks().builtin().all.iter().map(|buildpack| InstalledRow::new(buildpack, "built in"));
    let mut rows: Vec<_> = builtin.collect();
    for (package, source) in commands.deployer.buildpacks().installed_with_sources().await? {
        // Paths of the server, and what a URL may have in it, are the operators'.
        let source = if session.caller.admin { source.as_str() } else { "installed" };
        rows.extend(package.all.iter().map(|buildpack| InstalledRow::new(buildpack, source)));
    }
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn install(commands: &Commands, session: &Session<'_>, source: BuildpackSource) -> Result {
    session.only_admin()?;
    let package = commands.deployer.buildpacks().install(&source, &session.progress).await?;
    for buildpack in &package.all {
        session.progress.detail(format!("{} ({})", buildpack.about.full_name(), buildpack.digest)).await;
    }
    Ok(())
}

pub(super) async fn uninstall(commands: &Commands, session: &Session<'_>, name: String) -> Result {
    session.only_admin()?;
    let mut gone = Vec::new();
    for (package, _) in commands.deployer.buildpacks().installed_with_sources().await? {
        if package.all.iter().any(|b| b.about.full_name() == name || b.about.id == name) {
            gone.extend(package.all.iter().map(|b| b.about.full_name()));
            commands.store.uninstall_package(package.digest).await?;
        }
    }
    if gone.is_empty()
        && commands
            .deployer
            .buildpacks()
            .builtin()
            .all
            .iter()
            .any(|b| b.about.full_name() == name || b.about.id == name)
    {
        let text = format!("{name} comes with paas and stays; buildpacks:set APP chooses others");
        return Err(CommandError::Refused(text));
    }
    if gone.is_empty() {
        return Err(CommandError::Refused(format!(
            "no installed buildpack is called {name}; buildpacks:installed lists all"
        )));
    }
    commands.deployer.buildpacks().remove_unused().await?;
    // What came in one package goes with it.
    let are = if gone.len() == 1 { "is" } else { "are" };
    let text = format!("{} {are} uninstalled; apps that have chosen them as a package keep them", gone.join(", "));
    session.out.line(&format!("       {text}")).await;
    let left = left_without(commands, session, &gone).await?;
    if !left.is_empty() {
        let text =
            format!("no more builds, as it is chosen by name: {}; buildpacks:set APP chooses another", left.join(", "));
        session.out.trouble(&text).await;
    }
    Ok(())
}

/// The apps that chose one of these (`id@version`) by name and find none any more.
async fn left_without(commands: &Commands, session: &Session<'_>, gone: &[String]) -> Result<Vec<String>> {
    let mut here: Vec<_> = commands.deployer.buildpacks().builtin().all.iter().map(|b| b.about.clone()).collect();
    for (package, _) in commands.deployer.buildpacks().installed_with_sources().await? {
        here.extend(package.all.iter().map(|b| b.about.clone()));
    }
    let gone_id = |id: &str| gone.iter().any(|name| name.rsplit_once('@').is_some_and(|(gone, _)| gone == id));
    let lost = |source: &BuildpackSource| match source {
        BuildpackSource::Name { id, version } => {
            let fits = |version: &Option<String>, of: &str| version.as_ref().is_none_or(|version| version == of);
            gone_id(id) && !here.iter().any(|about| about.id == *id && fits(version, &about.version))
        }
        _ => false,
    };
    let mut left = Vec::new();
    for app in commands.apps(session).await? {
        if commands.store.app_buildpacks(app.id).await?.iter().any(|chosen| lost(&chosen.source)) {
            left.push(app.name.to_string());
        }
    }
    Ok(left)
}

#[derive(serde::Serialize)]
struct ChosenRow {
    place: usize,
    buildpack: String,
    package: Option<String>,
}

impl Row for ChosenRow {
    const HEADER: &'static [&'static str] = &["PLACE", "BUILDPACK", "PACKAGE"];

    fn cells(&self) -> Vec<String> {
        let package = self.package.as_deref().unwrap_or("-");
        let package = package.trim_start_matches("sha256:").chars().take(12).collect();
        vec![self.place.to_string(), self.buildpack.clone(), package]
    }
}

async fn rows(commands: &Commands, session: &Session<'_>, app: AppName) -> Result<Vec<ChosenRow>> {
    let app = commands.app(session, app).await?;
    let chosen = commands.store.app_buildpacks(app.id).await?;
    let row = |(index, entry): (usize, crate::store::ChosenBuildpack)| ChosenRow {
        place: index + 1,
        buildpack: entry.source.to_string(),
        package: entry.package.map(|digest| digest.to_string()),
    };
    Ok(chosen.into_iter().enumerate().map(row).collect())
}

pub(super) async fn list(commands: &Commands, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let rows = rows(commands, session, app.clone()).await?;
    if rows.is_empty() && format == Format::Text {
        session.out.line(&format!("       {app} has chosen none: its files decide (buildpacks:installed)")).await;
        return Ok(());
    }
    session.out.table(&rows, format).await;
    Ok(())
}

pub(super) async fn report(commands: &Commands, session: &Session<'_>, app: AppName, format: Format) -> Result {
    let chosen = rows(commands, session, app.clone()).await?;
    let app = commands.app(session, app).await?;
    let last = commands.store.builds(app.id, 100).await?.into_iter().find(|build| build.image.is_some());
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

pub(super) async fn choose(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    source: BuildpackSource,
    position: BuildpackPosition,
) -> Result {
    let app = commands.app(session, app).await?;
    commands.deployer.choose_buildpack(&app, source.clone(), position, session.caller.admin, &session.progress).await?;
    commands.deployer.buildpacks().remove_unused().await?;
    session
        .progress
        .detail(format!("{} builds with {source} from its next push on; ps:rebuild {} builds now", app.name, app.name))
        .await;
    Ok(())
}

/// Takes one out, or all.
pub(super) async fn remove(
    commands: &Commands,
    session: &Session<'_>,
    app: AppName,
    source: Option<BuildpackSource>,
) -> Result {
    let app = commands.app(session, app).await?;
    let name = app.name.clone();
    let change = move |chosen: Vec<crate::store::ChosenBuildpack>| {
        let Some(source) = source else { return Ok(Vec::new()) };
        let (gone, kept): (Vec<_>, Vec<_>) = chosen.into_iter().partition(|entry| entry.source == source);
        if gone.is_empty() {
            Err(format!("{name} has not chosen {source}; buildpacks:list {name} shows them"))
        } else {
            Ok(kept)
        }
    };
    commands.store.change_app_buildpacks(app.id, change).await?;
    commands.deployer.buildpacks().remove_unused().await?;
    session.out.line(&format!("       Done; {} follows that from its next push on", app.name)).await;
    Ok(())
}
