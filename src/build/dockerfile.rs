//! Building a Dockerfile: the engine makes the image; the image store imports it and adds the launcher, so that from
//! there on it is handled like any other image.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{
    builder::{Builder, BuilderShared},
    error::BuildError,
    outbound,
    session::MAX_OUTPUT_MIB,
};
use crate::{
    engine::{DockerfileSpec, EngineError, image_id_in_output},
    lifecycle::{self, protocol::Phase},
    model::{AppName, Digest, Line, Process, ProcessType, Procfile, Secret, dockerfile},
    progress::Progress,
};

/// Maximum length of a line of the engine's output, in bytes; a longer one is split.
const MAX_LINE_LEN: usize = 8 * 1024;

/// A Dockerfile, and what its build needs.
pub struct DockerfileInput {
    /// Name of the app.
    pub app: AppName,
    /// Text of the Dockerfile.
    pub text: String,
    /// The source, as one tar.
    pub source: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// The app's `Procfile`, whose processes replace the image's command.
    pub procfile: Option<Procfile>,
    /// Variables of the build, which become build arguments.
    pub env: BTreeMap<String, Secret>,
    /// Whether base images are pulled again, and every step runs.
    pub no_cache: bool,
}

impl Builder {
    /// Digest of everything that decides the image of a Dockerfile.
    pub fn dockerfile_key(&self, tree: &impl std::fmt::Display, env: &BTreeMap<String, Secret>) -> Digest {
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
        Digest::of(format!("dockerfile 1\n{tree}\n{}\n{env:?}", self.0.lifecycle.digest).as_bytes())
    }

    /// Builds a Dockerfile, when it is this build's turn. Returns the manifest of the image. Dropping the future
    /// cancels the build.
    pub async fn build_dockerfile(
        &self,
        input: DockerfileInput,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<Digest, BuildError> {
        let _turn = tokio::select! {
            turn = self.0.queue.turn(progress) => turn,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let limit = Duration::from_secs(self.0.config.build.timeout_seconds);
        tokio::select! {
            built = self.dockerfile(input, progress) => built,
            () = tokio::time::sleep(limit) => Err(BuildError::TimedOut(limit.as_secs())),
            () = cancel.cancelled() => Err(BuildError::Cancelled),
        }
    }

    /// Removes what the engine has cached of builds of an app's Dockerfile.
    pub async fn remove_dockerfile_cache(&self, app: &AppName) -> Result<(), BuildError> {
        self.0.engine_images.remove_image_tag(&self.0.dockerfile_tag(app)).await?;
        Ok(self.0.builds.remove_step_images(app, &[]).await?)
    }

    async fn dockerfile(&self, input: DockerfileInput, progress: &Progress) -> Result<Digest, BuildError> {
        let DockerfileInput { app, text, source, procfile, env, no_cache } = input;
        let shared = &self.0;
        let labels = shared.builds.dockerfile_labels(&app);
        let invalid =
            |e: dockerfile::InvalidDockerfile| BuildError::Failed { phase: Phase::Build, message: e.to_string() };
        let made = dockerfile::for_engine(&text, &labels).map_err(invalid)?;
        let spec = DockerfileSpec { no_cache, ..shared.dockerfile_spec(&app, env) };
        let images = dockerfile::referenced_images(&made.text, |name| spec.args.get(name).map(String::as_str));
        let images = images.map_err(invalid)?;
        shared.refuse_private(images.bases.iter().chain(&images.copied)).await?;
        if no_cache {
            shared.pull_bases(&images.bases, progress).await?;
        }
        progress.step("Building the Dockerfile").await;
        for warning in &made.warnings {
            progress.trouble(warning.clone()).await;
        }
        let added = added_files(&spec.dockerfile, &made.text).map_err(BuildError::Source)?;
        let context =
            futures_util::stream::once(std::future::ready(Ok(added))).chain(ReaderStream::new(source)).boxed();
        let steps = shared.run_steps(&spec, context, progress).await.map_err(|error| match error {
            BuildError::Failed { phase, message } => BuildError::Failed { phase, message: made.in_original(&message) },
            other => other,
        })?;
        shared.builds.remove_step_images(&app, &steps).await?;

        progress.step("Importing the image").await;
        let (spool, archive) = self.image_archive(&spec.tag).await?;
        let (images, lifecycle) = (shared.images.clone(), shared.lifecycle.path.clone());
        let forget: Vec<String> = labels.into_iter().map(|(name, _)| name).collect();
        let imported = tokio::task::spawn_blocking(move || {
            let image = images.import(&archive)?;
            let launcher = |processes: &[Process]| lifecycle::launcher_layers(&lifecycle, processes, spool.path());
            Ok(images.with_launcher(&image, procfile.map(processes), &forget, launcher)?)
        });
        imported.await.map_err(|_| BuildError::ShuttingDown)?
    }
}

impl BuilderShared {
    fn dockerfile_tag(&self, app: &AppName) -> String {
        self.engine_images.own_tag(&format!("dockerfile/{app}"), "latest")
    }

    fn dockerfile_spec(&self, app: &AppName, env: BTreeMap<String, Secret>) -> DockerfileSpec {
        let limits = &self.config.build;
        let proxies = outbound::environment(&self.config.outbound).into_iter();
        let proxies = proxies.filter(|(name, _)| name.to_ascii_uppercase().ends_with("_PROXY"));
        let args = env.into_iter().map(|(name, value)| (name, value.expose().to_owned()));
        DockerfileSpec {
            tag: self.dockerfile_tag(app),
            app: app.clone(),
            // Random, so that the source has no file of this name.
            dockerfile: format!(".paas-{:016x}.Dockerfile", rand::random::<u64>()),
            args: proxies.chain(args).collect(),
            cpus: limits.cpus,
            memory_mib: limits.memory_mib,
            no_cache: false,
        }
    }

    /// Refuses images of other apps: the engine's builder would use any image that the engine has.
    async fn refuse_private(&self, images: impl Iterator<Item = &String>) -> Result<(), BuildError> {
        for image in images {
            if self.engine_images.is_private(image).await? {
                let message = format!("Dockerfile: {image} is an image that paas itself made; name one of a registry");
                return Err(BuildError::Failed { phase: Phase::Build, message });
            }
        }
        Ok(())
    }

    /// Pulls the base images of a Dockerfile; one that cannot be pulled is used as the engine has it.
    async fn pull_bases(&self, bases: &[String], progress: &Progress) -> Result<(), BuildError> {
        for base in bases {
            progress.step(format!("Pulling {base}")).await;
            let Err(error) = self.engine_images.pull_public(base).await else { continue };
            if self.engine_images.image_id(base).await?.is_some() {
                progress.trouble(format!("{error}; the build uses the {base} that the engine has")).await;
            }
        }
        Ok(())
    }

    /// Has the engine run the steps. Returns their images.
    async fn run_steps(
        &self,
        spec: &DockerfileSpec,
        context: BoxStream<'static, std::io::Result<Bytes>>,
        progress: &Progress,
    ) -> Result<Vec<String>, BuildError> {
        let built = self.builds.build_dockerfile(spec, context).await?;
        let mut output = std::pin::pin!(built);
        let (mut line, mut printed, mut steps) = (String::new(), 0u64, Vec::new());
        let mut step = String::new();
        while let Some(piece) = output.next().await {
            let piece = piece.map_err(|error| self.explain_step(&step, error))?;
            printed += piece.len() as u64;
            if printed > MAX_OUTPUT_MIB << 20 {
                return Err(BuildError::TooMuchOutput(MAX_OUTPUT_MIB));
            }
            for part in piece.split_inclusive('\n') {
                line.push_str(part);
                if !part.ends_with('\n') && line.len() < MAX_LINE_LEN {
                    continue;
                }
                let whole = std::mem::take(&mut line);
                if let Some(instruction) = instruction(&whole) {
                    instruction.trim().clone_into(&mut step);
                }
                match image_id_in_output(&whole) {
                    Some(id) => steps.push(id),
                    None => report(&whole, progress).await,
                }
            }
        }
        report(&line, progress).await;
        Ok(steps)
    }

    fn explain_step(&self, step: &str, error: EngineError) -> BuildError {
        let EngineError::StepFailed(message) = error else { return BuildError::Engine(error) };
        let message = if step.starts_with("FROM ") && !message.contains("parse error") {
            // FROM only fails if the base image cannot be pulled.
            missing_base(step, message.trim())
        } else {
            message
        };
        if message.ends_with("returned a non-zero code: 137") {
            return BuildError::OutOfMemory(self.config.build.memory_mib);
        }
        BuildError::Failed { phase: Phase::Build, message: format!("Dockerfile: {}", Line::sanitize(message.trim())) }
    }
}

/// Why a base image is missing, and what to do.
fn missing_base(step: &str, message: &str) -> String {
    let remedy = "name a buildpack, which builds without the Dockerfile";
    let unreachable = ["no such host", "dial tcp", "timeout", "connection refused", "server misbehaving"];
    if unreachable.iter().any(|sign| message.contains(sign)) {
        format!("{step}: its registry does not respond ({message}); push again when it does, or {remedy}")
    } else {
        format!("{step}: {message}; correct its name, or {remedy}")
    }
}

/// Reports a line of the engine's output.
async fn report(line: &str, progress: &Progress) {
    let line = Line::sanitize(line.trim_end());
    let omitted = ["Removing intermediate container", "Successfully tagged", "Successfully built", " ---> Running in"];
    if line.trim().is_empty() || omitted.iter().any(|begin| line.starts_with(begin)) || line.contains("LABEL \"paas.") {
        return;
    }
    match instruction(&line) {
        Some(instruction) => progress.step(instruction).await,
        None => progress.detail(line).await,
    }
}

/// The instruction, if the line begins a step.
fn instruction(line: &str) -> Option<&str> {
    Some(line.strip_prefix("Step ")?.split_once(" : ")?.1)
}

/// The beginning of a tar: the Dockerfile that is built, and a `.dockerignore` that keeps it out of the image.
fn added_files(dockerfile: &str, text: &str) -> std::io::Result<Bytes> {
    let mut tar = tar::Builder::new(Vec::new());
    let ignore = format!("{dockerfile}\n.dockerignore\n");
    for (name, text) in [(dockerfile, text), (".dockerignore", &ignore)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    // Without the end-of-archive marker: the source follows.
    Ok(Bytes::from(std::mem::take(tar.get_mut())))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_only_called_wrong_if_the_registry_answered() {
        let unreachable = missing_base("FROM a", "Get \"https://r/v2/\": dial tcp: lookup r: no such host");
        assert!(unreachable.contains("its registry does not respond") && !unreachable.contains("correct its name"));
        assert!(missing_base("FROM a", "pull access denied for a").contains("correct its name"));
    }
}
