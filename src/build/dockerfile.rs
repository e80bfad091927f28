//! Building a Dockerfile: the engine makes the image, the image store takes it over and puts the launcher into it, so
//! that from there on it goes the way of every other image.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt as _, stream::BoxStream};
use tokio_util::{io::ReaderStream, sync::CancellationToken};

use super::{BuildError, Builder, Inner, session::MOST_OUTPUT_MIB};
use crate::{
    engine::{DockerfileSpec, EngineError, image_id_in_output},
    lifecycle::protocol::Phase,
    model::{AppName, Digest, Line, Process, ProcessType, Procfile, Secret, dockerfile},
    progress::Progress,
};

/// A Dockerfile, and what belongs to it.
pub struct DockerfileInput {
    /// For which app.
    pub app: AppName,
    /// Its text.
    pub text: String,
    /// The source, as one tar.
    pub source: Box<dyn tokio::io::AsyncRead + Send + Unpin>,
    /// The processes that the app declares, instead of the image's command.
    pub procfile: Option<Procfile>,
    /// Variables of the build: its arguments.
    pub env: BTreeMap<String, Secret>,
    /// Whether base images are asked for again, and every step runs.
    pub anew: bool,
}

impl Builder {
    /// What decides the image of a Dockerfile, besides the source.
    pub fn dockerfile_key(&self, tree: &impl std::fmt::Display, env: &BTreeMap<String, Secret>) -> Digest {
        let env: Vec<_> = env.iter().map(|(name, value)| format!("{name}={}", value.expose())).collect();
        Digest::of(format!("dockerfile 1\n{tree}\n{}\n{env:?}", self.inner.lifecycle_digest).as_bytes())
    }

    /// Builds a Dockerfile, when it is this build's turn; gives back the image's manifest. Dropping the future cancels it.
    pub async fn build_dockerfile(
        &self,
        input: DockerfileInput,
        progress: &Progress,
        cancel: CancellationToken,
    ) -> Result<Digest, BuildError> {
        let _turn = tokio::select! {
            turn = self.inner.queue.turn(progress) => turn,
            () = cancel.cancelled() => return Err(BuildError::Cancelled),
        };
        let limit = Duration::from_secs(self.inner.config.build.timeout_seconds);
        tokio::select! {
            built = self.dockerfile(input, progress) => built,
            () = tokio::time::sleep(limit) => Err(BuildError::TimedOut(limit.as_secs())),
            () = cancel.cancelled() => Err(BuildError::Cancelled),
        }
    }

    /// Removes what builds of an app's Dockerfile have cached on the engine.
    pub async fn forget_dockerfile(&self, app: &AppName) -> Result<(), BuildError> {
        let engine = &self.inner.engine;
        engine.remove_image_tag(&self.inner.dockerfile_tag(app)).await?;
        Ok(engine.remove_step_images(app, &[]).await?)
    }

    async fn dockerfile(&self, input: DockerfileInput, progress: &Progress) -> Result<Digest, BuildError> {
        let DockerfileInput { app, text, source, procfile, env, anew } = input;
        let inner = &self.inner;
        let labels = inner.engine.dockerfile_labels(&app);
        let invalid =
            |e: dockerfile::InvalidDockerfile| BuildError::Failed { phase: Phase::Build, message: e.to_string() };
        let made = dockerfile::for_engine(&text, &labels).map_err(invalid)?;
        let spec = DockerfileSpec { no_cache: anew, ..inner.dockerfile_spec(&app, env) };
        let images = dockerfile::images(&made.text, |name| spec.args.get(name).map(String::as_str));
        let images = images.map_err(invalid)?;
        inner.refuse_private(images.bases.iter().chain(&images.copied)).await?;
        if anew {
            inner.renew_bases(&images.bases, progress).await?;
        }
        progress.step("Building the Dockerfile").await;
        for unused in &made.unused {
            progress.trouble(unused.clone()).await;
        }
        let own = own_files(&spec.dockerfile, &made.text).map_err(BuildError::Source)?;
        let context = futures_util::stream::once(std::future::ready(Ok(own))).chain(ReaderStream::new(source)).boxed();
        let steps = inner.run_steps(&spec, context, progress).await.map_err(|error| match error {
            BuildError::Failed { phase, message } => BuildError::Failed { phase, message: made.in_original(&message) },
            other => other,
        })?;
        inner.engine.remove_step_images(&app, &steps).await?;

        progress.step("Taking the image over").await;
        let (spool, archive) = self.image_archive(&spec.tag).await?;
        let (images, lifecycle) = (inner.images.clone(), inner.lifecycle.clone());
        let forget: Vec<String> = labels.into_iter().map(|(name, _)| name).collect();
        let taken = tokio::task::spawn_blocking(move || {
            let image = images.import(&archive)?;
            let launcher =
                |processes: &[Process]| crate::lifecycle::launcher_layers(&lifecycle, processes, spool.path());
            Ok(images.with_launcher(&image, procfile.map(processes), &forget, launcher)?)
        });
        taken.await.map_err(|_| BuildError::ShuttingDown)?
    }
}

impl Inner {
    fn dockerfile_tag(&self, app: &AppName) -> String {
        self.engine.own_tag(&format!("dockerfile/{app}"), "latest")
    }

    fn dockerfile_spec(&self, app: &AppName, env: BTreeMap<String, Secret>) -> DockerfileSpec {
        let limits = &self.config.build;
        let proxies = super::outbound::environment(&self.config.outbound).into_iter();
        let proxies = proxies.filter(|(name, _)| name.to_ascii_uppercase().ends_with("_PROXY"));
        let args = env.into_iter().map(|(name, value)| (name, value.expose().to_owned()));
        DockerfileSpec {
            tag: self.dockerfile_tag(app),
            app: app.clone(),
            // No source has a file of this name, which would be taken instead.
            dockerfile: format!(".paas-{:016x}.Dockerfile", rand::random::<u64>()),
            args: proxies.chain(args).collect(),
            cpus: limits.cpus,
            memory_mib: limits.memory_mib,
            no_cache: false,
        }
    }

    /// The engine's builder takes whatever image the engine has: other apps' are not for everybody.
    async fn refuse_private(&self, images: impl Iterator<Item = &String>) -> Result<(), BuildError> {
        for image in images {
            if self.engine.is_private(image).await? {
                let message = format!("Dockerfile: {image} is an image of paas's own; name one of a registry");
                return Err(BuildError::Failed { phase: Phase::Build, message });
            }
        }
        Ok(())
    }

    /// Pulls the images that a Dockerfile stands on; keeps what the engine has of those that no registry gives.
    async fn renew_bases(&self, bases: &[String], progress: &Progress) -> Result<(), BuildError> {
        for base in bases {
            progress.step(format!("Pulling {base}")).await;
            let Err(error) = self.engine.pull_public(base).await else { continue };
            if self.engine.image_id(base).await?.is_some() {
                progress.trouble(format!("{error}; the build goes on with the {base} that is here")).await;
            }
        }
        Ok(())
    }

    /// Builds; gives back the images of the steps.
    async fn run_steps(
        &self,
        spec: &DockerfileSpec,
        context: BoxStream<'static, std::io::Result<Bytes>>,
        progress: &Progress,
    ) -> Result<Vec<String>, BuildError> {
        let built = self.engine.build_dockerfile(spec, context).await?;
        let mut pieces = std::pin::pin!(built);
        let (mut line, mut printed, mut steps) = (String::new(), 0u64, Vec::new());
        let mut step = String::new();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(|error| self.explain_step(&step, error))?;
            printed += piece.len() as u64;
            if printed > MOST_OUTPUT_MIB << 20 {
                return Err(BuildError::TooMuchOutput(MOST_OUTPUT_MIB));
            }
            for part in piece.split_inclusive('\n') {
                line.push_str(part);
                if !part.ends_with('\n') && line.len() < LONGEST_LINE {
                    continue;
                }
                let whole = std::mem::take(&mut line);
                if let Some(instruction) = instruction(&whole) {
                    instruction.trim().clone_into(&mut step);
                }
                match image_id_in_output(&whole) {
                    Some(id) => steps.push(id),
                    None => tell(&whole, progress).await,
                }
            }
        }
        tell(&line, progress).await;
        Ok(steps)
    }

    fn explain_step(&self, step: &str, error: EngineError) -> BuildError {
        let EngineError::StepFailed(message) = error else { return BuildError::Engine(error) };
        let message = if step.starts_with("FROM ") && !message.contains("parse error") {
            // Only an image that cannot be had fails there.
            no_base(step, message.trim())
        } else {
            message
        };
        if message.ends_with("returned a non-zero code: 137") {
            return BuildError::OutOfMemory(self.config.build.memory_mib);
        }
        BuildError::Failed { phase: Phase::Build, message: format!("Dockerfile: {}", Line::sanitize(message.trim())) }
    }
}

/// Why there is no image to begin with, and what to do.
fn no_base(step: &str, message: &str) -> String {
    let remedy = "name a buildpack, which builds without the Dockerfile";
    let unreached = ["no such host", "dial tcp", "timeout", "connection refused", "server misbehaving"];
    if unreached.iter().any(|sign| message.contains(sign)) {
        format!("{step}: its registry does not answer ({message}); push again when it does, or {remedy}")
    } else {
        format!("{step}: {message}; correct its name, or {remedy}")
    }
}

/// The longest line that is shown whole, in bytes.
const LONGEST_LINE: usize = 8 * 1024;

/// What the engine prints, in the grammar of pushes.
async fn tell(line: &str, progress: &Progress) {
    let line = Line::sanitize(line.trim_end());
    let nothing = ["Removing intermediate container", "Successfully tagged", "Successfully built", " ---> Running in"];
    if line.trim().is_empty() || nothing.iter().any(|begin| line.starts_with(begin)) || line.contains("LABEL \"paas.") {
        return;
    }
    match instruction(&line) {
        Some(instruction) => progress.step(instruction).await,
        None => progress.detail(line).await,
    }
}

/// The instruction that a step begins with.
fn instruction(line: &str) -> Option<&str> {
    Some(line.strip_prefix("Step ")?.split_once(" : ")?.1)
}

/// The beginning of a tar: our Dockerfile, and a `.dockerignore` that keeps it out of the image.
fn own_files(dockerfile: &str, text: &str) -> std::io::Result<Bytes> {
    let mut tar = tar::Builder::new(Vec::new());
    let ignore = format!("{dockerfile}\n.dockerignore\n");
    for (name, text) in [(dockerfile, text), (".dockerignore", &ignore)] {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, text.as_bytes())?;
    }
    // Without the end of the tar: the source follows.
    Ok(Bytes::from(std::mem::take(tar.get_mut())))
}

/// What the Procfile declares, run by the image's shell.
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
    fn a_name_is_only_wrong_where_somebody_said_so() {
        let unreached = no_base("FROM a", "Get \"https://r/v2/\": dial tcp: lookup r: no such host");
        assert!(unreached.contains("its registry does not answer") && !unreached.contains("correct its name"));
        assert!(no_base("FROM a", "pull access denied for a").contains("correct its name"));
    }
}
