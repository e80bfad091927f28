//! The test of a buildpack: it builds an app three times, and the image is started.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{
    error::{LocalError, Result},
    folder_build::{FolderBuild, app_name},
    package::package,
    report,
    workspace::Workspace,
};
use crate::{
    engine::{ContainerSpec, ImageId, Input, Kind, OwnerGroup},
    instances::until_accepting,
    model::{BuildpackSource, CONTAINER_PORT, Digest, Exposure, HealthCheck, PartialSize, Process},
    progress::Progress,
};

/// Name of the disk, and so of the build cache, of tests.
const DISK: &str = "trial";
/// Time that the process has until it listens.
const LISTEN_TIMEOUT: Duration = Duration::from_mins(1);
/// Time between two checks whether the process still runs.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// A buildpack to test, and the app to test it with.
#[derive(Debug)]
pub struct BuildpackTest<'a> {
    /// Folder of the buildpack.
    pub buildpack: &'a Path,
    /// Folders of buildpacks that it names.
    pub with: &'a [PathBuf],
    /// Folder of the app that it builds.
    pub app: &'a Path,
}

impl BuildpackTest<'_> {
    /// Runs the test and reports each result; fails if one of them is bad.
    pub(super) async fn run(
        &self,
        workspace: &Workspace,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<()> {
        // A composite buildpack is tested as the file that it is packaged to.
        let spool = tempfile::tempdir().map_err(LocalError::file("make a folder in", &std::env::temp_dir()))?;
        let mut path = std::fs::canonicalize(self.buildpack).map_err(LocalError::file("find", self.buildpack))?;
        if !self.with.is_empty() {
            let packaged = spool.path().join("packaged.cnb");
            package(&path, self.with, &workspace.config.lifecycle(), &packaged)?;
            path = packaged;
        }
        let source = BuildpackSource::Path(path);
        let build = FolderBuild { folder: self.app.to_owned(), buildpacks: vec![source], ..FolderBuild::default() };
        workspace.remove_disk(DISK).await?;

        progress.header("First build, without a cache").await;
        let (first, cold) = timed(build.run(workspace, DISK, None, progress, cancel)).await?;
        progress.header("Second build, with the cache of the first").await;
        let (second, warm) = timed(build.run(workspace, DISK, Some(first.clone()), progress, cancel)).await?;
        progress.header("Third build, without a cache again").await;
        workspace.remove_disk(DISK).await?;
        let (third, _) = timed(build.run(workspace, DISK, None, progress, cancel)).await?;

        progress.header("Starting it").await;
        let tag = workspace.engine.images.own_tag("trial", "latest");
        let image = workspace.load_image(&second, &tag).await?;
        let started = self.start(workspace, &second, &image, progress).await;
        workspace.engine.images.remove_image_tag(&tag).await?;
        workspace.remove_disk(DISK).await?;

        progress.header("Report").await;
        progress.detail(format!("first build   {:>6.1} s", cold.as_secs_f64())).await;
        progress.detail(format!("second build  {:>6.1} s", warm.as_secs_f64())).await;
        for layer in workspace.images.describe(&second)? {
            progress.detail(report::layer_line(&layer)).await;
        }
        let layers = differing_layers(workspace, &first, &second)?;
        self.compare("the cache gives the same image", layers, progress).await;
        let layers = differing_layers(workspace, &first, &third)?;
        self.compare("a build without it gives the same image", layers, progress).await;
        match started {
            Ok(time) => {
                progress.detail(format!("ok    the process listens after {:.1} s", time.as_secs_f64())).await;
                if first == second && first == third {
                    return Ok(());
                }
                Err(LocalError::Wrong("the builds gave different images: the layers named above differ".to_owned()))
            }
            Err(error) => {
                progress.trouble("the process does not run").await;
                Err(error)
            }
        }
    }

    async fn compare(&self, what: &str, layers: Vec<String>, progress: &Progress) {
        if layers.is_empty() {
            progress.detail(format!("ok    {what}")).await;
        } else {
            progress.trouble(format!("{what}: no, these layers differ: {}", layers.join(", "))).await;
        }
    }

    /// Starts the default process and waits until it listens.
    async fn start(
        &self,
        workspace: &Workspace,
        manifest: &Digest,
        image: &ImageId,
        progress: &Progress,
    ) -> Result<Duration> {
        let processes = workspace.images.processes(manifest)?;
        let process =
            processes.iter().find(|p| p.default).or_else(|| processes.iter().find(|p| p.process_type.is_web()));
        let Process { process_type, .. } = process
            .ok_or_else(|| LocalError::Wrong("the image has no default process and no process named web".to_owned()))?;
        let limits = &workspace.config.instances;
        let id = format!("trial-{:016x}", rand::random::<u64>());
        let address = workspace.config.address_plan()?.instance(0, 0);
        let spec = ContainerSpec {
            name: id,
            kind: Kind::Instance,
            app: app_name(self.app)?,
            process: process_type.to_string(),
            release: 1,
            image: image.clone(),
            address,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: vec![format!("PORT={CONTAINER_PORT}")],
            limit: workspace.config.default_size()?,
            reserve: PartialSize::default(),
            group: OwnerGroup { name: "admins".to_owned(), memory_mib: None },
            pids: limits.pids,
            log_mib: limits.log_mib,
            disk_mib: limits.disk_mib,
            stop_grace: Duration::from_secs(1),
            own_user: false,
            input: Input::None,
            launcher_is_init: true,
            names: Vec::new(),
            launcher: None,
            mounts: Vec::new(),
        };
        let container = workspace.engine.containers.create_workload(&spec).await?;
        let begun = Instant::now();
        workspace.engine.containers.start(&container).await?;
        let check = HealthCheck::default_for(Exposure::by_convention(process_type));
        let healthy = until_accepting(SocketAddr::new(address.into(), CONTAINER_PORT), &check);
        let ends = async {
            while workspace.engine.containers.inspect(container.as_str()).await?.is_some_and(|c| c.state.is_alive()) {
                tokio::time::sleep(POLL_INTERVAL).await;
            }
            Ok::<_, LocalError>(())
        };
        let is_healthy = tokio::select! {
            outcome = timeout(LISTEN_TIMEOUT, healthy) => outcome.is_ok_and(|outcome| outcome.is_ok()),
            ended = ends => ended.map(|()| false)?,
        };
        let ended = workspace
            .engine
            .containers
            .inspect(container.as_str())
            .await?
            .and_then(|c| c.exit_code.filter(|_| !c.state.is_alive()));
        let log = workspace.engine.containers.last_lines(&container, 20).await;
        workspace.engine.containers.remove(&container).await?;
        if is_healthy {
            return Ok(begun.elapsed());
        }
        for line in log {
            progress.detail(line).await;
        }
        Err(LocalError::Wrong(match ended {
            Some(code) => {
                format!("{process_type} ended with status {code} before it listened on port {CONTAINER_PORT}")
            }
            None => format!("{process_type} does not listen on $PORT ({CONTAINER_PORT}) on every address"),
        }))
    }
}

async fn timed<T>(work: impl Future<Output = Result<T>>) -> Result<(T, Duration)> {
    let begun = Instant::now();
    let made = work.await?;
    Ok((made, begun.elapsed()))
}

/// The layers of one image that another does not have.
fn differing_layers(workspace: &Workspace, one: &Digest, other: &Digest) -> Result<Vec<String>> {
    let (one, other) = (workspace.images.describe(one)?, workspace.images.describe(other)?);
    let differing = one.iter().filter(|layer| other.iter().all(|o| o.digest != layer.digest));
    Ok(differing.map(|layer| layer.created_by.clone()).collect())
}
