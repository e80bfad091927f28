//! Images on the engine. They are a cache of the blob store.

use std::{collections::HashMap, io, pin::pin};

use bollard::{
    Docker,
    auth::DockerCredentials,
    errors::Error as DockerError,
    models::ImageSummary,
    query_parameters::{
        CreateImageOptions, CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
        TagImageOptionsBuilder,
    },
};
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, TryStreamExt};
use serde::{Deserialize, Deserializer};

use super::{
    error::{Act, EngineError, Result, status},
    handle::Images,
    id::ImageId,
    label,
    lookup::addresses_of,
};
use crate::model::{AddressBlock, AppName, RegistryHost, ReleaseNumber};

/// An image on the engine that has a tag of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Id of the image.
    pub id: ImageId,
    /// Tags of this server.
    pub tags: Vec<String>,
    /// Size in bytes.
    pub size: u64,
}

/// What is used of the engine's description of an image. Of an image that it has only in part, which the containerd image
/// store calls complete if the layers are unpacked, it reports neither configuration nor layers.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Inspected {
    id: String,
    #[serde(deserialize_with = "or_default")]
    repo_tags: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    repo_digests: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    config: InspectedConfig,
    #[serde(rename = "RootFS", deserialize_with = "or_default")]
    root_fs: InspectedRootFs,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectedConfig {
    #[serde(deserialize_with = "or_default")]
    labels: HashMap<String, String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct InspectedRootFs {
    #[serde(rename = "Type")]
    kind: String,
}

/// The engine writes `null` where it has nothing.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Largest description of an image, in bytes.
const MAX_DESCRIPTION: usize = 16 << 20;

/// What the engine says of an image. bollard's own request fails for an image that the engine has only in part, because it
/// expects all parts of the response.
async fn inspect(docker: &Docker, reference: &str) -> Result<Inspected, DockerError> {
    let docker = docker.clone().with_request_modifier(|mut request| {
        let uri = request.uri().to_string();
        if let Some(Ok(inspect)) = uri.strip_suffix("/get").map(|image| format!("{image}/json").parse()) {
            *request.uri_mut() = inspect;
        }
        request
    });
    let mut response = pin!(docker.export_image(reference));
    let mut description = BytesMut::new();
    while let Some(part) = response.try_next().await? {
        description.extend_from_slice(&part);
        // If the address were not changed, this would be the whole image.
        if description.len() > MAX_DESCRIPTION {
            return Err(io::Error::other("Docker's description of it is larger than 16 MiB").into());
        }
    }
    Ok(serde_json::from_slice(&description)?)
}

impl Inspected {
    /// Whether the engine has all of the image, so that it can be saved.
    fn is_complete(&self) -> bool {
        !self.root_fs.kind.is_empty()
    }
}

/// Prefix of the tags of all servers.
const TAG_PREFIX: &str = "paas/";

impl Images {
    /// Tag of a release's image. It contains the server's id, as servers that share an engine may have apps of the same
    /// name.
    pub fn release_tag(&self, app: &AppName, release: ReleaseNumber) -> String {
        format!("{}{app}:v{release}", self.tag_prefix())
    }

    /// Tag of an image that does not belong to a release, such as the build image of a stack.
    pub fn own_tag(&self, name: &str, version: &str) -> String {
        format!("{}own/{name}:{version}", self.tag_prefix())
    }

    fn tag_prefix(&self) -> String {
        format!("{TAG_PREFIX}{}/", self.0.server_id())
    }

    /// Pulls `host:port/name@sha256:…` with a token for that registry (the password of user `paas`). The caller must tag
    /// the image at once, because `docker image prune` removes images without a tag.
    pub async fn pull(&self, reference: &str, token: &str) -> Result<ImageId> {
        let credentials = DockerCredentials {
            username: Some("paas".to_owned()),
            password: Some(token.to_owned()),
            serveraddress: reference.split('/').next().map(str::to_owned),
            ..DockerCredentials::default()
        };
        let options = CreateImageOptionsBuilder::new().from_image(reference).build();
        self.pull_with(options, Some(credentials), reference).await
    }

    /// Pulls an image without credentials.
    pub async fn pull_public(&self, reference: &str) -> Result<ImageId> {
        let full = with_tag(reference);
        let options = CreateImageOptionsBuilder::new().from_image(&full).build();
        self.pull_with(options, None, &full).await
    }

    async fn pull_with(
        &self,
        options: CreateImageOptions,
        credentials: Option<DockerCredentials>,
        reference: &str,
    ) -> Result<ImageId> {
        let progress = self.0.docker().create_image(Some(options), None, credentials);
        let pulled = progress.try_for_each(|_| std::future::ready(Ok(()))).await;
        pulled.map_err(EngineError::docker(Act::Pull, format!("image {reference}")))?;
        self.image_id(reference).await?.ok_or(EngineError::Incomplete("the image that it has just pulled"))
    }

    /// An image as a tar, in the format of `docker save`.
    pub async fn save(&self, reference: &str) -> Result<impl Stream<Item = Result<Bytes>> + Send + Unpin + use<>> {
        let name = with_tag(reference);
        if self.inspect(&name).await?.is_some_and(|image| !image.is_complete()) {
            return Err(EngineError::PartialImage(name));
        }
        let saved = self.0.docker().export_image(&name);
        Ok(Box::pin(saved.map_err(move |e| EngineError::docker(Act::Save, format!("image {name}"))(e))))
    }

    /// Whether the engine takes images of this registry without TLS, or with a certificate that nobody it knows signed.
    pub async fn is_insecure_registry(&self, host: &RegistryHost) -> Result<bool> {
        let info = self.0.docker().info().await.map_err(EngineError::docker(Act::Inspect, "registries"))?;
        let registries = info.registry_config.unwrap_or_default();
        let configured = registries.index_configs.unwrap_or_default();
        if let Some(registry) = configured.get(host.as_str()) {
            return Ok(registry.secure == Some(false));
        }
        let blocks: Vec<AddressBlock> =
            registries.insecure_registry_cidrs.iter().flatten().filter_map(|block| block.parse().ok()).collect();
        let addresses = addresses_of(host.name()).await.unwrap_or_default();
        Ok(addresses.into_iter().any(|address| blocks.iter().any(|block| block.contains(address))))
    }

    /// Adds a tag of this server to an image: see [`Self::release_tag`].
    pub async fn tag(&self, image: &ImageId, reference: &str) -> Result<()> {
        self.check_tag(reference)?;
        let (repo, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = TagImageOptionsBuilder::new().repo(repo).tag(tag).build();
        self.0.docker().tag_image(image.as_str(), Some(options)).await.map_err(|e| match status(&e) {
            Some(404) => EngineError::ImageMissing { image: image.clone() },
            _ => EngineError::docker(Act::Tag, format!("image {reference}"))(e),
        })
    }

    /// Adds a tag that a user chose to an image; it need not be a tag of this server.
    pub async fn tag_for_user(&self, image: &ImageId, reference: &str) -> Result<()> {
        let (repo, tag) =
            reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((reference, "latest"));
        let options = TagImageOptionsBuilder::new().repo(repo).tag(tag).build();
        let tagged = self.0.docker().tag_image(image.as_str(), Some(options)).await;
        tagged.map_err(EngineError::docker(Act::Tag, format!("image {reference}")))
    }

    /// Id of an image by tag, digest or id; `None` if the engine does not have it.
    pub async fn image_id(&self, reference: &str) -> Result<Option<ImageId>> {
        let Some(image) = self.inspect(reference).await? else { return Ok(None) };
        image.id.parse().map(Some).map_err(|_| EngineError::Incomplete("the id of an image"))
    }

    async fn inspect(&self, reference: &str) -> Result<Option<Inspected>> {
        match inspect(self.0.docker(), reference).await {
            Ok(image) => Ok(Some(image)),
            Err(e) if status(&e) == Some(404) => Ok(None),
            Err(e) => Err(EngineError::docker(Act::Inspect, format!("image {reference}"))(e)),
        }
    }

    /// Whether the name denotes an image of an app or a stack, of this server or another one on the same engine, which must
    /// have the image.
    pub async fn is_private(&self, reference: &str) -> Result<bool> {
        let image = self.inspect(reference).await?.ok_or(EngineError::Incomplete("the image that it had just now"))?;
        let pulled = self.pulled_as(&image.repo_tags, &image.repo_digests).next().is_some();
        let tagged = image.repo_tags.iter().any(|tag| tag.starts_with(TAG_PREFIX));
        Ok(pulled || tagged || image.config.labels.contains_key(label::SERVER))
    }

    /// Removes a tag of this server, and with the last tag the image. If a container uses the image, this fails and the tag
    /// stays. No effect if the tag does not exist.
    pub async fn remove_image_tag(&self, reference: &str) -> Result<()> {
        self.check_tag(reference)?;
        let Some(image) = self.inspect(reference).await? else { return Ok(()) };
        let prefix = self.tag_prefix();
        if image.repo_tags.iter().filter(|tag| tag.starts_with(&prefix)).all(|tag| tag == reference) {
            // The digest by which an image was pulled keeps it like a tag.
            for pulled in self.pulled_as(&image.repo_tags, &image.repo_digests) {
                self.remove_reference(pulled).await?;
            }
        }
        self.remove_reference(reference).await
    }

    /// Removes the reference by digest that a pull created, so that only the image's tag keeps it.
    pub async fn forget_pulled(&self, reference: &str) -> Result<()> {
        self.remove_reference(reference).await
    }

    /// Removes all images of this server.
    pub(super) async fn remove_images(&self) -> Result<()> {
        for tag in self.tagged_images().await?.iter().flat_map(|image| &image.tags) {
            self.remove_image_tag(tag).await?;
        }
        // Images that were pulled, but not tagged because the server died.
        for image in &self.all_images().await? {
            for pulled in self.pulled_as(&image.repo_tags, &image.repo_digests) {
                self.remove_reference(pulled).await?;
            }
        }
        Ok(())
    }

    /// Removes what versions of paas that had the engine build Dockerfiles have left: the images of steps, which have no tag.
    pub async fn remove_step_images(&self) -> Result<()> {
        let label = format!("{}={}", label::SERVER, self.0.server_id());
        let filters = HashMap::from([("dangling", vec!["true".to_owned()]), ("label", vec![label])]);
        let options = ListImagesOptionsBuilder::new().filters(&filters).build();
        let listed = self.0.docker().list_images(Some(options)).await;
        for image in listed.map_err(EngineError::docker(Act::List, "images"))? {
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

    /// Those of an image's references by which it was pulled from the embedded registry. The containerd image store lists a
    /// digest among the tags, and among the digests perhaps without its name.
    fn pulled_as<'a>(&self, tags: &'a [String], digests: &'a [String]) -> impl Iterator<Item = &'a str> + use<'a> {
        let registry = format!("{}/", self.0.shared.registry);
        let pulled = move |reference: &&str| reference.starts_with(&registry);
        let both = digests.iter().chain(tags.iter().filter(|tag| !digests.contains(tag)));
        both.map(String::as_str).filter(pulled)
    }

    async fn remove_reference(&self, reference: &str) -> Result<()> {
        let options = RemoveImageOptionsBuilder::new().force(false).build();
        match self.0.docker().remove_image(reference, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            // If another request removes the image at the same moment, the engine responds with an error.
            Err(_) if self.image_id(reference).await?.is_none() => Ok(()),
            Err(e) => Err(EngineError::docker(Act::Remove, format!("image tag {reference}"))(e)),
        }
    }

    async fn all_images(&self) -> Result<Vec<ImageSummary>> {
        let options = ListImagesOptionsBuilder::new().all(false).digests(true).build();
        self.0.docker().list_images(Some(options)).await.map_err(EngineError::docker(Act::List, "images"))
    }

    /// Images with a tag of this server.
    pub async fn tagged_images(&self) -> Result<Vec<LocalImage>> {
        let prefix = self.tag_prefix();
        let ours = self.all_images().await?.into_iter().filter_map(|image| {
            let tags: Vec<_> = image.repo_tags.into_iter().filter(|tag| tag.starts_with(&prefix)).collect();
            if tags.is_empty() {
                return None;
            }
            Some(LocalImage { id: image.id.parse().ok()?, tags, size: u64::try_from(image.size).unwrap_or(0) })
        });
        Ok(ours.collect())
    }

    fn check_tag(&self, reference: &str) -> Result<()> {
        if reference.starts_with(&self.tag_prefix()) {
            return Ok(());
        }
        Err(EngineError::NotOurs(format!("image tag {reference}")))
    }
}

/// The reference with a tag: without one, the engine would pull or save all images of a repository.
fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_that_the_engine_has_in_part_is_read() {
        let partial: Inspected = serde_json::from_str(
            r#"{"Id": "sha256:00", "RepoTags": ["a:1"], "RepoDigests": null, "RootFS": {}, "Config": {"Labels": null}}"#,
        )
        .unwrap();
        assert!(!partial.is_complete() && partial.repo_digests.is_empty() && partial.config.labels.is_empty());
        assert_eq!((partial.id.as_str(), &partial.repo_tags[..]), ("sha256:00", &["a:1".to_owned()][..]));
        let whole =
            r#"{"Id": "sha256:00", "RootFS": {"Type": "layers", "Layers": []}, "Config": {"Labels": {"a": "b"}}}"#;
        let whole: Inspected = serde_json::from_str(whole).unwrap();
        assert!(whole.is_complete() && whole.config.labels["a"] == "b");
    }

    #[test]
    fn a_reference_without_tag_gets_the_tag_latest() {
        for (reference, expected) in [
            ("debian", "debian:latest"),
            ("127.0.0.1:5000/a/b", "127.0.0.1:5000/a/b:latest"),
            ("127.0.0.1:5000/a/b:1", "127.0.0.1:5000/a/b:1"),
            ("a/b@sha256:00", "a/b@sha256:00"),
        ] {
            assert_eq!(with_tag(reference), expected);
        }
    }
}
