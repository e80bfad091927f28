//! Builds of Dockerfiles by the engine's classic builder, whose steps run on the build bridge and within limits. (Steps of
//! BuildKit run on the engine's own network, from which the host can be reached.)

use std::collections::HashMap;

use bollard::{
    body_try_stream,
    models::ImageSummary,
    query_parameters::{BuildImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder},
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream::BoxStream};

use super::{
    cgroup,
    error::{Act, EngineError, Result, status},
    handle::Builds,
    label::{self, Kind},
};
use crate::model::AppName;

/// Maximum memory limit of a build in the engine's API, in bytes.
const MAX_MEMORY_BYTES: u64 = i32::MAX as u64;
/// Period of the CPU limit, in microseconds.
const CPU_PERIOD: i32 = 100_000;

/// Specification of a build. Not `Debug`: its arguments may be secrets.
#[derive(Clone)]
pub struct DockerfileSpec {
    /// Owning app.
    pub app: AppName,
    /// Tag for the image; a tag of this server.
    pub tag: String,
    /// Name of the Dockerfile in the build context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: HashMap<String, String>,
    /// CPU limit.
    pub cpus: u32,
    /// Memory limit in MiB; at most 2 GiB.
    pub memory_mib: u64,
    /// Whether to run all steps, without the cache of earlier builds.
    pub no_cache: bool,
}

impl Builds {
    /// Labels of the images of all steps of an app's Dockerfile.
    pub fn dockerfile_labels(&self, app: &AppName) -> Vec<(String, String)> {
        let own = [
            (label::SERVER, self.0.server_id().to_owned()),
            (label::KIND, Kind::Image.as_str().to_owned()),
            (label::APP, app.to_string()),
        ];
        own.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// Starts a build; the returned stream has its output, in lines or parts of lines. Dropping the stream cancels the
    /// build. The error is [`EngineError::StepFailed`] if the cause is in the Dockerfile.
    pub async fn build_dockerfile(
        &self,
        spec: &DockerfileSpec,
        context: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = Result<String>> + Send> {
        let network = self.ensure_build_bridge().await?;
        let memory = i32::try_from((spec.memory_mib << 20).min(MAX_MEMORY_BYTES)).unwrap_or(i32::MAX);
        let quota = self.0.nano_cpus(u64::from(spec.cpus) * 1000) / i64::from(1_000_000_000 / CPU_PERIOD);
        let active_group = self.0.activate_build_group().await;
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(&spec.dockerfile)
            .t(&spec.tag)
            .rm(true)
            .nocache(spec.no_cache)
            .forcerm(true)
            .networkmode(&network)
            .memory(memory)
            .memswap(memory)
            .cpuperiod(CPU_PERIOD)
            .cpuquota(i32::try_from(quota).unwrap_or(i32::MAX))
            .cpushares(cgroup::CPU_SHARES)
            .buildargs(&spec.args)
            .build();
        let docker = if active_group.is_some() { &self.0.shared.docker_in_build_group } else { self.0.docker() };
        let stream = docker.build_image(options, None, Some(body_try_stream(context)));
        Ok(stream
            .map_err(|e| match e {
                bollard::errors::Error::DockerStreamError { error } => EngineError::StepFailed(error),
                bollard::errors::Error::DockerResponseServerError { status_code: 400, message } => {
                    EngineError::StepFailed(message)
                }
                e => EngineError::docker(Act::Build, "the Dockerfile")(e),
            })
            .try_filter_map(move |info| {
                // Held until the stream ends.
                let _ = &active_group;
                let failed = info.error_detail.and_then(|detail| detail.message);
                std::future::ready(match failed {
                    Some(message) => Err(EngineError::StepFailed(message)),
                    None => Ok(info.stream),
                })
            }))
    }

    /// Removes the images of the steps of an app's Dockerfile, except those whose ids begin with one of `keep` and those
    /// that other images are based on.
    pub async fn remove_step_images(&self, app: &AppName, keep: &[String]) -> Result<()> {
        let labels = self.dockerfile_labels(app).iter().map(|(name, value)| format!("{name}={value}")).collect();
        for image in self.untagged_images(labels).await? {
            let short = image.id.trim_start_matches("sha256:");
            if keep.iter().any(|id| short.starts_with(id.as_str())) {
                continue;
            }
            let options = RemoveImageOptionsBuilder::new().force(false).build();
            match self.0.docker().remove_image(&image.id, Some(options), None).await {
                Ok(_) => {}
                // It does not exist any more, or is in use.
                Err(e) if matches!(status(&e), Some(404 | 409)) => {}
                Err(e) => return Err(EngineError::docker(Act::Remove, format!("image {}", image.id))(e)),
            }
        }
        Ok(())
    }

    /// Removes the images of the steps of all apps' Dockerfiles.
    pub(super) async fn remove_all_step_images(&self) -> Result<()> {
        let images = self.untagged_images(vec![format!("{}={}", label::SERVER, self.0.server_id())]).await?;
        let mut apps: Vec<AppName> =
            images.iter().filter_map(|image| image.labels.get(label::APP)?.parse().ok()).collect();
        apps.sort();
        apps.dedup();
        for app in apps {
            self.remove_step_images(&app, &[]).await?;
        }
        Ok(())
    }

    /// Images without a tag that have all of these labels (`name=value`).
    async fn untagged_images(&self, labels: Vec<String>) -> Result<Vec<ImageSummary>> {
        let filters = HashMap::from([("dangling".to_owned(), vec!["true".to_owned()]), ("label".to_owned(), labels)]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        self.0.docker().list_images(Some(options)).await.map_err(EngineError::docker(Act::List, "images"))
    }
}

/// The shortened id of a step's image, if a line of a build's output names it.
pub fn image_id_in_output(line: &str) -> Option<String> {
    let id = line.trim().strip_prefix("---> ")?;
    (id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_steps_are_read_from_the_output() {
        assert_eq!(image_id_in_output(" ---> 0123456789ab").as_deref(), Some("0123456789ab"));
        for other in [" ---> Running in 0123456789ab", " ---> Using cache", "0123456789ab", "---> 0123"] {
            assert_eq!(image_id_in_output(other), None, "{other}");
        }
    }
}
