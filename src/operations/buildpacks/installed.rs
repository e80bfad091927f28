//! Operations of the buildpacks of the server, which every app may choose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    build::{Builder, Buildpack, Package},
    model::{AppName, BuildpackSource, Digest, Right},
    operations::{
        context::Context,
        failure::{Failure, FailureKind, Result},
        operation::Operation,
        sent_file::SentFile,
        target::Server,
    },
    store::Effect,
};

/// Lists the buildpacks of the server, which every app may choose.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ListInstalledBuildpacks {}

/// How a buildpack came to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BuildpackOrigin {
    /// With the server itself.
    BuiltIn,
    /// By buildpacks:install.
    Installed,
}

/// A buildpack of the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InstalledBuildpack {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Version of the Buildpack API that it is written for.
    pub api: String,
    /// Name for people.
    pub name: String,
    /// Digest of all its files.
    #[schemars(with = "String")]
    pub digest: Digest,
    /// How it came to the server.
    pub origin: BuildpackOrigin,
    /// What it was installed from; shown to admins only.
    pub source: Option<String>,
}

impl InstalledBuildpack {
    fn new(buildpack: &Buildpack, origin: BuildpackOrigin, source: Option<String>) -> Self {
        let about = &buildpack.about;
        Self {
            id: about.id.clone(),
            version: about.version.clone(),
            api: about.api.to_string(),
            name: about.name.clone(),
            digest: buildpack.digest.clone(),
            origin,
            source,
        }
    }
}

impl Operation for ListInstalledBuildpacks {
    const NAME: &'static str = "buildpacks:installed";
    const RIGHT: Right = Right::Use;
    const EFFECT: Effect = Effect::Read;
    type Target = Server;
    type Output = Vec<InstalledBuildpack>;

    fn target(&self) {}

    async fn run(self, context: &Context<'_>, _: Server) -> Result<Vec<InstalledBuildpack>> {
        let library = context.deployer.buildpacks();
        let built_in = library.builtin().all.iter();
        let mut rows: Vec<_> =
            built_in.map(|buildpack| InstalledBuildpack::new(buildpack, BuildpackOrigin::BuiltIn, None)).collect();
        for (package, source) in library.installed_with_sources().await? {
            // Paths and addresses are shown to admins only.
            let source = Some(source).filter(|_| context.held >= Right::Admin);
            let row = |buildpack| InstalledBuildpack::new(buildpack, BuildpackOrigin::Installed, source.clone());
            rows.extend(package.all.iter().map(row));
        }
        Ok(rows)
    }
}

/// What is installed.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(from = "BuildpackSource")]
#[schemars(with = "BuildpackSource")]
pub enum InstallSource {
    /// What a source names.
    Named(BuildpackSource),
    /// A package, a `.cnb` or `.tgz` file, that the caller sends.
    Sent(SentFile),
}

impl Default for InstallSource {
    /// A package that is sent with the input: an empty one, until [`Operation::with_file`] has it.
    fn default() -> Self {
        Self::Sent(SentFile::new(Box::new(tokio::io::empty())))
    }
}

impl From<BuildpackSource> for InstallSource {
    fn from(source: BuildpackSource) -> Self {
        Self::Named(source)
    }
}

/// Installs buildpacks on the server, so that every app may choose them by name.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstallBuildpacks {
    /// A git URL with an optional #ref:folder, docker://IMAGE, or a folder, .tgz or .cnb on the server; without one, the
    /// package that the caller sends.
    #[serde(default)]
    pub source: InstallSource,
}

/// A buildpack of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PackagedBuildpack {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Digest of all its files.
    #[schemars(with = "String")]
    pub digest: Digest,
}

/// A package that was installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct InstalledPackage {
    /// Digest of all its buildpacks.
    #[schemars(with = "String")]
    pub package: Digest,
    /// Its buildpacks.
    pub buildpacks: Vec<PackagedBuildpack>,
}

impl From<Package> for InstalledPackage {
    fn from(package: Package) -> Self {
        let buildpack = |buildpack: Buildpack| PackagedBuildpack {
            id: buildpack.about.id,
            version: buildpack.about.version,
            digest: buildpack.digest,
        };
        Self { package: package.digest, buildpacks: package.all.into_iter().map(buildpack).collect() }
    }
}

impl Operation for InstallBuildpacks {
    const NAME: &'static str = "buildpacks:install";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    const TAKES_DISK: bool = true;
    type Target = Server;
    type Output = InstalledPackage;

    fn with_file(self, file: SentFile) -> Self {
        Self { source: InstallSource::Sent(file) }
    }

    fn target(&self) {}

    fn audit(&self) -> String {
        match &self.source {
            InstallSource::Named(source) => source.to_string(),
            InstallSource::Sent(_) => Builder::SENT.to_owned(),
        }
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<InstalledPackage> {
        let (library, progress) = (context.deployer.buildpacks(), context.progress);
        let package = match self.source {
            InstallSource::Named(source) => library.install(&source, progress).await?,
            InstallSource::Sent(sent) => {
                progress.step("Reading the package from standard input").await;
                // What a client that disconnects has sent is not installed, even if it is a package.
                let install = library.install_sent(sent.into_reader(), progress);
                let cancelled = || Failure::new(FailureKind::Failed, "cancelled: the client disconnected");
                context.hangup.run_until_cancelled(install).await.ok_or_else(cancelled)??
            }
        };
        Ok(package.into())
    }
}

/// Uninstalls buildpacks from the server, with all others of their packages.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct UninstallBuildpacks {
    /// An id, or id@version.
    #[arg(value_name = "BUILDPACK")]
    pub name: String,
}

/// Buildpacks that were uninstalled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct UninstalledBuildpacks {
    /// The buildpacks: `id@version`.
    pub buildpacks: Vec<String>,
    /// Apps that cannot be built any more, as they chose one of them by name.
    pub apps: Vec<AppName>,
}

impl Operation for UninstallBuildpacks {
    const NAME: &'static str = "buildpacks:uninstall";
    const RIGHT: Right = Right::Admin;
    const EFFECT: Effect = Effect::Change;
    type Target = Server;
    type Output = UninstalledBuildpacks;

    fn target(&self) {}

    fn audit(&self) -> String {
        self.name.clone()
    }

    async fn run(self, context: &Context<'_>, _: Server) -> Result<UninstalledBuildpacks> {
        let (name, library) = (self.name, context.deployer.buildpacks());
        let is_named = |buildpack: &Buildpack| buildpack.about.full_name() == name || buildpack.about.id == name;
        let mut removed = Vec::new();
        for (package, _) in library.installed_with_sources().await? {
            if package.all.iter().any(is_named) {
                removed.extend(package.all.iter().map(|buildpack| buildpack.about.full_name()));
                context.store.uninstall_package(package.digest).await?;
            }
        }
        if removed.is_empty() && library.builtin().all.iter().any(is_named) {
            let text = format!("{name} is built in and cannot be uninstalled; buildpacks:set APP chooses others");
            return Err(Failure::conflict(text));
        }
        if removed.is_empty() {
            let text = format!("there is no installed buildpack {name}; buildpacks:installed lists all");
            return Err(Failure::not_found(text));
        }
        library.remove_unused().await?;
        // All buildpacks of a package are uninstalled together.
        let are = if removed.len() == 1 { "is" } else { "are" };
        let text = "uninstalled; apps that have chosen them as a package keep them";
        context.progress.detail(format!("{} {are} {text}", removed.join(", "))).await;
        let apps = apps_without(context, &removed).await?;
        if !apps.is_empty() {
            let names: Vec<_> = apps.iter().map(AppName::as_str).collect();
            let text = format!(
                "these apps cannot be built any more, as they chose it by name: {}; buildpacks:set {} chooses another",
                names.join(", "),
                names[0]
            );
            context.progress.trouble(text).await;
        }
        Ok(UninstalledBuildpacks { buildpacks: removed, apps })
    }
}

/// The apps that chose one of the removed buildpacks (`id@version`) by name, and of which no version is left.
async fn apps_without(context: &Context<'_>, removed: &[String]) -> Result<Vec<AppName>> {
    let library = context.deployer.buildpacks();
    let id_and_version = |buildpack: &Buildpack| (buildpack.about.id.clone(), buildpack.about.version.clone());
    let mut available: Vec<_> = library.builtin().all.iter().map(id_and_version).collect();
    for (package, _) in library.installed_with_sources().await? {
        available.extend(package.all.iter().map(id_and_version));
    }
    let mut apps = Vec::new();
    for app in context.store.apps().await?.into_iter().filter(|app| !app.destroying) {
        let chosen = context.store.app_buildpacks(app.id).await?;
        if chosen.iter().any(|chosen| is_missing(&chosen.source, removed, &available)) {
            apps.push(app.name);
        }
    }
    Ok(apps)
}

/// Whether a source names a removed buildpack (`id@version`) of which no version that fits is available.
fn is_missing(source: &BuildpackSource, removed: &[String], available: &[(String, String)]) -> bool {
    match source {
        BuildpackSource::Name { id, version } => {
            let was_removed = removed.iter().any(|name| name.rsplit_once('@').is_some_and(|(name, _)| name == id));
            let fits = |other: &String| version.as_ref().is_none_or(|version| version == other);
            was_removed && !available.iter().any(|(other, version)| other == id && fits(version))
        }
        BuildpackSource::Git { .. }
        | BuildpackSource::Image(_)
        | BuildpackSource::Path(_)
        | BuildpackSource::App(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apps_whose_named_buildpack_has_no_version_left_are_found() {
        let removed = ["acme/go@1.0".to_owned()];
        let left = [("acme/go".to_owned(), "2.0".to_owned())];
        let missing = |source: &str, left: &[_]| is_missing(&source.parse().unwrap(), &removed, left);
        assert!(missing("acme/go", &[]) && missing("acme/go@1.0", &[]));
        assert!(!missing("acme/go", &left), "another version takes its place");
        assert!(missing("acme/go@1.0", &left), "the named version is gone");
        assert!(!missing("acme/other", &[]) && !missing("./acme/go", &[]) && !missing("/srv/go.cnb", &[]));
    }

    #[test]
    fn the_audit_entry_tells_where_buildpacks_come_from_without_a_password() {
        let named = r#"{"source": "https://user:s3cret@host/go.git"}"#;
        assert_eq!(serde_json::from_str::<InstallBuildpacks>(named).unwrap().audit(), "https://host/go.git");
        let sent = InstallSource::Sent(SentFile::new(Box::new(tokio::io::empty())));
        assert_eq!(InstallBuildpacks { source: sent }.audit(), "standard input");
    }
}
