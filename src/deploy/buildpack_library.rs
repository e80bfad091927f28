//! The buildpack library: the built-in buildpacks, and the packages that were fetched for apps or installed for all.

use super::{error::DeployError, gc_lock::GcLock};
use crate::{
    build::{BuildError, Builder, Builtin, Package},
    git::Repositories,
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

    /// The installed packages, whose buildpacks every app may name, with the source of each; the last installed first.
    pub async fn installed_with_sources(&self) -> Result<Vec<(Package, String)>, DeployError> {
        let mut installed = Vec::new();
        for row in self.store.packages().await?.into_iter().filter(|row| row.installed) {
            installed.push((self.package(row.digest).await?, row.source));
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
        progress: &Progress,
    ) -> Result<Package, DeployError> {
        let package = self.builder.fetch(source, &self.repositories, admin, progress).await?;
        self.store.add_package(package.digest.clone(), source.to_string(), false).await?;
        Ok(package)
    }

    /// Fetches a package and installs it, so that every app may name its buildpacks.
    pub async fn install(&self, source: &BuildpackSource, progress: &Progress) -> Result<Package, DeployError> {
        let _gc_held_off = self.gc_lock.hold_off().await;
        let package = self.builder.fetch(source, &self.repositories, true, progress).await?;
        self.store.add_package(package.digest.clone(), source.to_string(), true).await?;
        // A package that the new one replaces would still be listed, but never chosen.
        let names = |package: &Package| package.all.iter().map(|b| b.about.full_name()).collect::<Vec<_>>();
        let new = names(&package);
        for old in self.installed().await?.iter().filter(|old| old.digest != package.digest) {
            if names(old).iter().all(|name| new.contains(name)) {
                self.store.uninstall_package(old.digest.clone()).await?;
                progress.detail(format!("It replaces {}", names(old).join(", "))).await;
            }
        }
        Ok(package)
    }

    /// Removes packages that no app has chosen and nobody has installed. If a build is running, its end does this
    /// instead.
    pub async fn remove_unused(&self) -> Result<(), DeployError> {
        let Some(_collecting) = self.gc_lock.try_collect() else { return Ok(()) };
        self.collect_unused().await
    }

    /// The same, for a caller that holds the lock for garbage collection.
    pub(super) async fn collect_unused(&self) -> Result<(), DeployError> {
        let unused = self.store.forget_unused_packages().await?;
        let packages = self.builder.packages().clone();
        let removed = tokio::task::spawn_blocking(move || unused.iter().try_for_each(|digest| packages.remove(digest)));
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
