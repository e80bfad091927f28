//! Images on the engine: a cache of what the blob store has.

use bollard::{
    auth::DockerCredentials,
    models::ImageSummary,
    query_parameters::{
        CreateImageOptions, CreateImageOptionsBuilder, ListImagesOptionsBuilder, RemoveImageOptionsBuilder,
        TagImageOptionsBuilder,
    },
};
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};

use super::{Engine, EngineError, ImageId, Result, status};
use crate::model::{AppName, ReleaseNumber};

/// An image of ours on the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalImage {
    /// Its id.
    pub id: ImageId,
    /// Its tags that are ours.
    pub tags: Vec<String>,
    /// Its size in bytes.
    pub size: u64,
}

/// What all tags begin with, of whichever server.
const TAGS: &str = "paas/";

impl Engine {
    /// The tag of a release's image. The server's id is in it: two servers on one engine may have apps of one name.
    pub fn release_tag(&self, app: &AppName, release: ReleaseNumber) -> String {
        format!("{}{app}:v{release}", self.tag_prefix())
    }

    /// The tag of an image that is no release's, such as a stack's build image.
    pub fn own_tag(&self, name: &str, version: &str) -> String {
        format!("{}own/{name}:{version}", self.tag_prefix())
    }

    fn tag_prefix(&self) -> String {
        format!("{TAGS}{}/", self.server_id())
    }

    /// Pulls `host:port/name@sha256:…` with a token for that registry (as password of user `paas`). Tag it at once:
    /// an image without a tag is what `docker image prune` takes.
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

    /// Pulls an image that anybody may have.
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
        self.docker()
            .create_image(Some(options), None, credentials)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(|source| EngineError::CannotPull { reference: reference.to_owned(), source })?;
        self.image_id(reference).await?.ok_or(EngineError::Incomplete("the image that it has just pulled"))
    }

    /// An image as a tar, as `docker save` writes it.
    pub fn save(&self, reference: &str) -> impl Stream<Item = Result<Bytes>> + Send + Unpin + use<> {
        let name = with_tag(reference);
        let saved = self.docker().export_image(&name);
        Box::pin(saved.map_err(move |source| EngineError::CannotPull { reference: name.clone(), source }))
    }

    /// Gives an image a tag of ours: see [`Self::release_tag`].
    pub async fn tag(&self, image: &ImageId, reference: &str) -> Result<()> {
        self.check_tag(reference)?;
        let (repo, tag) = reference.rsplit_once(':').unwrap_or((reference, "latest"));
        let options = TagImageOptionsBuilder::new().repo(repo).tag(tag).build();
        self.docker().tag_image(image.as_str(), Some(options)).await.map_err(|source| {
            if status(&source) == Some(404) {
                return EngineError::ImageMissing { image: image.clone() };
            }
            EngineError::CannotTag { reference: reference.to_owned(), source }
        })
    }

    /// Gives an image whatever name its owner wants.
    pub async fn tag_freely(&self, image: &ImageId, reference: &str) -> Result<()> {
        let (repo, tag) =
            reference.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')).unwrap_or((reference, "latest"));
        let options = TagImageOptionsBuilder::new().repo(repo).tag(tag).build();
        let tagged = self.docker().tag_image(image.as_str(), Some(options)).await;
        tagged.map_err(|source| EngineError::CannotTag { reference: reference.to_owned(), source })
    }

    /// The id of an image by tag, digest or id, when the engine has it.
    pub async fn image_id(&self, reference: &str) -> Result<Option<ImageId>> {
        let image = match self.docker().inspect_image(reference).await {
            Ok(image) => image,
            Err(e) if status(&e) == Some(404) => return Ok(None),
            Err(source) => return Err(EngineError::CannotInspectImage { reference: reference.to_owned(), source }),
        };
        let id = image.id.and_then(|id| id.parse().ok()).ok_or(EngineError::Incomplete("the id of an image"))?;
        Ok(Some(id))
    }

    /// Whether the engine has an image by this name that is of an app or a stack, of this server or another.
    pub async fn is_private(&self, reference: &str) -> Result<bool> {
        let image = match self.docker().inspect_image(reference).await {
            Ok(image) => image,
            // Nor would the builder find it.
            Err(e) if matches!(status(&e), Some(400 | 404)) => return Ok(false),
            Err(source) => return Err(EngineError::CannotInspectImage { reference: reference.to_owned(), source }),
        };
        let tags = image.repo_tags.unwrap_or_default();
        let labels = image.config.and_then(|config| config.labels).unwrap_or_default();
        let pulled = self.pulled_by(image.repo_digests.as_deref().unwrap_or_default()).next().is_some();
        Ok(pulled || labels.contains_key(super::label::SERVER) || tags.iter().any(|tag| tag.starts_with(TAGS)))
    }

    /// Takes a tag of ours away, and with the last tag the image, unless a container uses it: then this is an error, and
    /// the tag stays. It may be gone already.
    pub async fn remove_image_tag(&self, reference: &str) -> Result<()> {
        self.check_tag(reference)?;
        let image = match self.docker().inspect_image(reference).await {
            Ok(image) => image,
            Err(e) if status(&e) == Some(404) => return Ok(()),
            Err(source) => return Err(EngineError::CannotInspectImage { reference: reference.to_owned(), source }),
        };
        let prefix = self.tag_prefix();
        let tags = image.repo_tags.unwrap_or_default();
        if tags.iter().filter(|tag| tag.starts_with(&prefix)).all(|tag| tag == reference) {
            // The digest by which it was pulled keeps an image as well as a tag does.
            for digest in self.pulled_by(image.repo_digests.as_deref().unwrap_or_default()) {
                self.remove_reference(digest).await?;
            }
        }
        self.remove_reference(reference).await
    }

    /// Forgets the digest by which an image was pulled: its tag keeps it from now on, and goes alone.
    pub async fn forget_pulled(&self, reference: &str) -> Result<()> {
        self.remove_reference(reference).await
    }

    /// Removes all images of this server.
    pub(super) async fn remove_images(&self) -> Result<()> {
        for tag in self.images_of().await?.iter().flat_map(|image| &image.tags) {
            self.remove_image_tag(tag).await?;
        }
        // One that was pulled and never tagged: its puller died in between.
        for image in &self.all_images().await? {
            for digest in self.pulled_by(&image.repo_digests) {
                self.remove_reference(digest).await?;
            }
        }
        Ok(())
    }

    fn pulled_by<'a>(&self, digests: &'a [String]) -> impl Iterator<Item = &'a str> + use<'a> {
        let registry = format!("{}/", self.inner.registry);
        digests.iter().map(String::as_str).filter(move |digest| digest.starts_with(&registry))
    }

    async fn remove_reference(&self, reference: &str) -> Result<()> {
        let options = RemoveImageOptionsBuilder::new().force(false).build();
        match self.docker().remove_image(reference, Some(options), None).await {
            Ok(_) => Ok(()),
            Err(e) if status(&e) == Some(404) => Ok(()),
            // Another removal that ended in this moment makes the engine stumble.
            Err(_) if self.image_id(reference).await?.is_none() => Ok(()),
            Err(source) => Err(EngineError::CannotRemoveTag { reference: reference.to_owned(), source }),
        }
    }

    async fn all_images(&self) -> Result<Vec<ImageSummary>> {
        let options = ListImagesOptionsBuilder::new().all(false).digests(true).build();
        self.docker().list_images(Some(options)).await.map_err(|source| EngineError::CannotListImages { source })
    }

    /// The images with a tag of this server.
    pub async fn images_of(&self) -> Result<Vec<LocalImage>> {
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

/// One image: without a tag the engine would pull, or save, all that a repository has.
fn with_tag(reference: &str) -> String {
    let last = reference.rsplit('/').next().unwrap_or(reference);
    if last.contains([':', '@']) { reference.to_owned() } else { format!("{reference}:latest") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_means_one_image() {
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
