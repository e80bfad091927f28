//! Build caches: while those of an owner take more than allowed, those are removed that no build has used for longest.

use std::{io, os::unix::fs::MetadataExt as _, time::SystemTime};

use super::{
    deployer::Deployer,
    error::DeployError,
    garbage::{Collect, Garbage, GarbageKind},
};
use crate::{
    model::{Resource, bytes_of_mib},
    progress::Progress,
    store::{App, AppId, OwnerLimit},
};

/// The build cache of an app: its disks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct BuildCache {
    app: AppId,
    bytes: u64,
    /// When a build used it last.
    used: SystemTime,
}

/// Names caches to remove, in the order in which they were last used, until the others fit.
struct Eviction {
    candidates: std::vec::IntoIter<BuildCache>,
    left_bytes: u64,
    max_bytes: u64,
}

impl Eviction {
    fn new(mut caches: Vec<BuildCache>, max_bytes: u64) -> Self {
        caches.sort_by_key(|cache| cache.used);
        let left_bytes = caches.iter().map(|cache| cache.bytes).sum();
        Self { candidates: caches.into_iter(), left_bytes, max_bytes }
    }

    /// The next one to remove. Unless [`Self::removed`] is told, it goes on to count.
    fn next(&mut self) -> Option<BuildCache> {
        if self.left_bytes > self.max_bytes { self.candidates.next() } else { None }
    }

    fn removed(&mut self, cache: BuildCache) {
        self.left_bytes -= cache.bytes;
    }
}

impl Deployer {
    /// Bytes that the build caches of these apps take.
    pub(super) async fn build_caches(&self, apps: Vec<AppId>) -> Result<u64, DeployError> {
        Ok(self.read_caches(apps).await?.iter().map(|cache| cache.bytes).sum())
    }

    /// Makes room before or after a build of the app if the build caches of its owner take too much. The disk of a build that runs
    /// stays. A build does not fail for want of room: the next one, or garbage collection, makes it.
    pub(super) async fn make_room_for_cache(&self, app: &App, progress: &Progress) {
        if let Err(error) = self.evict_caches(app, progress).await {
            tracing::warn!(%error, app = %app.name, "cannot make room for build caches");
        }
    }

    async fn evict_caches(&self, app: &App, progress: &Progress) -> Result<(), DeployError> {
        let store = &self.0.store;
        let (Some(owner), Some(max)) = store.owner_and_limit(app.id, Resource::BuildCache).await? else {
            return Ok(());
        };
        let mut caches = self.read_caches(store.apps_owned_by(owner).await?).await?;
        for own in caches.iter_mut().filter(|cache| cache.app == app.id) {
            // By the build that begins, or has ended.
            own.used = SystemTime::now();
        }
        let (mut of_app, mut of_others) = (false, 0_u32);
        let mut eviction = Eviction::new(caches, bytes_of_mib(max));
        while let Some(cache) = eviction.next() {
            if self.remove_cache(cache.app).await {
                eviction.removed(cache);
                of_app |= cache.app == app.id;
                of_others += u32::from(cache.app != app.id);
            }
        }
        // Whoever builds this app need not know what else its owner has.
        let removed = match (of_app, of_others) {
            (false, 0) => return Ok(()),
            (false, others) => format!("build caches of other apps of its owner ({others})"),
            (true, 0) => "the build cache of this app".to_owned(),
            (true, others) => format!("the build cache of this app, and those of other apps of its owner ({others})"),
        };
        progress
            .trouble(format!("Removed {removed}: together they may have {max} MiB (quota: {})", Resource::BuildCache))
            .await;
        Ok(())
    }

    /// Removes the build caches that are too much for their owners, or tells which these are.
    pub(super) async fn collect_caches(&self, apps: &[App], what: Collect) -> Result<Vec<Garbage>, DeployError> {
        let mut garbage = Vec::new();
        for OwnerLimit { apps: owned, max, .. } in self.0.store.owner_limits(Resource::BuildCache).await? {
            let mut eviction = Eviction::new(self.read_caches(owned).await?, bytes_of_mib(max));
            while let Some(cache) = eviction.next() {
                if what == Collect::Remove && !self.remove_cache(cache.app).await {
                    continue;
                }
                eviction.removed(cache);
                let app = apps.iter().find(|app| app.id == cache.app).map(|app| app.name.clone());
                garbage.push(Garbage { app, kind: GarbageKind::BuildCaches, count: 1, bytes: Some(cache.bytes) });
            }
        }
        Ok(garbage)
    }

    /// Removes the build cache of an app, unless a build uses it; whether that was so.
    async fn remove_cache(&self, app: AppId) -> bool {
        let removed = self.0.builder.remove_unused_disk(&app.0.to_string()).await;
        removed.unwrap_or_else(|error| {
            tracing::warn!(%error, app = app.0, "cannot remove a build cache");
            false
        })
    }

    async fn read_caches(&self, apps: Vec<AppId>) -> Result<Vec<BuildCache>, DeployError> {
        let builder = self.0.builder.clone();
        let read = tokio::task::spawn_blocking(move || {
            let mut caches = Vec::new();
            for app in apps {
                let mut cache = BuildCache { app, bytes: 0, used: SystemTime::UNIX_EPOCH };
                for path in builder.disks(&app.0.to_string()) {
                    let failed = |source| DeployError::File { act: "read", path: path.clone(), source };
                    let file = match std::fs::metadata(&path) {
                        Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                        file => file.map_err(failed)?,
                    };
                    cache.bytes += file.blocks() * 512;
                    cache.used = cache.used.max(file.modified().map_err(failed)?);
                }
                caches.extend(Some(cache).filter(|cache| cache.bytes > 0));
            }
            Ok(caches)
        });
        read.await.map_err(|_| DeployError::Cancelled)?
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn those_that_no_build_has_used_for_longest_are_removed_until_the_others_fit() {
        let cache = |app, bytes, seconds| BuildCache {
            app: AppId(app),
            bytes,
            used: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
        };
        let caches = vec![cache(1, 40, 300), cache(2, 30, 100), cache(3, 20, 200)];
        let removed = |max, in_use: i64| {
            let (mut eviction, mut removed) = (Eviction::new(caches.clone(), max), Vec::new());
            while let Some(cache) = eviction.next() {
                if cache.app.0 != in_use {
                    eviction.removed(cache);
                    removed.push(cache.app.0);
                }
            }
            removed
        };
        assert_eq!(removed(90, 0), [0; 0]);
        assert_eq!(removed(89, 0), [2]);
        assert_eq!(removed(60, 0), [2]);
        assert_eq!(removed(59, 0), [2, 3]);
        assert_eq!(removed(0, 0), [2, 3, 1]);
        assert_eq!(removed(80, 2), [3], "the next one goes instead of one that is in use");
        assert_eq!(removed(0, 1), [2, 3]);
    }
}
