//! The builder: what all builds share.

use std::{io, path::PathBuf, sync::Arc};

use tokio::{fs, sync::Mutex};
use tokio_util::task::TaskTracker;

use super::{
    budget::Queue,
    builtin::Builtin,
    disks::{dockerfile_disk, remove_leftover_disks},
    downloads::Downloads,
    error::{BuildError, BuildpacksError},
    offered_store::OfferedStore,
    outbound,
    packages::Packages,
    recipe::{BuildSettings, Recipe},
    standby::Standby,
};
use crate::{
    config::Config,
    engine::{Builds, Images, disk::Disk},
    images::{ImageStore, Stack},
    model::{Digest, Secret},
};

/// Builds apps; cheap to clone.
#[derive(Clone)]
pub struct Builder(pub(super) Arc<BuilderShared>);

pub(super) struct BuilderShared {
    pub(super) config: Arc<Config>,
    pub(super) builds: Builds,
    pub(super) engine_images: Images,
    pub(super) images: ImageStore,
    pub(super) registry_token: Secret,
    pub(super) lifecycle: LifecycleBinary,
    pub(super) builtin: Builtin,
    pub(super) packages: Packages,
    pub(super) downloads: Downloads,
    pub(super) ca_bundle: Option<PathBuf>,
    pub(super) queue: Queue,
    pub(super) standby: Standby,
    pub(super) offered: OfferedStore,
    /// Held while the engine is asked for a stack's build image, and pulls it.
    pub(super) pull: Mutex<()>,
    pub(super) tasks: TaskTracker,
}

/// The static binary that runs in build containers.
pub(super) struct LifecycleBinary {
    /// Path without symbolic links: the engine mounts the file.
    pub(super) path: PathBuf,
    pub(super) digest: Digest,
}

impl LifecycleBinary {
    /// Blocks.
    fn read(path: &std::path::Path) -> Result<Self, BuildpacksError> {
        let real = std::fs::canonicalize(path).map_err(BuildpacksError::file("find", path))?;
        let bytes = std::fs::read(&real).map_err(BuildpacksError::file("read", path))?;
        Ok(Self { path: real, digest: Digest::of(&bytes) })
    }
}

impl Builder {
    /// Removes what an earlier server left, and reads the buildpacks. `registry_token` gives access to the registry.
    pub async fn new(
        config: Arc<Config>,
        builds: Builds,
        engine_images: Images,
        images: ImageStore,
        registry_token: Secret,
    ) -> Result<Self, BuildError> {
        builds.remove_leftover_builds().await?;
        engine_images.remove_step_images().await?;
        Self::unmount_leftovers(&config).await?;
        let read = tokio::task::spawn_blocking(move || {
            remove_leftover_disks(&config.data_dir.join("disks"));
            let builtin = Builtin::read(&config.buildpacks())?;
            let packages = Packages::open(config.data_dir.join("buildpacks"))?;
            let downloads = Downloads::open(&config.data_dir.join("downloads"), config.build.downloads_mib << 20)?;
            let lifecycle = LifecycleBinary::read(&config.lifecycle())?;
            let bundle = config.data_dir.join("build-ca-certificates.pem");
            let ca_bundle = outbound::write_ca_bundle(&config.outbound, &bundle).map_err(BuildError::CaBundle)?;
            Ok(Self(Arc::new(BuilderShared {
                queue: Queue::new(config.build.concurrency),
                standby: Standby::default(),
                offered: OfferedStore::new(
                    config.data_dir.join("disks/offered-images.ext4"),
                    config.data_dir.join("mounts/offered-images"),
                ),
                pull: Mutex::new(()),
                tasks: TaskTracker::new(),
                config,
                builds,
                engine_images,
                images,
                registry_token,
                lifecycle,
                builtin,
                packages,
                downloads,
                ca_bundle,
            })))
        });
        read.await.map_err(|_| BuildError::ShuttingDown)?
    }

    /// Unmounts the disks of builds whose server died.
    pub async fn unmount_leftovers(config: &Config) -> Result<(), BuildError> {
        Disk::unmount_leftovers(&config.data_dir.join("mounts")).await?;
        Ok(())
    }

    /// The recipe for these settings on this stack.
    pub fn recipe(&self, settings: BuildSettings, stack: Stack) -> Result<Recipe, BuildError> {
        Recipe::new(settings, &self.0.builtin, stack, &self.0.lifecycle.digest)
    }

    /// The buildpacks that come with paas.
    pub fn builtin(&self) -> &Builtin {
        &self.0.builtin
    }

    /// The packages that were fetched.
    pub fn packages(&self) -> &Packages {
        &self.0.packages
    }

    /// Clears an app's build cache. Its next build starts from nothing: it gets no layer of the previous image, either.
    pub async fn clear_cache(&self, disk: &str) -> Result<(), BuildError> {
        let mark = self.0.cleared_mark(disk);
        // First: a cache that is half removed is a cleared one.
        let made = async {
            fs::create_dir_all(self.0.config.data_dir.join("disks")).await?;
            fs::File::create(&mark).await?.sync_all().await
        };
        made.await.map_err(BuildpacksError::file("make", &mark))?;
        self.remove_disks(disk).await
    }

    /// Removes an app's disks, and with them the build cache.
    pub async fn remove_disk(&self, disk: &str) -> Result<(), BuildError> {
        self.0.forget_cleared(disk).await?;
        self.remove_disks(disk).await
    }

    async fn remove_disks(&self, disk: &str) -> Result<(), BuildError> {
        Disk::remove(&self.0.disk_image(disk)).await?;
        Ok(Disk::remove(&self.0.disk_image(&dockerfile_disk(disk))).await?)
    }

    /// The same, unless a build uses one of them; whether that was not so.
    pub async fn remove_unused_disk(&self, disk: &str) -> Result<bool, BuildError> {
        let [first, second] = self.disks(disk);
        Ok(Disk::remove_unused(&first).await? && Disk::remove_unused(&second).await?)
    }

    /// The files of an app's disks.
    pub fn disks(&self, disk: &str) -> [PathBuf; 2] {
        [self.0.disk_image(disk), self.0.disk_image(&dockerfile_disk(disk))]
    }

    /// Refuses new builds and waits for those that run (cancel them first).
    pub async fn close(&self) {
        self.0.standby.close().await;
        self.0.tasks.close();
        self.0.tasks.wait().await;
        self.0.offered.close().await;
    }
}

impl BuilderShared {
    /// The image file of a disk.
    pub(super) fn disk_image(&self, disk: &str) -> PathBuf {
        self.config.data_dir.join("disks").join(format!("{disk}.ext4"))
    }

    /// The file that says that an app's cache was cleared, until a build has succeeded without it.
    fn cleared_mark(&self, disk: &str) -> PathBuf {
        self.config.data_dir.join("disks").join(format!("{disk}.cleared"))
    }

    /// Whether the app's cache was cleared, and no build has succeeded since.
    pub(super) async fn cache_was_cleared(&self, disk: &str) -> Result<bool, BuildError> {
        let mark = self.cleared_mark(disk);
        Ok(fs::try_exists(&mark).await.map_err(BuildpacksError::file("find", &mark))?)
    }

    /// Forgets that the app's cache was cleared.
    pub(super) async fn forget_cleared(&self, disk: &str) -> Result<(), BuildError> {
        let mark = self.cleared_mark(disk);
        match fs::remove_file(&mark).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(BuildpacksError::file("remove", &mark)(error).into())
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the disk of the other way in which the app was built before, if there is one.
    pub(super) async fn remove_one_disk(&self, disk: &str) {
        let image = self.disk_image(disk);
        if image.exists()
            && let Err(error) = Disk::remove(&image).await
        {
            tracing::warn!(%error, disk, "cannot remove a build disk that is not needed any more");
        }
    }

    /// The folder of mount points.
    pub(super) fn mounts(&self) -> PathBuf {
        self.config.data_dir.join("mounts")
    }

    /// Runs work that blocks, such as reading the blob store.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self) -> Result<T, BuildError> + Send + 'static,
    ) -> Result<T, BuildError> {
        let this = Arc::clone(self);
        self.tasks.spawn_blocking(move || work(&this)).await.map_err(|_| BuildError::ShuttingDown)?
    }
}
