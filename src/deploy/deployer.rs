//! The deployer: the stages, and what the operations on apps share.

use std::{net::IpAddr, sync::Arc};

use tokio::sync::Mutex;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    buildpack_library::BuildpackLibrary, error::DeployError, gc_lock::GcLock, locks::AppLocks, offers::Offers,
    ports::Ports, stacks::Stacks,
};
use crate::{
    build::Builder,
    config::Config,
    data_dir::DiskFloor,
    engine::Images,
    git::Repositories,
    images::ImageStore,
    instances::Instances,
    store::Store,
    tasks::Tasks,
    workload::{DiskWatch, Volumes},
};

/// Deploys apps; cheap to clone.
#[derive(Clone)]
pub struct Deployer(pub(super) Arc<DeployerShared>);

pub(super) struct DeployerShared {
    pub(super) config: Arc<Config>,
    pub(super) store: Store,
    pub(super) engine_images: Images,
    pub(super) repositories: Repositories,
    pub(super) images: ImageStore,
    pub(super) builder: Builder,
    pub(super) instances: Instances,
    pub(super) tasks: Tasks,
    pub(super) volumes: Volumes,
    pub(super) disk_watch: DiskWatch,
    pub(super) stacks: Stacks,
    pub(super) buildpacks: BuildpackLibrary,
    pub(super) offers: Offers,
    pub(super) ports: Ports,
    /// Held while a push or a rebuild runs.
    pub(super) pushes: AppLocks,
    /// Held while a release is rolled out.
    pub(super) releases: AppLocks,
    pub(super) gc_lock: GcLock,
    /// Held while garbage is collected.
    pub(super) collecting: Mutex<()>,
    pub(super) floor: DiskFloor,
    pub(super) tracker: TaskTracker,
    pub(super) shutdown: CancellationToken,
}

impl std::fmt::Debug for Deployer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deployer")
    }
}

impl Deployer {
    /// Puts the stages together. Background work runs on `tracker` until `shutdown`.
    #[expect(clippy::too_many_arguments, reason = "each is another stage")]
    pub fn new(
        config: Arc<Config>,
        store: Store,
        engine_images: Images,
        repositories: Repositories,
        images: ImageStore,
        builder: Builder,
        instances: Instances,
        tasks: Tasks,
        floor: DiskFloor,
        volumes: Volumes,
        tracker: TaskTracker,
        shutdown: CancellationToken,
    ) -> Self {
        let gc_lock = GcLock::default();
        let stacks = Stacks::new(Arc::clone(&config), store.clone(), images.clone(), builder.clone());
        let buildpacks = BuildpackLibrary::new(store.clone(), repositories.clone(), builder.clone(), gc_lock.clone());
        let offers = Offers::new(store.clone(), images.clone(), builder.clone(), tracker.clone());
        let disk_watch = DiskWatch::new(tasks.runtime().clone(), config.instances.disk_mib);
        let ports = Ports::new(Arc::clone(&config), store.clone(), instances.clone());
        Self(Arc::new(DeployerShared {
            config,
            store,
            engine_images,
            repositories,
            images,
            builder,
            instances,
            tasks,
            volumes,
            disk_watch,
            stacks,
            buildpacks,
            offers,
            ports,
            pushes: AppLocks::new("Another push to this app is under way; waiting for it to end"),
            releases: AppLocks::new("Another release of this app is being rolled out; waiting for it to end"),
            gc_lock,
            collecting: Mutex::default(),
            floor,
            tracker,
            shutdown,
        }))
    }

    /// The addresses of a URL's host, if that is not closed to builds.
    pub async fn remote_addresses(&self, url: &str) -> Result<Option<Vec<IpAddr>>, DeployError> {
        Ok(self.0.builder.remote_addresses(url).await?)
    }

    /// The floor of free disk space, below which nothing new is begun.
    pub fn floor(&self) -> &DiskFloor {
        &self.0.floor
    }

    /// The stacks of this server.
    pub fn stacks(&self) -> &Stacks {
        &self.0.stacks
    }

    /// The buildpacks that are built in or installed.
    pub fn buildpacks(&self) -> &BuildpackLibrary {
        &self.0.buildpacks
    }

    /// The images that the operator offers.
    pub fn offers(&self) -> &Offers {
        &self.0.offers
    }

    /// The volumes of apps.
    pub fn volumes(&self) -> &Volumes {
        &self.0.volumes
    }

    /// The port mappings of apps.
    pub fn ports(&self) -> &Ports {
        &self.0.ports
    }
}
