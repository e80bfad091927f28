//! The composition root of the control plane: binds, recovers, serves, drains.

mod backend;

use std::{fs::File, path::PathBuf, sync::Arc, time::Duration};

use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    build::{BuildError, BuildSweep, Builder},
    commands::Commands,
    config::{Config, ConfigError},
    data_dir::{self, DiskFloor},
    deploy::{DeployError, Deployer, GarbageCollection, StackUpdates, WrittenFiles},
    engine::{Engine, EngineError, Kind, disk::DiskError},
    git::{self, GitError, Repositories},
    http::{self, Api, RequestSweep},
    images::{ImageError, ImageStore, Registry, StackDefinition},
    instances::{Instances, InstancesError},
    operations::{AuditLog, AuditedPushes, CronSchedule, EventSweep, Failure, Operations},
    periodic::{Driver, Waker},
    progress,
    receive::{Imports, ReceiveError, Receiver},
    router::Link,
    socket, ssh,
    store::{Store, StoreError},
    tasks::{TaskSweep, Tasks},
    workload::{Local, NetworkNames, Openings, Runtime, Volumes},
};

/// How long running pushes and commands have to end after shutdown is requested.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(20);

/// Maximum number of containers that are stopped at a time.
const MAX_STOPPING: usize = 16;

/// Why the server does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {path}: {source}")]
    Data {
        /// The data folder.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// Another server has the data folder.
    #[error("another paas server runs with the data folder {0}: stop it, or give this one a folder of its own")]
    Running(PathBuf),
    /// The server cannot listen on an address.
    #[error("cannot listen on {address} ({key}): {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// The configuration key of the address.
        key: &'static str,
        /// The cause.
        source: std::io::Error,
    },
    /// The program was interrupted before it had finished.
    #[error("interrupted: run it again to continue with the missing parts")]
    Interrupted,
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The configuration is invalid.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The engine failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The image store or the stack failed.
    #[error(transparent)]
    Images(#[from] ImageError),
    /// The disks of volumes cannot be unmounted.
    #[error(transparent)]
    Volumes(#[from] DiskError),
    /// The build stage failed.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The repositories cannot be used.
    #[error(transparent)]
    Git(#[from] GitError),
    /// The hook's socket cannot be used.
    #[error(transparent)]
    Receive(#[from] ReceiveError),
    /// The reconciler failed.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// Recovery failed.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// The SSH server failed.
    #[error(transparent)]
    Ssh(#[from] ssh::SshError),
    /// The audit log cannot be read.
    #[error(transparent)]
    Audit(#[from] Failure),
    /// The local socket cannot be used.
    #[error(transparent)]
    Socket(#[from] socket::SocketError),
}

/// Runs the server until `shutdown`.
pub async fn run(config: Arc<Config>, shutdown: CancellationToken) -> Result<(), ServerError> {
    let _lock = lock_data_dir(&config)?;
    let store = Store::open_for(&config)?;
    let server_id = store.server_id().await?;
    let engine = Engine::connect(&config, &server_id).await?;
    store.set_capacity(engine.host.capacity());
    let version = engine.version().await?;
    tracing::info!(engine = %version.engine, api = %version.api, "connected to Docker");
    if let Some(notice) = version.notice() {
        tracing::warn!("{notice}");
    }
    if let Some(notice) = engine.layer_limits_notice() {
        tracing::info!("{notice}");
    }
    // An engine's folder that is not on this machine is not found.
    let folders = [Some(config.data_dir.clone()), engine.root_folder()].into_iter().flatten().collect();
    let floor = DiskFloor::new(folders, config.disk.floor_mib, config.disk.floor_percent);
    let openings = Openings::new(store.clone(), engine.host.clone(), config.address_plan()?);
    // Before anything else sets the packet filters: instances run, and keep what they may reach.
    if let Err(error) = openings.apply().await {
        tracing::error!(%error, "the packet filters are not set; this is repeated when they are needed");
    }
    // Only the operator can fix this, so the server does not start.
    match engine.builds.ensure_build_bridge().await {
        Err(taken @ EngineError::AddressesTaken { .. }) => return Err(taken.into()),
        Err(error) => tracing::debug!(%error, "the build bridge is not there yet: the first build needs it"),
        Ok(_) => {
            if let Err(error) = engine.host.remove_left_filters().await {
                tracing::warn!(%error, "packet filters of a server that was here before are not removed");
            }
        }
    }
    let ssh_listener = bind(config.ssh.listen, "ssh.listen").await?;
    let registry_listener = bind(config.registry.listen, "registry.listen").await?;
    let http_listener = bind(config.http.listen, "http.listen").await?;

    let tracker = TaskTracker::new();
    let stopped = CancellationToken::new();
    tracker.spawn(engine.host.clone().watch_firewall(stopped.clone()));
    let images = ImageStore::open(&config.data_dir)?;
    images.blobs().remove_unfinished()?;
    let token = Registry::random_token();
    let registry = Registry::new(images.clone(), &token);
    tracker.spawn(registry.serve(registry_listener, stopped.clone()));

    let builder =
        Builder::new(Arc::clone(&config), engine.builds.clone(), engine.images.clone(), images.clone(), token.clone())
            .await?;
    let repositories = Repositories::open(&config, Some(&server_id)).await?;
    let driver = Driver::new(tracker.clone(), stopped.clone());
    engine.containers.remove_leftover_archivers().await?;
    let volumes = Volumes::new(Arc::clone(&config), store.clone(), engine.containers.clone(), images.clone());
    let (images_of_apps, opened) = (images.clone(), openings.clone());
    let local = Local::new(Arc::clone(&config), &engine, images_of_apps, opened, volumes.clone(), token)?;
    let runtime = Runtime::Local(local);
    store.set_local_endpoints(config.address_plan()?).await?;
    let link = Link::start(config.data_dir.join("router.sock"), &tracker, stopped.clone());
    let instances =
        Instances::start(Arc::clone(&config), store.clone(), runtime.clone(), link, &driver, &tracker, stopped.clone())
            .await?;
    let schedule = Waker::default();
    let tasks =
        Tasks::new(Arc::clone(&config), store.clone(), runtime, schedule.clone(), tracker.clone(), stopped.clone());
    let deployer = Deployer::new(
        Arc::clone(&config),
        store.clone(),
        engine.images,
        repositories.clone(),
        images,
        builder.clone(),
        instances.clone(),
        tasks.clone(),
        floor.clone(),
        volumes,
        tracker.clone(),
        stopped.clone(),
    );
    let stacks = deployer.stacks();
    let prepare = progress::relay(
        |progress| async move { stacks.prepare(&progress).await },
        |line| async move { tracing::info!("{line}") },
    );
    match shutdown.run_until_cancelled(prepare).await {
        Some(prepared) => prepared?,
        None => return Ok(()),
    }
    deployer.recover().await?;
    if let Some(updates) = StackUpdates::configured(&deployer) {
        driver.start(updates);
    }

    driver.start(GarbageCollection(deployer.clone()));
    let audit = AuditLog::open(store.clone()).await?;
    driver.start(RequestSweep(store.clone()));
    driver.start(EventSweep { store: store.clone(), keep_days: config.events.keep_days });
    tasks.adopt();
    driver.start(WrittenFiles(deployer.clone()));
    driver.start_woken_by(&engine.containers.returned(), TaskSweep(tasks.clone()));
    driver.start_woken_by(&engine.containers.returned(), BuildSweep(engine.builds));
    driver.start(NetworkNames(openings.clone()));
    driver.start_woken_by(&schedule, CronSchedule::new(store.clone(), tasks.clone(), audit.clone(), floor));
    let pushes = AuditedPushes { deployer: deployer.clone(), audit: audit.clone(), store: store.clone() };
    let imports = Imports::new(&config, repositories.clone(), tracker.clone());
    let operations = Operations::new(
        Arc::clone(&config),
        store.clone(),
        deployer,
        instances,
        tasks,
        driver,
        openings,
        imports.clone(),
        audit.clone(),
        tracker.clone(),
        stopped.clone(),
    );
    let commands = Commands::new(Arc::clone(&config), operations.clone());
    let receiver = Receiver::start(&config, repositories, pushes, &imports, &tracker, stopped.clone())?;
    let connections = TaskTracker::new();
    let local = socket::bind(&socket::path(&config.data_dir)).await?;
    let api = Api::new(&config, store.clone(), operations.clone(), connections.clone(), stopped.clone()).await?;
    let http_address = http_listener.local_addr().unwrap_or(config.http.listen);
    let http_socket = socket::bind(&config.data_dir.join("http.sock")).await?;
    for listener in [http::Listener::Tcp(http_listener), http::Listener::Unix(http_socket)] {
        connections.spawn(http::serve(listener, api.clone(), connections.clone(), shutdown.clone()));
    }
    let backend = backend::ServerBackend { commands, operations, receiver };
    let runner = Arc::new(backend.clone());
    connections.spawn(socket::serve(local, runner, connections.clone(), shutdown.clone(), stopped.clone()));
    let ssh_server = ssh::SshServer { config: Arc::clone(&config), store, backend };
    let (tasks, stop, abort) = (connections.clone(), shutdown.clone(), stopped.clone());
    connections.spawn(async move {
        if let Err(error) = ssh::serve(ssh_listener, ssh_server, tasks, stop.clone(), abort).await {
            tracing::error!(%error, "the SSH server failed");
            stop.cancel();
        }
    });
    tracing::info!(ssh = %config.ssh.listen, http = %http_address, %server_id, "ready");

    shutdown.cancelled().await;
    tracing::info!("stopping: running pushes and commands have {} s to end", DRAIN_TIMEOUT.as_secs());
    connections.close();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, connections.wait()).await;
    stopped.cancel();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, builder.close()).await;
    tracker.close();
    let _ = tokio::time::timeout(DRAIN_TIMEOUT, tracker.wait()).await;
    audit.flush().await;
    Ok(())
}

/// Makes the stack's images before the server runs, and prints progress.
pub async fn prepare_stack(config: &Config, shutdown: CancellationToken) -> Result<(), ServerError> {
    // A running server may continue: both make the same images.
    let _lock = match lock_data_dir(config) {
        Err(ServerError::Running(_)) => None,
        locked => Some(locked?),
    };
    let images = ImageStore::open(&config.data_dir)?;
    let bootstrap = progress::relay(
        |progress| async move { StackDefinition::embedded()?.bootstrap(&config.stack, "", &images, &progress).await },
        |line| async move { eprintln!("{line}") },
    );
    match shutdown.run_until_cancelled(bootstrap).await {
        Some(made) => Ok(made.map(drop)?),
        None => Err(ServerError::Interrupted),
    }
}

/// Stops this server's instances and tasks, while the server itself is stopped; its next start starts the instances again.
pub async fn halt(config: &Config) -> Result<(), ServerError> {
    let _lock = lock_data_dir(config)?;
    let engine = Engine::connect(config, &Store::open(&config.data_dir)?.server_id().await?).await?;
    let grace = config.instances.stop_grace();
    let mut containers = engine.containers.list(Some(Kind::Instance)).await?;
    containers.extend(engine.containers.list(Some(Kind::Task)).await?);
    let stopping = containers.iter().map(|container| engine.containers.stop(&container.id, grace));
    // All containers are stopped before the first error is reported.
    let stopped: Vec<_> = stream::iter(stopping).buffer_unordered(MAX_STOPPING).collect().await;
    Ok(stopped.into_iter().collect::<Result<(), EngineError>>()?)
}

/// Removes everything that this server has on the engine, and its mounts, while the server itself is stopped. The data folder
/// is kept, and in it the disks of volumes.
pub async fn purge(config: &Config) -> Result<(), ServerError> {
    let _lock = lock_data_dir(config)?;
    let server_id = Store::open(&config.data_dir)?.server_id().await?;
    let engine = Engine::connect(config, &server_id).await?;
    Builder::unmount_leftovers(config).await?;
    let _ = tokio::task::spawn_blocking(move || git::remove_groups(&server_id)).await;
    engine.remove_all().await?;
    Local::forget_bindings(config).await?;
    // Their files stay in the data folder.
    Ok(Volumes::unmount_all(config).await?)
}

/// Creates the data folder if necessary, and locks it for this process.
fn lock_data_dir(config: &Config) -> Result<File, ServerError> {
    let path = &config.data_dir;
    let failed = |source| ServerError::Data { path: path.clone(), source };
    data_dir::create(path, config.user_id).map_err(failed)?;
    data_dir::lock(&path.join("server.lock")).map_err(failed)?.ok_or_else(|| ServerError::Running(path.clone()))
}

async fn bind(address: std::net::SocketAddr, key: &'static str) -> Result<TcpListener, ServerError> {
    TcpListener::bind(address).await.map_err(|source| ServerError::Listen { address, key, source })
}
