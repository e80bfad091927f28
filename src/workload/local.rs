//! The runtime of one machine: its engine, and addresses that the store assigns.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream::BoxStream};

use super::{
    binding_files::BindingFiles,
    openings::Openings,
    spec::{Purpose, Workload, WorkloadBudget},
    volumes::{APP_OWNER, MountedVolume, VolumeError, Volumes},
};
use crate::{
    config::{Config, ConfigError},
    data_dir::FreeSpace,
    engine::{
        ArchiverSpec, Archiving, Attached, Container, ContainerExit, ContainerId, ContainerSpec, Containers,
        EMBEDDED_DNS, Engine, EngineError, Executed, Execution, Host, ImageId, Images, ListeningSocket, LogLine,
        LogOptions, MemoryKill, Mount, OwnerGroup, Result, UsageSample, Written,
        disk::{DiskError, Owner},
    },
    images::{ImageStore, StartSettings},
    lifecycle::{BINDINGS_FOLDER, CLOSED_ADDRESS, STOP_SECONDS, STOP_SIGNAL},
    model::{AddressPlan, AppName, Digest, ReleaseNumber, Secret, TerminalSize},
    periodic::Waker,
    store::Placement,
};

/// The runtime of one machine; cheap to clone.
#[derive(Debug, Clone)]
pub struct Local {
    config: Arc<Config>,
    containers: Containers,
    images: Images,
    /// What the registry serves.
    image_store: ImageStore,
    host: Host,
    addresses: AddressPlan,
    openings: Openings,
    volumes: Volumes,
    bindings: BindingFiles,
    /// Token for the embedded registry.
    registry_token: Secret,
}

impl Local {
    /// A runtime on this engine, with the images of this store.
    pub fn new(
        config: Arc<Config>,
        engine: &Engine,
        image_store: ImageStore,
        openings: Openings,
        volumes: Volumes,
        registry_token: Secret,
    ) -> std::result::Result<Self, ConfigError> {
        let addresses = config.address_plan()?;
        let Engine { containers, images, host, .. } = engine.clone();
        let bindings = BindingFiles::new(&config);
        Ok(Self {
            config,
            containers,
            images,
            image_store,
            host,
            addresses,
            openings,
            volumes,
            bindings,
            registry_token,
        })
    }

    /// Removes the files of the service bindings of all workloads, which have no containers any more.
    pub async fn forget_bindings(config: &Config) -> std::result::Result<(), DiskError> {
        BindingFiles::unmount(config).await
    }

    pub(super) fn placement(&self) -> Placement {
        Placement::Local(self.addresses)
    }

    pub(super) async fn prepare(&self, app: &AppName, release: ReleaseNumber, image: &Digest) -> Result<()> {
        self.image(app, release, image).await.map(drop)
    }

    /// The image on the engine: pulled from the embedded registry if it is missing, and tagged so that a prune does not
    /// remove it.
    async fn image(&self, app: &AppName, release: ReleaseNumber, image: &Digest) -> Result<ImageId> {
        let reference = format!("{}/{app}@{image}", self.config.registry.listen);
        let found = match self.images.image_id(&reference).await? {
            Some(found) => found,
            None => self.images.pull(&reference, self.registry_token.expose()).await?,
        };
        let tag = self.images.release_tag(app, release);
        if self.images.image_id(&tag).await?.as_ref() != Some(&found) {
            self.images.tag(&found, &tag).await?;
        }
        Ok(found)
    }

    async fn start_settings(&self, image: &Digest) -> Result<StartSettings> {
        let (store, manifest) = (self.image_store.clone(), image.clone());
        let read = tokio::task::spawn_blocking(move || store.start_settings(&manifest)).await;
        let failed = |source| EngineError::CannotReadImage { image: image.clone(), source };
        read.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))
    }

    pub(super) async fn create(&self, workload: &Workload) -> Result<ContainerId> {
        // Also for apps without openings: the address may have belonged to an app that has some.
        self.openings.apply().await?;
        match self.containers.create_workload(&self.spec(workload).await?).await {
            // Another program pruned the image in this moment.
            Err(EngineError::ImageMissing { .. }) => self.containers.create_workload(&self.spec(workload).await?).await,
            created => created,
        }
    }

    async fn spec(&self, workload: &Workload) -> Result<ContainerSpec> {
        let limits = &self.config.instances;
        let image = self.image(&workload.app, workload.release, &workload.image).await?;
        let names = self.openings.linked_names(&workload.app).await?;
        let mounts = self.volumes.mounts(&workload.mounts, &workload.image, workload.own_user).await;
        let mut mounts = mounts.map_err(|error| EngineError::NoMount(error.to_string()))?;
        mounts.extend(self.bindings_mount(workload).await?);
        let StartSettings { launcher_is_init, launcher_waits, stop_signal } =
            self.start_settings(&workload.image).await?;
        let mut env = workload.env.clone();
        env.push(format!("{CLOSED_ADDRESS}={EMBEDDED_DNS}"));
        if launcher_is_init {
            let grace = workload.stop_grace.as_secs();
            let signal = stop_signal.filter(|_| workload.own_user && !workload.input.is_terminal());
            let stop = [(STOP_SECONDS, Some(grace.to_string())), (STOP_SIGNAL, signal)];
            env.extend(stop.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))));
        }
        Ok(ContainerSpec {
            name: workload.id.clone(),
            kind: workload.purpose.kind(),
            app: workload.app.clone(),
            process: workload.process.clone(),
            release: workload.release,
            image,
            address: match workload.address {
                Some(IpAddr::V4(address)) => address,
                Some(IpAddr::V6(_)) | None => return Err(EngineError::Incomplete("the address of a workload")),
            },
            entrypoint: workload.entrypoint.clone(),
            cmd: workload.arguments.clone(),
            env,
            limit: workload.budget.limit,
            reserve: workload.budget.reserve,
            group: group_of(workload.budget),
            pids: limits.pids,
            log_mib: limits.log_mib,
            disk_mib: limits.disk_mib,
            stop_grace: workload.stop_grace,
            own_user: workload.own_user,
            input: workload.input,
            launcher_is_init,
            names,
            launcher: (!launcher_waits).then(|| self.config.lifecycle()),
            mounts,
        })
    }

    /// Mount of the service bindings, which are written first.
    async fn bindings_mount(&self, workload: &Workload) -> Result<Option<Mount>> {
        if workload.bindings.is_empty() {
            return Ok(None);
        }
        let owner = if workload.own_user { self.user_of(&workload.image).await? } else { APP_OWNER };
        let written = self.bindings.write(&workload.id, &workload.bindings, owner).await;
        let folder = written.map_err(|error| EngineError::NoMount(error.to_string()))?;
        Ok(Some(Mount::read_only(&folder, BINDINGS_FOLDER)))
    }

    async fn user_of(&self, image: &Digest) -> Result<Owner> {
        let (store, manifest) = (self.image_store.clone(), image.clone());
        let read = tokio::task::spawn_blocking(move || store.user(&manifest)).await;
        let failed = |source| EngineError::CannotReadImage { image: image.clone(), source };
        read.map_err(|e| failed(e.into()))?.map_err(|e| failed(e.into()))
    }

    /// Removes the bindings of workloads whose containers another program removed.
    async fn remove_old_bindings(&self) -> Result<()> {
        let failed = |error: DiskError| EngineError::NoMount(error.to_string());
        for id in self.bindings.old().await.map_err(failed)? {
            if self.containers.inspect(&id).await?.is_none() {
                self.bindings.remove(&id).await.map_err(failed)?;
            }
        }
        Ok(())
    }

    pub(super) async fn start(&self, container: &ContainerId) -> Result<()> {
        self.containers.start(container).await
    }

    pub(super) async fn observe(&self, id: &str) -> Result<Option<Container>> {
        self.containers.inspect(id).await
    }

    pub(super) async fn list(&self, purpose: Purpose) -> Result<Vec<Container>> {
        self.containers.list(Some(purpose.kind())).await
    }

    pub(super) async fn usage(&self, container: &ContainerId) -> Result<Option<UsageSample>> {
        self.containers.usage(container).await
    }

    pub(super) fn changes(&self, purpose: Purpose) -> BoxStream<'static, ContainerExit> {
        self.containers.exits(purpose.kind()).boxed()
    }

    pub(super) fn returned(&self) -> Waker {
        self.containers.returned()
    }

    pub(super) fn memory_kills(&self, purpose: Purpose) -> BoxStream<'static, MemoryKill> {
        self.containers.memory_kills(purpose.kind()).boxed()
    }

    pub(super) async fn stop(&self, container: &ContainerId, grace: Duration) -> Result<()> {
        self.containers.stop(container, grace).await
    }

    pub(super) async fn remove(&self, container: &ContainerId) -> Result<()> {
        self.containers.remove(container).await?;
        let removed = self.bindings.remove(container.as_str()).await;
        removed.map_err(|error| EngineError::NoMount(error.to_string()))
    }

    pub(super) fn logs(&self, container: &ContainerId, options: LogOptions) -> BoxStream<'static, Result<LogLine>> {
        self.containers.logs(container, options).boxed()
    }

    pub(super) async fn diagnose(&self, container: &ContainerId) -> Result<Vec<ListeningSocket>> {
        self.containers.listening_ports(container).await
    }

    pub(super) async fn attach(&self, container: &ContainerId) -> Result<Attached> {
        self.containers.attach(container).await
    }

    pub(super) async fn wait(&self, container: &ContainerId) -> Result<Option<i64>> {
        self.containers.wait(container).await
    }

    pub(super) async fn resize(&self, container: &ContainerId, size: TerminalSize) -> Result<()> {
        self.containers.resize(container, size).await
    }

    pub(super) async fn execute(&self, container: &ContainerId, execution: Execution) -> Result<(Attached, Executed)> {
        self.containers.execute(container, execution).await
    }

    pub(super) async fn kill(&self, container: &ContainerId) -> Result<()> {
        self.containers.kill(container).await
    }

    pub(super) async fn written(&self, container: &ContainerId) -> Result<Option<Written>> {
        self.containers.written(container).await
    }

    pub(super) async fn free_space(&self) -> Option<FreeSpace> {
        self.host.free_space().await
    }

    pub(super) async fn create_archiver(
        &self,
        app: &AppName,
        volume: &MountedVolume,
        archiving: Archiving,
        budget: WorkloadBudget,
    ) -> Result<ContainerId, VolumeError> {
        let missing = EngineError::Incomplete("the run image of the default stack");
        let tools = self.volumes.tools_image().await?.ok_or(missing)?;
        let reference = format!("{}/{}@{tools}", self.config.registry.listen, self.config.stack.default);
        let image = match self.images.image_id(&reference).await? {
            Some(found) => found,
            None => self.images.pull(&reference, self.registry_token.expose()).await?,
        };
        let MountedVolume { files, owner, .. } = volume.clone();
        let spec = ArchiverSpec { app: app.clone(), image, files, owner, archiving, group: group_of(budget) };
        Ok(self.containers.create_archiver(&spec).await?)
    }

    pub(super) async fn start_archiver(&self, container: &ContainerId) -> Result<()> {
        self.containers.start_archiver(container).await
    }

    pub(super) async fn maintain(&self) -> Result<()> {
        self.remove_old_bindings().await?;
        self.openings.apply().await?;
        self.host.ensure_firewall().await
    }

    pub(super) async fn apply_openings(&self) -> Result<()> {
        self.openings.apply().await
    }

    pub(super) async fn adopt(&self, container: &Container) -> Result<()> {
        self.containers.close_embedded_dns(&container.id).await
    }

    pub(super) async fn update_resolver(&self) -> Result<()> {
        self.host.update_resolver().await
    }
}

/// The control group of the containers of an owner.
fn group_of(budget: WorkloadBudget) -> OwnerGroup {
    OwnerGroup {
        name: budget.owner.map_or_else(|| "admins".to_owned(), |owner| format!("owner-{}", owner.0)),
        // While a release replaces another, the instances of both run.
        memory_mib: budget.owner_memory_mib.map(|limit| limit.saturating_mul(2)),
    }
}
