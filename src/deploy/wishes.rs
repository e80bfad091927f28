//! What is asked for of a build: what the app has chosen with `buildpacks:*`, else what its `project.toml` says.

use std::collections::BTreeMap;

use super::{DeployError, Deployer, checkout::Checkout};
use crate::{
    build::{BuildError, Builtin, Package, Wanted, Wishes},
    lifecycle::{descriptor::Descriptor, protocol},
    model::{BuildpackSource, Digest, ProjectBuildpack, ProjectToml, Secret},
    progress::Progress,
    store::{App, ChosenBuildpack},
};

/// Where a buildpack goes among those of an app; places count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// After all others.
    Last,
    /// At this place; those from there on move up.
    Before(usize),
    /// There instead of what is there.
    InPlaceOf(usize),
    /// There is no other.
    Only,
}

impl Deployer {
    /// Everything that the app and its project wish for; fetches what the project names.
    pub(super) async fn wishes(
        &self,
        app: &App,
        checkout: &Checkout<'_>,
        project: &ProjectToml,
        progress: &Progress,
    ) -> Result<Wishes, DeployError> {
        for warning in project.warnings() {
            progress.trouble(warning).await;
        }
        let chosen = self.0.store.app_buildpacks(app.id).await?;
        let mut wishes = Wishes {
            installed: self.installed().await?,
            env: self.build_env(app, project).await?,
            ..Wishes::default()
        };
        for entry in &project.pre {
            wishes.pre.push(self.of_project(checkout, entry, progress).await?);
        }
        for entry in &project.post {
            wishes.post.push(self.of_project(checkout, entry, progress).await?);
        }
        if chosen.is_empty() {
            for entry in &project.group {
                wishes.group.push(self.of_project(checkout, entry, progress).await?);
            }
        }
        for ChosenBuildpack { source, package } in chosen {
            wishes.group.push(match package {
                Some(digest) => Wanted::Package(self.package(digest).await?),
                None => self.at(checkout, &source, progress).await?,
            });
        }
        Ok(wishes)
    }

    /// Variables of the build: those of the project, and the config vars that are meant for it.
    async fn build_env(&self, app: &App, project: &ProjectToml) -> Result<BTreeMap<String, Secret>, DeployError> {
        let (vars, seen) = (self.0.store.config_vars(app.id).await?, self.0.store.build_vars(app.id).await?);
        let own = project.env.iter().map(|(name, value)| (name.clone(), Secret::new(value.clone())));
        let vars = vars.into_iter().filter(|(name, _)| seen.contains(name));
        Ok(own.chain(vars.map(|(name, value)| (name.into(), value))).collect())
    }

    async fn of_project(
        &self,
        checkout: &Checkout<'_>,
        entry: &ProjectBuildpack,
        progress: &Progress,
    ) -> Result<Wanted, DeployError> {
        match entry {
            ProjectBuildpack::At(source) => self.at(checkout, source, progress).await,
            ProjectBuildpack::Inline { id, api, shell, script } => Ok(Wanted::Inline {
                id: id.clone(),
                place: protocol::Place::Inline { api: api.clone(), shell: shell.clone(), script: script.clone() },
            }),
        }
    }

    async fn at(
        &self,
        checkout: &Checkout<'_>,
        source: &BuildpackSource,
        progress: &Progress,
    ) -> Result<Wanted, DeployError> {
        match source {
            BuildpackSource::Name { id, version } => Ok(Wanted::Named { id: id.clone(), version: version.clone() }),
            BuildpackSource::App(folder) => {
                let file = format!("{folder}/buildpack.toml");
                let wrong = |reason: String| BuildError::CannotFetch { from: source.to_string(), reason };
                let text = checkout.read(&file).await?.ok_or_else(|| wrong(format!("the commit has no {file}")))?;
                let about = Descriptor::parse(&text).map_err(|e| wrong(format!("{file}, {e}")))?;
                Ok(Wanted::App { folder: folder.clone(), about })
            }
            // Whoever pushes may name what anybody can read, and nothing of this machine.
            other => {
                let package = self.0.builder.fetch(other, &self.0.repositories, false, progress).await?;
                self.0.store.add_package(package.digest.clone(), other.to_string(), false).await?;
                Ok(Wanted::Package(package))
            }
        }
    }

    /// The buildpacks that come with paas.
    pub fn builtin(&self) -> &Builtin {
        self.0.builder.builtin()
    }

    /// The packages whose buildpacks every app may name, those installed last first, and where each came from.
    pub async fn installed_with_sources(&self) -> Result<Vec<(Package, String)>, DeployError> {
        let mut installed = Vec::new();
        for row in self.0.store.packages().await?.into_iter().filter(|row| row.installed) {
            installed.push((self.package(row.digest).await?, row.source));
        }
        Ok(installed)
    }

    async fn installed(&self) -> Result<Vec<Package>, DeployError> {
        Ok(self.installed_with_sources().await?.into_iter().map(|(package, _)| package).collect())
    }

    async fn package(&self, digest: Digest) -> Result<Package, DeployError> {
        let packages = self.0.builder.packages().clone();
        let read = tokio::task::spawn_blocking(move || packages.read(&digest)).await;
        Ok(read.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildError::from)?)
    }

    /// Fetches a package and installs it, so that every app may name its buildpacks.
    pub async fn install(&self, source: &BuildpackSource, progress: &Progress) -> Result<Package, DeployError> {
        let _chosen = self.0.choosing.read().await;
        let package = self.0.builder.fetch(source, &self.0.repositories, true, progress).await?;
        self.0.store.add_package(package.digest.clone(), source.to_string(), true).await?;
        // What it replaces would be listed beside it, and never chosen.
        let names = |package: &Package| package.all.iter().map(|b| b.about.full_name()).collect::<Vec<_>>();
        let new = names(&package);
        for old in self.installed().await?.iter().filter(|old| old.digest != package.digest) {
            if names(old).iter().all(|name| new.contains(name)) {
                self.0.store.uninstall_package(old.digest.clone()).await?;
                progress.detail(format!("It replaces {}", names(old).join(", "))).await;
            }
        }
        Ok(package)
    }

    /// Adds a buildpack to those of an app, or puts it in the place of one (counted from 1). What is fetched for it is
    /// what every build uses from now on.
    pub async fn choose_buildpack(
        &self,
        app: &App,
        source: BuildpackSource,
        place: Place,
        operator: bool,
        progress: &Progress,
    ) -> Result<(), DeployError> {
        let _chosen = self.0.choosing.read().await;
        let package = match &source {
            BuildpackSource::Name { id, version } => {
                let wanted = Wanted::Named { id: id.clone(), version: version.clone() };
                let wishes = Wishes { group: vec![wanted], installed: self.installed().await?, ..Wishes::default() };
                self.0.builder.recipe(wishes, self.stack(self.stack_of(app)).await?)?;
                None
            }
            BuildpackSource::App(_) => None,
            other => {
                let package = self.0.builder.fetch(other, &self.0.repositories, operator, progress).await?;
                self.0.store.add_package(package.digest.clone(), other.to_string(), false).await?;
                package.root().map_err(BuildError::from)?;
                Some(package.digest)
            }
        };
        let entry = ChosenBuildpack { source, package };
        let change = move |chosen| placed(chosen, entry, place);
        Ok(self.0.store.change_app_buildpacks(app.id, change).await?)
    }

    /// Removes packages that nobody wants any more, unless a build is under way: its end does that, too.
    pub async fn remove_unused_packages(&self) -> Result<(), DeployError> {
        let Ok(_alone) = self.0.choosing.try_write() else { return Ok(()) };
        self.forget_packages().await
    }

    /// Removes what a server that died had fetched, and did not come to note.
    pub(super) async fn remove_stray_packages(&self) -> Result<(), DeployError> {
        let known: Vec<_> = self.0.store.packages().await?.into_iter().map(|row| row.digest).collect();
        let packages = self.0.builder.packages().clone();
        let removed = tokio::task::spawn_blocking(move || packages.retain(&known)).await;
        Ok(removed.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildError::from)?)
    }

    /// The same, while nothing is chosen.
    pub(super) async fn forget_packages(&self) -> Result<(), DeployError> {
        let unused = self.0.store.forget_unused_packages().await?;
        let packages = self.0.builder.packages().clone();
        let removed = tokio::task::spawn_blocking(move || unused.iter().try_for_each(|digest| packages.remove(digest)));
        Ok(removed.await.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildError::from)?)
    }
}

/// An app's buildpacks with one more, or with it in the place of another; each is there once.
fn placed(
    mut chosen: Vec<ChosenBuildpack>,
    entry: ChosenBuildpack,
    place: Place,
) -> Result<Vec<ChosenBuildpack>, String> {
    let count = chosen.len();
    let twice = chosen.iter().any(|other| other.source == entry.source);
    if twice && matches!(place, Place::Last | Place::Before(_)) {
        return Err(format!("{} is chosen already; buildpacks:remove takes it out", entry.source));
    }
    match place {
        Place::Last => chosen.push(entry),
        Place::Before(index) if (1..=count + 1).contains(&index) => chosen.insert(index - 1, entry),
        Place::InPlaceOf(index) if (1..=count).contains(&index) => {
            let source = entry.source.clone();
            chosen[index - 1] = entry;
            // It leaves the place that it had.
            let mut at = 1..;
            chosen.retain(|other| at.next() == Some(index) || other.source != source);
        }
        Place::Only => chosen = vec![entry],
        Place::Before(index) | Place::InPlaceOf(index) => {
            let buildpacks = if count == 1 { "buildpack" } else { "buildpacks" };
            return Err(format!("there is no place {index}: the app has {count} {buildpacks}"));
        }
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buildpack_has_one_place() {
        let entry = |name: &str| ChosenBuildpack { source: name.parse().unwrap(), package: None };
        let put = |chosen: &str, name: &str, place| {
            let placed = placed(chosen.split_whitespace().map(entry).collect(), entry(name), place)?;
            Ok::<_, String>(placed.iter().map(|e| e.source.to_string()).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(put("a b", "c", Place::Last).unwrap(), "a b c");
        assert_eq!(put("a b", "c", Place::Before(1)).unwrap(), "c a b");
        assert_eq!(put("a b", "c", Place::InPlaceOf(2)).unwrap(), "a c");
        assert_eq!(put("a b c", "c", Place::InPlaceOf(1)).unwrap(), "c b");
        assert_eq!(put("a b c", "a", Place::InPlaceOf(3)).unwrap(), "b a");
        assert_eq!(put("a b", "b", Place::InPlaceOf(2)).unwrap(), "a b");
        assert_eq!(put("a b", "c", Place::Only).unwrap(), "c");
        assert!(put("a b", "a", Place::Last).unwrap_err().contains("buildpacks:remove"));
        for place in [Place::Before(0), Place::Before(3), Place::InPlaceOf(0), Place::InPlaceOf(2)] {
            assert!(put("a", "c", place).unwrap_err().contains("the app has 1 buildpack"));
        }
    }
}
