//! A buildpack on trial: it builds an app three times, and what it built is started.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{LocalError, Order, Result, Site, app_name, report};
use crate::{
    engine::{ImageId, InstanceSpec},
    instances::until_healthy,
    model::{BuildpackSource, CONTAINER_PORT, Digest, HealthCheck, InstanceId, Process},
    progress::Progress,
};

/// The cache of trials.
const DISK: &str = "trial";
/// How long the process has until it listens.
const PATIENCE: Duration = Duration::from_mins(1);
/// How often it is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(200);

/// What is tried.
#[derive(Debug)]
pub struct Trial<'a> {
    /// The buildpack's folder.
    pub buildpack: &'a Path,
    /// Folders of buildpacks that it names.
    pub with: &'a [PathBuf],
    /// The app that it builds.
    pub app: &'a Path,
}

impl Trial<'_> {
    /// Runs it; says what happened line by line, and fails with what is wrong.
    pub async fn run(&self, site: &Site, progress: &Progress, cancel: &CancellationToken) -> Result<()> {
        // One that names others is tried as the file that it is packaged to.
        let spool = tempfile::tempdir().map_err(super::failed("make a folder in", &std::env::temp_dir()))?;
        let mut path = std::fs::canonicalize(self.buildpack).map_err(super::failed("find", self.buildpack))?;
        if !self.with.is_empty() {
            let packaged = spool.path().join("packaged.cnb");
            super::package(&path, self.with, &site.config.lifecycle(), &packaged)?;
            path = packaged;
        }
        let source = BuildpackSource::Path(path);
        let order = Order { folder: self.app.to_owned(), buildpacks: vec![source], ..Order::default() };
        site.forget(DISK).await?;

        progress.header("First build, without a cache").await;
        let (first, cold) = timed(site.build(&order, DISK, None, progress, cancel)).await?;
        progress.header("Second build, with the cache of the first").await;
        let (second, warm) = timed(site.build(&order, DISK, Some(first.clone()), progress, cancel)).await?;
        progress.header("Third build, without a cache again").await;
        site.forget(DISK).await?;
        let (third, _) = timed(site.build(&order, DISK, None, progress, cancel)).await?;

        progress.header("Starting it").await;
        let tag = site.engine.own_tag("trial", "latest");
        let image = site.hand_over(&second, &tag).await?;
        let started = self.start(site, &second, &image, progress).await;
        site.engine.remove_image_tag(&tag).await?;
        site.forget(DISK).await?;

        progress.header("Report").await;
        progress.detail(format!("first build   {:>6.1} s", cold.as_secs_f64())).await;
        progress.detail(format!("second build  {:>6.1} s", warm.as_secs_f64())).await;
        for layer in site.images.describe(&second)? {
            progress.detail(report::row(&layer)).await;
        }
        let differing = differing(site, &first, &second)?;
        self.judge("the cache gives the same image", differing, progress).await;
        let differing = self::differing(site, &first, &third)?;
        self.judge("a build without it gives the same image", differing, progress).await;
        match started {
            Ok(time) => {
                progress.detail(format!("ok    the process listens after {:.1} s", time.as_secs_f64())).await;
                if first == second && first == third {
                    return Ok(());
                }
                Err(LocalError::Wrong("the image is not the same each time: the layers named above differ".to_owned()))
            }
            Err(error) => {
                progress.trouble("the process does not run".to_owned()).await;
                Err(error)
            }
        }
    }

    async fn judge(&self, what: &str, differing: Vec<String>, progress: &Progress) {
        if differing.is_empty() {
            progress.detail(format!("ok    {what}")).await;
        } else {
            progress.trouble(format!("{what}: no, these layers differ: {}", differing.join(", "))).await;
        }
    }

    /// Starts the default process and waits until it listens.
    async fn start(&self, site: &Site, manifest: &Digest, image: &ImageId, progress: &Progress) -> Result<Duration> {
        let processes = site.images.processes(manifest)?;
        let process =
            processes.iter().find(|p| p.default).or_else(|| processes.iter().find(|p| p.process_type.is_web()));
        let Process { process_type, .. } = process
            .ok_or_else(|| LocalError::Wrong("the image has no default process, and none called web".to_owned()))?;
        site.engine.ensure_app_bridge(0).await?;
        let limits = &site.config.instances;
        let id = format!("trial-{:016x}", rand::random::<u64>());
        let id: InstanceId = id.parse().map_err(|e: crate::model::InvalidName| LocalError::Wrong(e.to_string()))?;
        let address = site.engine.address(0, 0);
        let spec = InstanceSpec {
            id,
            app: app_name(self.app)?,
            process_type: process_type.clone(),
            release: 1,
            image: image.clone(),
            bridge: 0,
            address,
            entrypoint: Vec::new(),
            cmd: Vec::new(),
            env: vec![format!("PORT={CONTAINER_PORT}")],
            cpu_millis: limits.cpu_millis,
            memory_mib: limits.memory_mib,
            pids: limits.pids,
            stop_grace: Duration::from_secs(1),
            labels: std::collections::BTreeMap::new(),
            own_user: false,
        };
        let container = site.engine.create_instance(&spec).await?;
        let begun = Instant::now();
        site.engine.start(&container).await?;
        let check = HealthCheck::default_for(process_type);
        let healthy = until_healthy(SocketAddr::new(address.into(), CONTAINER_PORT), &check);
        let ends = async {
            while site.engine.inspect(container.as_str()).await?.is_some_and(|c| c.state.is_alive()) {
                tokio::time::sleep(LOOK).await;
            }
            Ok::<_, LocalError>(())
        };
        let outcome = tokio::select! {
            outcome = timeout(PATIENCE, healthy) => outcome.is_ok_and(|outcome| outcome.is_ok()),
            ended = ends => ended.map(|()| false)?,
        };
        let ended =
            site.engine.inspect(container.as_str()).await?.and_then(|c| c.exit_code.filter(|_| !c.state.is_alive()));
        let log = site.engine.last_lines(&container, 20).await;
        site.engine.remove(&container).await?;
        if outcome {
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

/// The layers that two images do not share.
fn differing(site: &Site, one: &Digest, other: &Digest) -> Result<Vec<String>> {
    let (one, other) = (site.images.describe(one)?, site.images.describe(other)?);
    let lacking = one.iter().filter(|layer| other.iter().all(|o| o.digest != layer.digest));
    Ok(lacking.map(|layer| layer.created_by.clone()).collect())
}
