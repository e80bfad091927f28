//! Volumes: their disks on this machine, as the store declares them.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OwnedMutexGuard},
    time::Instant,
};

use crate::{
    config::Config,
    data_dir::DiskFloor,
    engine::{
        self, Containers, EngineError,
        disk::{Disk, DiskError, DiskUsage, Owner, Reservation, VolumeDisk},
    },
    images::{ImageError, ImageStore},
    model::{Digest, VolumeName, VolumeSize},
    store::{AppId, Mount, MountSource, Store, StoreError, Volume, VolumeId},
};

/// User and group of processes in images that do not run as their own user.
pub(super) const APP_OWNER: Owner = (1000, 1000);

/// Longest wait for containers that are drained and stopped.
const MAX_END: Duration = Duration::from_mins(1);
/// Interval at which the engine is asked for them.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Why a volume cannot be used or changed.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// The database failed, or does not allow it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Its disk failed.
    #[error("volume {name}: {source}")]
    Disk {
        /// Name of the volume.
        name: VolumeName,
        /// Cause.
        source: DiskError,
    },
    /// The folder of the disks failed.
    #[error(transparent)]
    Folder(DiskError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The user of an image is not known.
    #[error("cannot read who the user of the image is: {0}")]
    Image(#[from] ImageError),
    /// Containers use the volume.
    #[error(
        "volume {name} is in use by {by}; unmount it (storage:unmount) or stop the app (ps:stop), and wait for its tasks to end"
    )]
    InUse {
        /// Name of the volume.
        name: VolumeName,
        /// Names of the containers.
        by: String,
    },
    /// Containers use the volume, and the kernel does not let this server extend it meanwhile.
    #[error(
        "volume {name} is in use by {by}, and the kernel lets this server enlarge it only while it is not, because the server \
         lacks CAP_SYS_RESOURCE; stop the app (ps:stop), wait for its tasks to end, and start it again afterwards (ps:start)"
    )]
    CannotGrowInUse {
        /// Name of the volume.
        name: VolumeName,
        /// Names of the containers.
        by: String,
    },
    /// The server is shutting down.
    #[error("the server is shutting down; try again when it is back")]
    ShuttingDown,
}

/// The volumes of all apps on this machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Volumes(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: Arc<Config>,
    store: Store,
    containers: Containers,
    images: ImageStore,
    folder: PathBuf,
    floor: DiskFloor,
    /// One at a time works on a disk; the others go on.
    locks: StdMutex<HashMap<VolumeId, Arc<Mutex<()>>>>,
}

/// A volume whose disk is mounted.
#[derive(Debug, Clone)]
pub struct MountedVolume {
    /// Its folder on this machine.
    pub files: PathBuf,
    /// Who has the folder.
    pub owner: Owner,
    /// Whether it has no files.
    pub is_empty: bool,
}

impl Volumes {
    /// The volumes that this store declares, with disks in the data folder.
    pub fn new(config: Arc<Config>, store: Store, containers: Containers, images: ImageStore) -> Self {
        let folder = folder(&config);
        let floor = DiskFloor::new(vec![folder.clone()], config.disk.floor_mib, config.disk.floor_percent);
        Self(Arc::new(Shared { config, store, containers, images, folder, floor, locks: StdMutex::default() }))
    }

    /// Unmounts the disks of all volumes.
    pub async fn unmount_all(config: &Config) -> Result<(), DiskError> {
        Disk::unmount_leftovers(&folder(config)).await.map(drop)
    }

    /// Creates a volume of an app. The host's disk keeps its space for it, if it can.
    pub async fn create(
        &self,
        app: AppId,
        name: VolumeName,
        size: VolumeSize,
        by: String,
    ) -> Result<(Volume, Reservation), VolumeError> {
        let volume = self.0.store.create_volume(app, name, size, by).await?;
        let _lock = self.lock(volume.id).await;
        match self.make_disk(&volume).await {
            Ok(reservation) => Ok((Volume { ready: true, ..volume }, reservation)),
            Err(error) => {
                if let Err(left) = self.remove(&volume).await {
                    tracing::warn!(error = %left, volume = %volume.name, "cannot remove what is left of a volume that was not created");
                }
                Err(error)
            }
        }
    }

    async fn remove(&self, volume: &Volume) -> Result<(), VolumeError> {
        self.disk(volume.id).remove().await.map_err(of_disk(volume))?;
        Ok(self.0.store.forget_volume(volume.id).await?)
    }

    async fn make_disk(&self, volume: &Volume) -> Result<Reservation, VolumeError> {
        let reservation = self.disk(volume.id).create(volume.size.mib()).await.map_err(of_disk(volume))?;
        self.0.store.set_volume_ready(volume.id).await?;
        Ok(reservation)
    }

    /// What the engine is to mount for these declared mounts. The disks of volumes are mounted; the folder of one that has no
    /// files is given to the user that the processes have.
    pub(super) async fn mounts(
        &self,
        declared: &[Mount],
        image: &Digest,
        own_user: bool,
    ) -> Result<Vec<engine::Mount>, VolumeError> {
        let mut mounts = Vec::new();
        for mount in declared {
            let source = match &mount.source {
                MountSource::Host(path) => PathBuf::from(path.as_str()),
                MountSource::Volume(id, _) => {
                    let mounted = self.mounted(*id).await?;
                    if mounted.is_empty {
                        let owner = if own_user { self.user_of(image).await? } else { APP_OWNER };
                        if owner != mounted.owner {
                            let volume = self.0.store.volume(*id).await?;
                            self.disk(*id).set_owner(owner).await.map_err(of_disk(&volume))?;
                        }
                    }
                    mounted.files
                }
            };
            let target = mount.target.as_str();
            mounts.push(if mount.read_only {
                engine::Mount::read_only(&source, target)
            } else {
                engine::Mount::writable(&source, target)
            });
        }
        Ok(mounts)
    }

    /// Mounts the disk of a volume unless it is mounted. An earlier server may have died before the disk was made.
    pub async fn mounted(&self, id: VolumeId) -> Result<MountedVolume, VolumeError> {
        let _lock = self.lock(id).await;
        let volume = self.0.store.volume(id).await?;
        if !volume.ready {
            self.make_disk(&volume).await?;
        }
        let disk = self.disk(id);
        let mounted = async {
            let files = disk.mount(volume.size.mib()).await?;
            Ok(MountedVolume { files, owner: disk.owner().await?, is_empty: disk.is_empty().await? })
        };
        mounted.await.map_err(of_disk(&volume))
    }

    async fn user_of(&self, image: &Digest) -> Result<Owner, VolumeError> {
        let (images, image) = (self.0.images.clone(), image.clone());
        let read = tokio::task::spawn_blocking(move || images.user(&image)).await;
        Ok(read.map_err(|_| VolumeError::ShuttingDown)??)
    }

    /// Changes the size of a volume: a larger one while it is in use, if the kernel allows that, a smaller one only while it is
    /// not. Returns the volume as it is then; `None` if it has this size already.
    pub async fn resize(&self, id: VolumeId, size: VolumeSize) -> Result<Option<Volume>, VolumeError> {
        // Who may not have it should not stop the app first.
        self.0.store.check_volume_size(id, size).await?;
        // Its disk is there, and the folder for files in it.
        self.mounted(id).await?;
        let _lock = self.lock(id).await;
        // As it is now: another change of its size may have been waited for.
        let volume = &self.0.store.volume(id).await?;
        let disk = self.disk(id);
        if size < volume.size {
            self.refuse_in_use(volume).await?;
            disk.shrink(size.mib()).await.map_err(of_disk(volume))?;
            self.0.store.resize_volume(id, size).await?;
            return Ok(Some(self.0.store.volume(id).await?));
        }
        let while_mounted = VolumeDisk::grows_while_mounted().await;
        let usable = if while_mounted { Ok(()) } else { self.refuse_in_use(volume).await };
        match usable {
            // If it was interrupted before, it is completed when the disk is mounted the next time.
            Err(VolumeError::InUse { .. }) if size == volume.size => return Ok(None),
            Err(VolumeError::InUse { name, by }) => return Err(VolumeError::CannotGrowInUse { name, by }),
            usable => usable?,
        }
        self.0.store.resize_volume(id, size).await?;
        let grown =
            if while_mounted { disk.grow_mounted(size.mib()).await } else { disk.grow_unmounted(size.mib()).await };
        if let Err(DiskError::NoSpace { .. }) = &grown {
            self.0.store.resize_volume(id, volume.size).await?;
        }
        grown.map_err(of_disk(volume))?;
        let resized = self.0.store.volume(id).await?;
        Ok((size != volume.size).then_some(resized))
    }

    /// Destroys a volume with its files.
    pub async fn destroy(&self, volume: &Volume) -> Result<(), VolumeError> {
        let _lock = self.lock(volume.id).await;
        self.refuse_in_use(volume).await?;
        let disk = self.disk(volume.id);
        disk.discard().await.map_err(of_disk(volume))?;
        self.0.store.forget_volume(volume.id).await?;
        self.locks().remove(&volume.id);
        if let Err(error) = disk.remove().await {
            tracing::warn!(%error, volume = %volume.name, "the disk of a destroyed volume is removed when the server starts again");
        }
        Ok(())
    }

    /// Completes the destruction of volumes that an earlier server, which died, has begun.
    pub async fn remove_discarded(&self) -> Result<(), VolumeError> {
        remove_discarded(&self.0.folder, &self.0.store, &self.0.floor).await
    }

    /// Removes the disks of an app that is being destroyed and has no containers.
    pub async fn remove_app(&self, app: AppId) -> Result<(), VolumeError> {
        for volume in self.0.store.volumes(app).await? {
            let _lock = self.lock(volume.id).await;
            self.disk(volume.id).remove().await.map_err(of_disk(&volume))?;
            self.locks().remove(&volume.id);
        }
        Ok(())
    }

    /// What is used of a volume; `None` while its disk is not mounted.
    pub async fn usage(&self, volume: &Volume) -> Result<Option<DiskUsage>, VolumeError> {
        self.disk(volume.id).usage().await.map_err(of_disk(volume))
    }

    /// The file that has the disk of a volume.
    pub fn image(&self, id: VolumeId) -> PathBuf {
        self.disk(id).image().to_owned()
    }

    /// The image with the tools that read and write the files of volumes: the run image of the default stack.
    pub(super) async fn tools_image(&self) -> Result<Option<Digest>, VolumeError> {
        let revisions = self.0.store.stack_revisions(Some(self.0.config.stack.default.clone())).await?;
        Ok(revisions.into_iter().next().map(|revision| revision.run))
    }

    /// Refuses what is possible only while no container uses a volume. Containers that are about to end, because the app is
    /// stopped or the volume is unmounted, are waited for.
    async fn refuse_in_use(&self, volume: &Volume) -> Result<(), VolumeError> {
        let app = self.0.store.app(volume.app).await?;
        let is_volume = |mount: &Mount| match &mount.source {
            MountSource::Volume(id, _) => *id == volume.id,
            MountSource::Host(_) => false,
        };
        let goes_on = app.is_some_and(|app| !app.stopped && app.mounts.iter().any(is_volume));
        let until = Instant::now() + if goes_on { Duration::ZERO } else { MAX_END };
        loop {
            let users = self.0.containers.mounting(&self.disk(volume.id).files()).await?;
            if users.is_empty() {
                return Ok(());
            }
            if Instant::now() >= until {
                return Err(VolumeError::InUse { name: volume.name.clone(), by: users.join(", ") });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    fn disk(&self, id: VolumeId) -> VolumeDisk {
        VolumeDisk::new(&self.0.folder, id.0, self.0.floor.clone())
    }

    async fn lock(&self, id: VolumeId) -> OwnedMutexGuard<()> {
        let lock = Arc::clone(self.locks().entry(id).or_default());
        lock.lock_owned().await
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, HashMap<VolumeId, Arc<Mutex<()>>>> {
        self.0.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Folder of the disks and their mount points. Not that of build disks, which are unmounted when a server starts.
fn folder(config: &Config) -> PathBuf {
    Path::new(&config.data_dir).join("volumes")
}

async fn remove_discarded(folder: &Path, store: &Store, floor: &DiskFloor) -> Result<(), VolumeError> {
    for id in VolumeDisk::discarded(folder).await.map_err(VolumeError::Folder)? {
        // The row first: without it, nothing mounts the disk.
        store.forget_volume(VolumeId(id)).await?;
        VolumeDisk::new(folder, id, floor.clone()).remove().await.map_err(VolumeError::Folder)?;
        tracing::info!(id, "removed a volume whose destruction was interrupted");
    }
    Ok(())
}

fn of_disk(volume: &Volume) -> impl FnOnce(DiskError) -> VolumeError + use<> {
    let name = volume.name.clone();
    |source| VolumeError::Disk { name, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_destruction_that_was_interrupted_is_completed() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let app = store.create_app("shop".parse().unwrap(), None, 10_000..=10_009, vec![]).await.unwrap();
        let folder = dir.path().join("volumes");
        let floor = DiskFloor::new(vec![dir.path().to_owned()], 0, 0);
        let disk = |volume: &Volume| VolumeDisk::new(&folder, volume.id.0, floor.clone());
        remove_discarded(&folder, &store, &floor).await.unwrap();

        std::fs::create_dir(&folder).unwrap();
        let mut volumes = Vec::new();
        for name in ["untouched", "discarded", "forgotten", "removed", "lost"] {
            let size = VolumeSize::try_from(16).unwrap();
            let volume = store.create_volume(app.id, name.parse().unwrap(), size, "ann".into()).await.unwrap();
            if name != "lost" {
                std::fs::write(disk(&volume).image(), name).unwrap();
            }
            volumes.push(volume);
        }
        // The steps of a destruction, and a server that dies after each.
        for volume in &volumes[1..4] {
            disk(volume).discard().await.unwrap();
        }
        for volume in &volumes[2..4] {
            store.forget_volume(volume.id).await.unwrap();
        }
        disk(&volumes[3]).remove().await.unwrap();
        disk(&volumes[4]).discard().await.unwrap();
        // Files of others, and disks that no row names, such as with a database of a backup, stay.
        for name in ["77.img", "mine.destroyed"] {
            std::fs::write(folder.join(name), "").unwrap();
        }

        remove_discarded(&folder, &store, &floor).await.unwrap();
        let left = store.volumes(app.id).await.unwrap();
        let names: Vec<_> = left.iter().map(|volume| volume.name.as_str()).collect();
        assert_eq!(names, ["lost", "untouched"], "whole, or gone; what was lost before is still told");
        let entries = std::fs::read_dir(&folder).unwrap();
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        let untouched = format!("{}.img", volumes[0].id.0);
        assert_eq!(files, [untouched.as_str(), "77.img", "mine.destroyed"]);
        remove_discarded(&folder, &store, &floor).await.unwrap();
    }
}
