//! Builds of Dockerfiles, by the builder that is part of the engine: the older one, whose steps run on a network of ours
//! and within limits (BuildKit's run on the engine's own network, which reaches the host).

use std::collections::HashMap;

use bollard::{Docker, body_try_stream, query_parameters::BuildImageOptionsBuilder};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt as _, stream::BoxStream};

use super::{Engine, EngineError, Kind, Result, cgroup, label, status};
use crate::model::AppName;

/// The most memory that the engine's interface takes for a build, in bytes.
const MOST_MEMORY: u64 = i32::MAX as u64;
/// What limits of CPU are told in, in microseconds.
const PERIOD: i32 = 100_000;

/// What is to be built. Not `Debug`: its arguments may be secrets.
#[derive(Clone)]
pub struct DockerfileSpec {
    /// For which app.
    pub app: AppName,
    /// The tag of ours that the image gets.
    pub tag: String,
    /// The Dockerfile's name in the context.
    pub dockerfile: String,
    /// Build arguments.
    pub args: HashMap<String, String>,
    /// CPUs.
    pub cpus: u32,
    /// Memory, MiB; at most 2 GiB.
    pub memory_mib: u64,
    /// Whether every step runs, whatever an earlier build left.
    pub anew: bool,
}

impl Engine {
    /// The labels of all that builds of Dockerfiles for an app leave on the engine.
    pub fn dockerfile_labels(&self, app: &AppName) -> Vec<(String, String)> {
        let own = [
            (label::SERVER, self.server_id().to_owned()),
            (label::KIND, Kind::Image.as_str().to_owned()),
            (label::APP, app.to_string()),
        ];
        own.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }

    /// Builds; what it prints comes piece by piece, in lines or parts of them. Dropping the stream cancels the build.
    /// What fails is [`EngineError::StepFailed`] when the Dockerfile is to blame.
    pub async fn build_dockerfile(
        &self,
        spec: &DockerfileSpec,
        context: BoxStream<'static, std::io::Result<Bytes>>,
    ) -> Result<impl Stream<Item = Result<String>> + Send> {
        let network = self.ensure_build_bridge().await?;
        let memory = i32::try_from((spec.memory_mib << 20).min(MOST_MEMORY)).unwrap_or(i32::MAX);
        let quota = self.nano_cpus(u64::from(spec.cpus) * 1000) / i64::from(1_000_000_000 / PERIOD);
        let place = self.build_place().await;
        let options = BuildImageOptionsBuilder::new()
            .dockerfile(&spec.dockerfile)
            .t(&spec.tag)
            .rm(true)
            .nocache(spec.anew)
            .forcerm(true)
            .networkmode(&network)
            .memory(memory)
            .memswap(memory)
            .cpuperiod(PERIOD)
            .cpuquota(i32::try_from(quota).unwrap_or(i32::MAX))
            .cpushares(cgroup::SHARES)
            .buildargs(&spec.args)
            .build();
        let docker = if place.is_some() { &self.inner.grouped } else { self.docker() };
        let stream = docker.build_image(options, None, Some(body_try_stream(context)));
        Ok(stream
            .map_err(|source| match source {
                bollard::errors::Error::DockerStreamError { error } => EngineError::StepFailed(error),
                bollard::errors::Error::DockerResponseServerError { status_code: 400, message } => {
                    EngineError::StepFailed(message)
                }
                source => EngineError::CannotBuild { source },
            })
            .try_filter_map(move |info| {
                // Held for as long as anything comes.
                let _ = &place;
                let failed = info.error_detail.and_then(|detail| detail.message);
                std::future::ready(match failed {
                    Some(message) => Err(EngineError::StepFailed(message)),
                    None => Ok(info.stream),
                })
            }))
    }

    /// Removes the images that earlier builds of an app's Dockerfile left, but for those that are named (by the beginning
    /// of their ids) and those that others stand on.
    pub async fn remove_old_stages(&self, app: &AppName, keep: &[String]) -> Result<()> {
        let labels: Vec<_> =
            self.dockerfile_labels(app).iter().map(|(name, value)| format!("{name}={value}")).collect();
        let filters = HashMap::from([("dangling".to_owned(), vec!["true".to_owned()]), ("label".to_owned(), labels)]);
        let options = bollard::query_parameters::ListImagesOptionsBuilder::new().filters(&filters).build();
        let listed = self.docker().list_images(Some(options)).await;
        for image in listed.map_err(|source| EngineError::CannotListImages { source })? {
            let short = image.id.trim_start_matches("sha256:");
            if keep.iter().any(|id| short.starts_with(id.as_str())) {
                continue;
            }
            let options = bollard::query_parameters::RemoveImageOptionsBuilder::new().force(false).build();
            match self.docker().remove_image(&image.id, Some(options), None).await {
                Ok(_) => {}
                // Gone, or in use.
                Err(e) if matches!(status(&e), Some(404 | 409)) => {}
                Err(source) => return Err(EngineError::CannotRemoveTag { reference: image.id.clone(), source }),
            }
        }
        Ok(())
    }

    /// The same for all apps.
    pub(super) async fn remove_all_stages(&self) -> Result<()> {
        let mut images: Vec<AppName> = Vec::new();
        let own = format!("{}={}", label::SERVER, self.server_id());
        let filters =
            HashMap::from([("dangling".to_owned(), vec!["true".to_owned()]), ("label".to_owned(), vec![own])]);
        let options = bollard::query_parameters::ListImagesOptionsBuilder::new().filters(&filters).build();
        let listed = self.docker().list_images(Some(options)).await;
        for image in listed.map_err(|source| EngineError::CannotListImages { source })? {
            images.extend(image.labels.get(label::APP).and_then(|app| app.parse().ok()));
        }
        images.sort();
        images.dedup();
        for app in images {
            self.remove_old_stages(&app, &[]).await?;
        }
        Ok(())
    }
}

/// The engine, which is told the group of the steps' containers with each request: bollard's options lack it.
pub(super) fn with_group(docker: Docker, parent: String) -> Docker {
    docker.with_request_modifier(move |mut request| {
        let mut parts = request.uri().clone().into_parts();
        let query = parts.path_and_query.as_ref().map(|query| format!("{query}&cgroupparent={parent}"));
        parts.path_and_query = query.and_then(|query| query.parse().ok());
        if let Ok(uri) = hyper::Uri::from_parts(parts) {
            *request.uri_mut() = uri;
        }
        request
    })
}

/// The ids of images that a build spoke of, shortened: each step's.
pub fn spoken_of(line: &str) -> Option<String> {
    let id = line.trim().strip_prefix("---> ")?;
    (id.len() == 12 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_out_of_the_output() {
        assert_eq!(spoken_of(" ---> 0123456789ab").as_deref(), Some("0123456789ab"));
        for other in [" ---> Running in 0123456789ab", " ---> Using cache", "0123456789ab", "---> 0123"] {
            assert_eq!(spoken_of(other), None, "{other}");
        }
    }
}
