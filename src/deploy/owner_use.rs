//! What the apps of an owner take of the disk that the owner's quota limits.

use std::collections::{HashMap, HashSet};

use super::{deployer::Deployer, error::DeployError, gc::KEPT_IMAGES};
use crate::{
    model::{Digest, Resource, bytes_of_mib, mib_of_bytes},
    store::{AppId, UserId},
};

/// Blobs of the kept images of an owner's apps, each with its size in bytes, but for those that the server keeps anyway.
struct OwnerBlobs {
    sizes: HashMap<Digest, u64>,
    of_server: HashSet<Digest>,
}

impl OwnerBlobs {
    fn add(&mut self, parts: Vec<(Digest, u64)>) {
        self.sizes.extend(parts.into_iter().filter(|(digest, _)| !self.of_server.contains(digest)));
    }

    fn mib(&self) -> u64 {
        mib_of_bytes(self.sizes.values().sum())
    }
}

/// What a user has of the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerDiskUse {
    /// Size of the largest repository, in MiB.
    pub repository_mib: u64,
    /// Repositories of all apps, in MiB.
    pub repositories_mib: u64,
    /// Blobs of all images, in MiB.
    pub images_mib: u64,
    /// What instances and tasks had written when that was last counted, in MiB.
    pub written_mib: u64,
    /// Build caches of all apps, in MiB.
    pub build_cache_mib: u64,
}

impl Deployer {
    /// What the apps that count against a user take of the disk.
    pub async fn owner_disk_use(&self, user: UserId) -> Result<OwnerDiskUse, DeployError> {
        let this = &self.0;
        let owned = this.store.apps_owned_by(user).await?;
        let repositories = self.repositories(owned.clone()).await?;
        let largest = repositories.iter().copied().max().unwrap_or(0);
        let [repository_mib, repositories_mib] = [largest, repositories.iter().sum()].map(mib_of_bytes);
        let written: u64 = owned.iter().map(|app| this.disk_watch.written(*app)).sum();
        let caches = self.build_caches(owned.clone()).await?;
        let images_mib = self.blobs_of(owned).await?.mib();
        let [written_mib, build_cache_mib] = [written, caches].map(mib_of_bytes);
        Ok(OwnerDiskUse { repository_mib, repositories_mib, images_mib, written_mib, build_cache_mib })
    }

    /// Sizes of the repositories of these apps, in bytes.
    async fn repositories(&self, apps: Vec<AppId>) -> Result<Vec<u64>, DeployError> {
        let mut sizes = Vec::new();
        for name in self.0.store.app_names(apps).await? {
            sizes.push(self.0.repositories.get(&name).size().await?);
        }
        Ok(sizes)
    }

    /// How large the repository of an app may be, in bytes: as its own limit says, and within what the others of its owner leave.
    pub async fn max_repository_bytes(&self, app: AppId) -> Result<u64, DeployError> {
        let store = &self.0.store;
        let bytes = |mib: Option<u64>| mib.map_or(u64::MAX, bytes_of_mib);
        let of_app = bytes(store.owner_and_limit(app, Resource::Repository).await?.1);
        let (Some(owner), Some(all)) = store.owner_and_limit(app, Resource::Repositories).await? else {
            return Ok(of_app);
        };
        let mut others = store.apps_owned_by(owner).await?;
        others.retain(|other| *other != app);
        let of_others: u64 = self.repositories(others).await?.iter().sum();
        Ok(of_app.min(bytes(Some(all)).saturating_sub(of_others)))
    }

    /// Refuses a push to the app if with it the repositories of its owner, to which others may be pushed at the same time, take more
    /// than allowed.
    pub async fn check_repositories(&self, app: AppId) -> Result<(), DeployError> {
        let store = &self.0.store;
        let (Some(owner), Some(_)) = store.owner_and_limit(app, Resource::Repositories).await? else { return Ok(()) };
        let all = self.repositories(store.apps_owned_by(owner).await?).await?;
        Ok(store.check_amount(app, Resource::Repositories, 0, mib_of_bytes(all.iter().sum())).await?)
    }

    /// Refuses a new image of the app with which its owner has more than allowed.
    pub(super) async fn check_images(&self, app: AppId, image: &Digest) -> Result<(), DeployError> {
        let store = &self.0.store;
        let (Some(owner), Some(_)) = store.owner_and_limit(app, Resource::Images).await? else { return Ok(()) };
        let mut blobs = self.blobs_of(store.apps_owned_by(owner).await?).await?;
        let before = blobs.mib();
        blobs.add(self.0.images.parts(image)?);
        Ok(store.check_amount(app, Resource::Images, before, blobs.mib()).await?)
    }

    /// Refuses that the app comes to count against this user, if with its images and its repository this one has more than
    /// allowed.
    pub async fn check_next_owner(&self, app: AppId, next: UserId) -> Result<(), DeployError> {
        let store = &self.0.store;
        let before = store.apps_owned_by(next).await?;
        if before.contains(&app) {
            return Ok(());
        }
        let after = [before.clone(), vec![app]].concat();
        if store.limit_of(next, Resource::Repositories).await?.is_some() {
            let of_next: u64 = self.repositories(before.clone()).await?.iter().sum();
            let of_app: u64 = self.repositories(vec![app]).await?.iter().sum();
            let (before, after) = (mib_of_bytes(of_next), mib_of_bytes(of_next + of_app));
            store.check_amount_of(next, Resource::Repositories, before, after).await?;
        }
        if store.limit_of(next, Resource::Images).await?.is_some() {
            let (before, after) = (self.blobs_of(before).await?.mib(), self.blobs_of(after).await?.mib());
            store.check_amount_of(next, Resource::Images, before, after).await?;
        }
        Ok(())
    }

    async fn blobs_of(&self, apps: Vec<AppId>) -> Result<OwnerBlobs, DeployError> {
        let this = &self.0;
        let in_use = this.store.releases_in_use(KEPT_IMAGES).await?;
        let owned: Vec<_> =
            in_use.into_iter().filter(|(app, ..)| apps.contains(app)).map(|(.., image)| image).collect();
        let of_server = self.images_of_server(&owned).await?;
        let images = this.images.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut blobs = OwnerBlobs { sizes: HashMap::new(), of_server: HashSet::new() };
            for image in of_server {
                blobs.of_server.extend(images.parts(&image)?.into_iter().map(|(digest, _)| digest));
            }
            for image in owned {
                blobs.add(images.parts(&image)?);
            }
            Ok(blobs)
        });
        read.await.map_err(|_| DeployError::Cancelled)?
    }
}
