//! Garbage collection: what no release, app or build needs any more is removed from the engine, the blob store and the data
//! folder. It goes by reference and by age, so that it waits for no push to end: what is in the making is young.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::sync::OwnedRwLockReadGuard;

use super::{
    deployer::Deployer,
    error::DeployError,
    garbage::{Collect, Garbage, GarbageKind, MIN_AGE},
};
use crate::{
    data_dir::{self, disk_usage},
    model::{AppName, Digest},
    periodic::{Activated, Periodic},
    store::{App, AppId},
};

/// Number of released images of an app that are kept for a rollback.
pub(super) const KEPT_IMAGES: u32 = 10;

/// Folders of the data folder in which each app has a folder, or files, by its id.
const BY_APP: [(&str, GarbageKind); 4] = [
    ("logs", GarbageKind::Logs),
    ("builds", GarbageKind::BuildLogs),
    ("tasks", GarbageKind::TaskOutput),
    ("disks", GarbageKind::BuildDisks),
];

/// Keeps the packages of a build, which no row may name. Collects garbage in the background when it is dropped: at the end of an
/// operation that makes some.
pub(super) struct CollectAtEnd {
    packages: Option<OwnedRwLockReadGuard<()>>,
    deployer: Deployer,
}

impl CollectAtEnd {
    pub(super) async fn begin(deployer: &Deployer) -> Self {
        Self { packages: Some(deployer.0.gc_lock.hold_off().await), deployer: deployer.clone() }
    }
}

impl Drop for CollectAtEnd {
    fn drop(&mut self) {
        drop(self.packages.take());
        let deployer = self.deployer.clone();
        let shutdown = deployer.0.shutdown.clone();
        deployer.0.tracker.clone().spawn(async move {
            // One that runs may have missed what has just become garbage; the hourly one finds that.
            let Ok(collecting) = deployer.0.collecting.try_lock() else { return };
            let collected = shutdown.run_until_cancelled(collect(&deployer, Collect::Remove)).await;
            drop(collecting);
            if let Some(Err(error)) = collected {
                tracing::warn!(%error, "cannot remove what is not needed any more");
            }
        });
    }
}

/// Collects garbage from time to time, because some of it is removed only when it is old.
pub struct GarbageCollection(pub Deployer);

impl Periodic for GarbageCollection {
    fn name(&self) -> &'static str {
        "garbage-collection"
    }

    fn period(&self) -> Duration {
        Duration::from_hours(1)
    }

    fn at_start(&self) -> bool {
        true
    }

    async fn activate(&self) -> Result<Activated, String> {
        let removed = self.0.collect_garbage(Collect::Remove).await.map_err(|error| error.to_string())?;
        let count: u64 = removed.iter().map(|garbage| garbage.count).sum();
        let mib = removed.iter().filter_map(|garbage| garbage.bytes).sum::<u64>() >> 20;
        Ok(if count == 0 { Activated::default() } else { Activated::did(format!("removed {count}, {mib} MiB")) })
    }
}

impl Deployer {
    /// Removes what nothing needs any more, or tells what that is.
    pub async fn collect_garbage(&self, what: Collect) -> Result<Vec<Garbage>, DeployError> {
        let _one_at_a_time = self.0.collecting.lock().await;
        collect(self, what).await
    }
}

async fn collect(deployer: &Deployer, what: Collect) -> Result<Vec<Garbage>, DeployError> {
    let this = &deployer.0;
    let apps = this.store.apps().await?;
    let mut garbage = images(deployer, &apps, what).await?;
    let pruned = this.store.prune_releases(KEPT_IMAGES, what == Collect::DryRun).await?;
    garbage.extend(pruned.into_iter().map(|(app, count)| Garbage {
        app: apps.iter().find(|known| known.id == app).map(|app| app.name.clone()),
        kind: GarbageKind::Releases,
        count,
        bytes: None,
    }));
    garbage.push(this.buildpacks.collect_unused(what).await?);
    garbage.push(blobs(deployer, what).await?);
    garbage.extend(deployer.collect_caches(&apps, what).await?);
    garbage.extend(of_no_app(deployer, &apps, what).await?);
    garbage.retain(|garbage| garbage.count > 0);
    garbage.sort_by_key(|garbage| (garbage.app.clone(), garbage.kind));
    Ok(garbage)
}

/// Tags of releases on the engine that no rollback needs.
async fn images(deployer: &Deployer, apps: &[App], what: Collect) -> Result<Vec<Garbage>, DeployError> {
    let this = &deployer.0;
    let in_use = this.store.releases_in_use(KEPT_IMAGES).await?;
    let names: HashMap<AppId, &AppName> = apps.iter().map(|app| (app.id, &app.name)).collect();
    let tags =
        in_use.iter().filter_map(|(app, number, _)| Some(this.engine_images.release_tag(names.get(app)?, *number)));
    let kept: HashSet<_> = tags.collect();
    let mut counts: BTreeMap<AppName, u64> = BTreeMap::new();
    for tag in this.engine_images.tagged_images().await?.into_iter().flat_map(|image| image.tags) {
        let of_app = |app: &&App| tag.starts_with(this.engine_images.release_tag(&app.name, 0).trim_end_matches('0'));
        let Some(app) = apps.iter().find(of_app).filter(|_| !kept.contains(&tag)) else { continue };
        if what == Collect::Remove
            && let Err(error) = this.engine_images.remove_image_tag(&tag).await
        {
            // An instance of it is still draining: the next garbage collection removes it.
            tracing::debug!(%tag, %error, "an image is still in use");
            continue;
        }
        *counts.entry(app.name.clone()).or_default() += 1;
    }
    let garbage = |(app, count)| Garbage { app: Some(app), kind: GarbageKind::Images, count, bytes: None };
    Ok(counts.into_iter().map(garbage).collect())
}

impl Deployer {
    /// Images that belong to no app and must be kept: of stacks, those below the images in `kept`, and offered ones.
    pub(super) async fn images_of_server(&self, kept: &[Digest]) -> Result<Vec<Digest>, DeployError> {
        Ok([self.0.stacks.images_to_keep(kept).await?, self.0.offers.images_to_keep().await?].concat())
    }
}

async fn blobs(deployer: &Deployer, what: Collect) -> Result<Garbage, DeployError> {
    let this = &deployer.0;
    let keep: Vec<_> = this.store.releases_in_use(KEPT_IMAGES).await?.into_iter().map(|(.., image)| image).collect();
    let keep = [deployer.images_of_server(&keep).await?, keep].concat();
    let images = this.images.clone();
    let swept = tokio::task::spawn_blocking(move || {
        let (mut count, mut bytes) = (0, 0);
        for blob in images.unused(&keep, MIN_AGE)? {
            if what == Collect::DryRun || images.blobs().remove_unused(&blob, MIN_AGE)? {
                count += 1;
                bytes += blob.size;
            }
        }
        Ok::<_, DeployError>(Garbage { app: None, kind: GarbageKind::Blobs, count, bytes: Some(bytes) })
    });
    swept.await.map_err(|_| DeployError::Cancelled)?
}

/// What a server that died, or a data folder that was copied, left of apps that do not exist.
async fn of_no_app(deployer: &Deployer, apps: &[App], what: Collect) -> Result<Vec<Garbage>, DeployError> {
    let data_dir = deployer.0.config.data_dir.clone();
    let ids: HashSet<i64> = apps.iter().map(|app| app.id.0).collect();
    let removed = tokio::task::spawn_blocking(move || {
        BY_APP.iter().map(|(name, kind)| of_folder(&data_dir.join(name), *kind, &ids, what)).collect()
    });
    removed.await.map_err(|_| DeployError::Cancelled)?
}

fn of_folder(folder: &Path, kind: GarbageKind, ids: &HashSet<i64>, what: Collect) -> Result<Garbage, DeployError> {
    let failed = |act| {
        let path = folder.to_owned();
        move |source| DeployError::File { act, path, source }
    };
    let (mut count, mut bytes) = (0, 0);
    for path in entries_of_no_app(folder, ids).map_err(failed("read"))? {
        bytes += disk_usage(&path).map_err(failed("read"))?;
        count += 1;
        if what == Collect::Remove {
            data_dir::remove(&path).map_err(failed("remove"))?;
        }
    }
    Ok(Garbage { app: None, kind, count, bytes: Some(bytes) })
}

/// Old entries of a folder whose names begin with an id that no app has.
fn entries_of_no_app(folder: &Path, ids: &HashSet<i64>) -> std::io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let id = name.split(['.', '-']).next().and_then(|id| id.parse::<i64>().ok());
        let age = entry.metadata()?.modified()?.elapsed().unwrap_or_default();
        if id.is_some_and(|id| !ids.contains(&id)) && age > MIN_AGE {
            found.push(entry.path());
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{fs, time::SystemTime};

    use super::*;

    #[test]
    fn only_what_belongs_to_no_app_and_is_old_is_found() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["1.ext4", "2.ext4", "2-dockerfile.ext4", "3.ext4", "offered-images.ext4", "fetch-12.ext4"] {
            let path = dir.path().join(name);
            fs::write(&path, name).unwrap();
            if name != "3.ext4" {
                let old = SystemTime::now() - MIN_AGE - Duration::from_mins(1);
                fs::File::open(&path).unwrap().set_modified(old).unwrap();
            }
        }
        let ids = HashSet::from([1]);
        let dry = of_folder(dir.path(), GarbageKind::BuildDisks, &ids, Collect::DryRun).unwrap();
        assert_eq!(dry.count, 2);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 6);
        assert_eq!(of_folder(dir.path(), GarbageKind::BuildDisks, &ids, Collect::Remove).unwrap(), dry);
        let mut left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1.ext4", "3.ext4", "fetch-12.ext4", "offered-images.ext4"]);
        assert_eq!(of_folder(&dir.path().join("none"), GarbageKind::Logs, &ids, Collect::Remove).unwrap().count, 0);
    }
}
