//! The buildpack library: the built-in buildpacks, and the packages that were fetched for apps or installed for all.

use std::time::Duration;

use tokio::io::AsyncRead;

use super::{
    error::DeployError,
    garbage::{Collect, Garbage, GarbageKind, MIN_AGE},
    gc_lock::GcLock,
};
use crate::{
    build::{BuildBudget, BuildError, Builder, BuildpacksError, Builtin, Package},
    git::{Repositories, Source},
    model::{BuildpackSource, Digest},
    progress::Progress,
    store::Store,
};

/// Fetches, installs and removes packages of buildpacks.
pub struct BuildpackLibrary {
    store: Store,
    repositories: Repositories,
    builder: Builder,
    gc_lock: GcLock,
}

impl BuildpackLibrary {
    pub(super) fn new(store: Store, repositories: Repositories, builder: Builder, gc_lock: GcLock) -> Self {
        Self { store, repositories, builder, gc_lock }
    }

    /// The buildpacks that come with paas.
    pub fn builtin(&self) -> &Builtin {
        self.builder.builtin()
    }

    /// The installed packages, whose buildpacks every app may name, with the source of each as it is shown; the last installed first.
    pub async fn installed_with_sources(&self) -> Result<Vec<(Package, String)>, DeployError> {
        let mut installed = Vec::new();
        for row in self.store.packages().await?.into_iter().filter(|row| row.installed) {
            installed.push((self.package(row.digest).await?, row.source.to_string()));
        }
        Ok(installed)
    }

    pub(super) async fn installed(&self) -> Result<Vec<Package>, DeployError> {
        Ok(self.installed_with_sources().await?.into_iter().map(|(package, _)| package).collect())
    }

    /// A package that was fetched before.
    pub(super) async fn package(&self, digest: Digest) -> Result<Package, DeployError> {
        let packages = self.builder.packages().clone();
        let read = tokio::task::spawn_blocking(move || packages.read(&digest)).await;
        Ok(read.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildError::from)?)
    }

    /// Fetches a package without installing it. Only an `admin` may name files of this machine.
    pub(super) async fn fetch(
        &self,
        source: &BuildpackSource,
        admin: bool,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<Package, DeployError> {
        let package = self.builder.fetch(source, &self.repositories, admin, budget, progress).await?;
        self.store.add_package(package.digest.clone(), source.to_string(), false).await?;
        Ok(package)
    }

    /// Stores the buildpack in a folder of an app's source.
    pub(super) async fn fetch_from_app(
        &self,
        source: Source,
        folder: &str,
        shown: String,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<Package, DeployError> {
        let package =
            self.builder.fetch_from_app(source.reader, folder, &shown, &self.repositories, budget, progress).await?;
        self.store.add_package(package.digest.clone(), shown, false).await?;
        Ok(package)
    }

    /// Fetches a package and installs it, so that every app may name its buildpacks.
    pub async fn install(&self, source: &BuildpackSource, progress: &Progress) -> Result<Package, DeployError> {
        let _gc_held_off = self.gc_lock.hold_off().await;
        let package = self.builder.fetch(source, &self.repositories, true, BuildBudget::default(), progress).await?;
        self.record_installed(&package, source.to_string(), progress).await?;
        Ok(package)
    }

    /// Installs a package, a `.cnb` or `.tgz` file, that is read to the end of `input`.
    pub async fn install_sent(
        &self,
        input: impl AsyncRead + Send + Unpin,
        progress: &Progress,
    ) -> Result<Package, DeployError> {
        // A slow client does not hold off garbage collection.
        let spooled = self.builder.receive_package(input).await?;
        let _gc_held_off = self.gc_lock.hold_off().await;
        let package = self.builder.store_package(spooled).await?;
        self.record_installed(&package, Builder::SENT.to_owned(), progress).await?;
        Ok(package)
    }

    /// Records that a package is installed. A package that it replaces would still be listed, but never chosen.
    async fn record_installed(&self, new: &Package, source: String, progress: &Progress) -> Result<(), DeployError> {
        self.store.add_package(new.digest.clone(), source, true).await?;
        let names = |package: &Package| package.all.iter().map(|b| b.about.full_name()).collect::<Vec<_>>();
        let new_names = names(new);
        for old in self.installed().await?.iter().filter(|old| old.digest != new.digest) {
            if names(old).iter().all(|name| new_names.contains(name)) {
                self.store.uninstall_package(old.digest.clone()).await?;
                progress.detail(format!("It replaces {}", names(old).join(", "))).await;
            }
        }
        // What is installed does not replace a built-in one of the same version.
        for buildpack in &self.builder.builtin().all {
            let of_id = new.all.iter().filter(|b| b.about.id == buildpack.about.id && b.digest != buildpack.digest);
            for other in of_id {
                let (name, built_in) = (other.about.full_name(), buildpack.about.full_name());
                progress.trouble(format!("{name}: {built_in} is built in, and is used unless the other is newer; give yours an id of its own")).await;
            }
        }
        Ok(())
    }

    /// Removes packages that no app has chosen and nobody has installed. While builds run, only those that were fetched long ago:
    /// the end of the builds removes the others.
    pub async fn remove_unused(&self) -> Result<(), DeployError> {
        self.collect_unused(Collect::Remove).await.map(drop)
    }

    /// The same, or what it would remove. What was fetched for a build that runs is young.
    pub(super) async fn collect_unused(&self, what: Collect) -> Result<Garbage, DeployError> {
        let collecting = self.gc_lock.try_collect();
        let min_age = if collecting.is_some() { Duration::ZERO } else { MIN_AGE };
        let unused = self.store.unused_packages(min_age, what == Collect::Remove).await?;
        let packages = self.builder.packages().clone();
        let removed = tokio::task::spawn_blocking(move || {
            let mut bytes = 0;
            for digest in &unused {
                bytes += packages.size(digest)?;
                if what == Collect::Remove {
                    packages.remove(digest)?;
                }
            }
            let count = unused.len() as u64;
            Ok::<_, BuildpacksError>(Garbage { app: None, kind: GarbageKind::Buildpacks, count, bytes: Some(bytes) })
        });
        Ok(removed.await.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildError::from)?)
    }

    /// Removes packages that an earlier server fetched, but died before it recorded them.
    pub(super) async fn remove_unrecorded(&self) -> Result<(), DeployError> {
        let known: Vec<_> = self.store.packages().await?.into_iter().map(|row| row.digest).collect();
        let packages = self.builder.packages().clone();
        let removed = tokio::task::spawn_blocking(move || packages.retain(&known)).await;
        Ok(removed.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildError::from)?)
    }
}
