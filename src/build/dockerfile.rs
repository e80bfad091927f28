//! Building a Dockerfile: the lifecycle has buildah build it in the build container; the image store adds the launcher, so
//! that from there on the image is handled like any other.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
};

use tokio_util::sync::CancellationToken;

use super::{
    FinishedBuild,
    budget::{BuildBudget, Turn},
    builder::{Builder, BuilderShared},
    disks::dockerfile_disk,
    environment::{BuildEnvironment, log_timings},
    error::BuildError,
    offered_store::OfferedImages,
    outbound,
    session::SentBlobs,
};
use crate::{
    engine::{BuildSpec, ImageId, Mount},
    images::{dockerfile_builder_key, without_effect},
    lifecycle::{
        self,
        protocol::{BuildResult, BuiltImage, DockerfileRequest, KnownLayer, Login, Request},
    },
    model::{AppName, Digest, DockerfilePath, MountPath, Process, ProcessType, Procfile, Secret, StageName},
    progress::Progress,
    store::RegistryLogin,
};

/// A Dockerfile, and what its build needs.
pub struct DockerfileInput {
    /// Name of the app.
    pub app: AppName,
    /// Name of the app's disk, which no other app ever has.
    pub disk: String,
    /// Whose turn it takes, and what it may use.
    pub budget: BuildBudget,
    /// The source, as one tar.
    pub source: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// What is built of it.
    pub dockerfile: ChosenDockerfile,
    /// The app's `Procfile`, whose processes replace the image's command.
    pub procfile: Option<Procfile>,
    /// Variables of the build, which become build arguments and secrets.
    pub env: BTreeMap<String, Secret>,
    /// Logins of registries for base images.
    pub logins: Vec<RegistryLogin>,
    /// Manifest of the app's previous image, and of the images that the operator offers; their layers need not be sent.
    pub known_images: Vec<Digest>,
    /// Whether base images are pulled again, and every step runs.
    pub no_cache: bool,
    /// Paths at which something is mounted into the app's containers.
    pub mounted: Vec<MountPath>,
}

/// The Dockerfile of an app, and the stage that is built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenDockerfile {
    /// Path in the source.
    pub path: DockerfilePath,
    /// Stage; without one, the last.
    pub target: Option<StageName>,
}

impl Builder {
    /// Digest of everything that decides the image of a Dockerfile.
    pub fn dockerfile_key(
        &self,
        tree: &impl std::fmt::Display,
        dockerfile: &ChosenDockerfile,
        env: &BTreeMap<String, Secret>,
    ) -> Digest {
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
        let (lifecycle, builder) = (&self.0.lifecycle.digest, dockerfile_builder_key());
        Digest::of(format!("dockerfile 2\n{tree}\n{lifecycle}\n{builder}\n{dockerfile:?}\n{env:?}").as_bytes())
    }

    /// Builds a Dockerfile, when it is this build's turn. Returns the manifest of the image. Dropping the future
    /// cancels the build.
    pub async fn build_dockerfile(
        &self,
        input: DockerfileInput,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<FinishedBuild, BuildError> {
        // Waiting for it in a turn would keep other builds from theirs.
        let offered = tokio::select! {
            offered = self.0.offered.read(progress) => offered?,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let budget = input.budget;
        let build = |shared: Arc<BuilderShared>, turn, progress: Progress, cancel| async move {
            shared.dockerfile(input, &offered, turn, &progress, &cancel).await
        };
        self.in_turn(budget, progress, cancel, build).await
    }
}

impl BuilderShared {
    async fn dockerfile(
        self: &Arc<Self>,
        input: DockerfileInput,
        offered: &OfferedImages,
        turn: Turn,
        progress: &Progress,
        cancel: &CancellationToken,
    ) -> Result<FinishedBuild, BuildError> {
        let DockerfileInput {
            app,
            disk,
            budget,
            source,
            dockerfile,
            procfile,
            env,
            logins,
            known_images,
            no_cache,
            mounted,
        } = input;
        let known_layers = self.layers_of(known_images).await?;
        let request = DockerfileRequest {
            dockerfile: dockerfile.path.to_string(),
            target: dockerfile.target.map(|stage| stage.to_string()),
            env: env.iter().map(|(name, value)| (name.clone(), value.expose().to_owned())).collect(),
            operator_env: outbound::environment(&self.config.outbound),
            logins: logins.into_iter().map(login).collect(),
            known_layers,
            no_cache,
        };
        let known: HashSet<_> = request.known_layers.iter().map(|layer| layer.digest.clone()).collect();
        let spec = self.dockerfile_spec(offered.mount(), progress);
        let mut environment =
            BuildEnvironment::open(self, spec, &app, &dockerfile_disk(&disk), budget.size, cancel).await?;
        let sent = SentBlobs::default();
        let (session, request) = (self.session(&known, &sent, progress), Request::Dockerfile(request));
        let image = match environment.run(&session, &request, source, &self.config, cancel).await {
            Ok(BuildResult::Image(built)) => {
                for line in without_effect(&built.config, &app, &mounted) {
                    progress.trouble(line).await;
                }
                self.with_launcher(&app, *built, procfile, env).await
            }
            Ok(_) => Err(BuildError::Protocol("it did something else than to build the Dockerfile".to_owned())),
            Err(error) => Err(error),
        };
        self.close(environment, turn, &image).await;
        match image {
            Ok(image) => {
                self.remove_one_disk(&disk).await;
                Ok(FinishedBuild { image, buildpacks: Vec::new(), new_blobs: sent.take() })
            }
            Err(error) => {
                self.remove_blobs(sent.take()).await;
                Err(error)
            }
        }
    }

    /// The layers of images that the blob store has, with their sizes.
    async fn layers_of(self: &Arc<Self>, images: Vec<Digest>) -> Result<Vec<KnownLayer>, BuildError> {
        self.blocking(move |this| {
            let (mut layers, mut seen) = (Vec::new(), HashSet::new());
            for image in images.iter().filter(|image| this.images.blobs().has(image)) {
                for digest in this.images.layers(image)? {
                    let is_there = this.images.blobs().use_again(&digest)?;
                    if let (true, Some(size), true) =
                        (is_there, this.images.blobs().size(&digest)?, seen.insert(digest.clone()))
                    {
                        layers.push(KnownLayer { digest, size });
                    }
                }
            }
            Ok(layers)
        })
        .await
    }

    /// The container of any app's build of a Dockerfile; `offered` is the mount of the offered images.
    pub(super) async fn dockerfile_spec(
        self: &Arc<Self>,
        offered: Option<Mount>,
        progress: &Progress,
    ) -> Result<BuildSpec, BuildError> {
        let tag = self.engine_images.own_tag("dockerfile-builder", &dockerfile_builder_key());
        let image = match self.engine_images.image_id(&tag).await? {
            Some(image) => image,
            None => self.load_dockerfile_builder(&tag, progress).await?,
        };
        Ok(BuildSpec { namespaces: true, ..self.container_spec(image, offered.into_iter().collect()) })
    }

    async fn load_dockerfile_builder(&self, tag: &str, progress: &Progress) -> Result<ImageId, BuildError> {
        progress.step("Preparing the image in which Dockerfiles are built (only once)").await;
        // Others wait for it inside, but the builds of buildpacks do not.
        let manifest = self.images.dockerfile_builder(&self.config.stack, progress).await?;
        let _one_at_a_time = self.pull.lock().await;
        if let Some(image) = self.engine_images.image_id(tag).await? {
            return Ok(image);
        }
        progress.detail("Loading it into Docker").await;
        self.pull_build_image(&format!("dockerfile-builder@{manifest}"), tag).await
    }

    async fn with_launcher(
        self: &Arc<Self>,
        app: &AppName,
        built: BuiltImage,
        procfile: Option<Procfile>,
        env: BTreeMap<String, Secret>,
    ) -> Result<Digest, BuildError> {
        log_timings(app, &built.timings);
        let spool = self.packages.staging()?;
        self.blocking(move |this| {
            let image = this.images.put_built(&built, env.iter())?;
            let launcher =
                |processes: &[Process]| lifecycle::launcher_layer(&this.lifecycle.path, processes, spool.path());
            Ok(this.images.with_launcher(&image, procfile.map(processes), launcher)?)
        })
        .await
    }
}

fn login(RegistryLogin { host, username, password }: RegistryLogin) -> Login {
    Login { host: host.to_string(), username, password: password.expose().to_owned() }
}

/// The processes of the `Procfile`, run by the image's shell.
fn processes(Procfile(entries): Procfile) -> Vec<Process> {
    let process = |(process_type, command): (ProcessType, String)| Process {
        default: process_type.is_web(),
        process_type,
        command: vec!["/bin/sh".to_owned(), "-c".to_owned(), command],
        args: Vec::new(),
        direct: true,
        working_dir: None,
    };
    entries.into_iter().map(process).collect()
}
