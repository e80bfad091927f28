//! Images in the blob store.

use std::{
    collections::{BTreeMap, HashSet},
    path::Path,
    time::Duration,
};

use super::{
    blobs::{BlobStore, UnusedBlob},
    error::{ImageError, Result},
    labels::{self, BUILD_METADATA},
    manifest::{Descriptor, History, ImageConfig, Manifest, RootFs, RunConfig},
};
use crate::{
    lifecycle::{self, protocol::BuiltLayer},
    model::{Digest, Process},
};

/// Creation time of all images. It is constant, so that the same input gives the same image; the buildpack specification
/// defines it.
pub(super) const CREATED: &str = "1980-01-01T00:00:01Z";

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Digest of the manifest: what a release stores, and what the engine pulls.
    pub manifest: Digest,
    /// Digest of the configuration: the image's id on the engine.
    pub config: Digest,
}

/// Images by the digest of their manifest; cheap to clone. Its methods block, but only to read small files.
#[derive(Debug, Clone)]
pub struct ImageStore {
    blobs: BlobStore,
}

impl ImageStore {
    /// Opens `<data_dir>/blobs`; creates the folder if necessary.
    pub fn open(data_dir: &Path) -> Result<Self> {
        Ok(Self { blobs: BlobStore::open(&data_dir.join("blobs"))? })
    }

    /// The blob store.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Stores configuration and manifest of an image whose layers are in the blob store.
    pub(super) fn put_image(
        &self,
        arch: &str,
        layers: Vec<Descriptor>,
        diff_ids: Vec<Digest>,
        history: Vec<History>,
        run: RunConfig,
    ) -> Result<Image> {
        let config = ImageConfig {
            created: CREATED.to_owned(),
            architecture: arch.to_owned(),
            os: "linux".to_owned(),
            config: run,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
            history,
        };
        let config = self.put_json(&config)?;
        let manifest = Manifest::new(Descriptor::config(config.0.clone(), config.1), layers);
        Ok(Image { manifest: self.put_json(&manifest)?.0, config: config.0 })
    }

    /// Stores a document; returns its digest and its size in bytes.
    fn put_json(&self, value: &impl serde::Serialize) -> Result<(Digest, u64)> {
        let bytes = serde_json::to_vec(value).map_err(|source| ImageError::InvalidDocument {
            digest: Digest::of(b""),
            what: "document",
            source,
        })?;
        Ok((self.blobs.put_bytes(&bytes)?, bytes.len() as u64))
    }

    pub(super) fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.read(digest, "manifest")
    }

    /// Reads a document.
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self, digest: &Digest, what: &'static str) -> Result<T> {
        let bytes = self.blobs.read_bytes(digest)?;
        serde_json::from_slice(&bytes).map_err(|source| ImageError::InvalidDocument {
            digest: digest.clone(),
            what,
            source,
        })
    }

    /// Digest of an image's configuration: the image's id on the engine.
    pub fn config_digest(&self, manifest: &Digest) -> Result<Digest> {
        Ok(self.manifest(manifest)?.config.digest)
    }

    /// Labels of an image.
    pub fn labels(&self, manifest: &Digest) -> Result<BTreeMap<String, String>> {
        Ok(self.run_config(manifest)?.labels)
    }

    /// What an image says of the containers that are made from it.
    pub(super) fn run_config(&self, manifest: &Digest) -> Result<RunConfig> {
        Ok(self.read::<ImageConfig>(&self.config_digest(manifest)?, "configuration")?.config)
    }

    /// Layers of an image, lowest first.
    pub fn layers(&self, manifest: &Digest) -> Result<Vec<Digest>> {
        Ok(self.manifest(manifest)?.layers.into_iter().map(|layer| layer.digest).collect())
    }

    /// Layers of an image, lowest first, each with its size and origin.
    pub fn describe(&self, manifest: &Digest) -> Result<Vec<BuiltLayer>> {
        let manifest = self.manifest(manifest)?;
        let config: ImageConfig = self.read(&manifest.config.digest, "configuration")?;
        let created_by =
            config.history.into_iter().map(|entry| entry.created_by).chain(std::iter::repeat(String::new()));
        let layers = manifest.layers.into_iter().zip(created_by);
        Ok(layers
            .map(|(layer, created_by)| BuiltLayer { digest: layer.digest, size: layer.size, created_by })
            .collect())
    }

    /// Manifest of the run image that an image is based on.
    pub fn run_image(&self, manifest: &Digest) -> Result<Option<Digest>> {
        if !self.blobs.has(manifest) {
            return Ok(None);
        }
        Ok(labels::run_image(&self.labels(manifest)?))
    }

    /// Whether all blobs of an image are in the blob store. They count as new again, so that what uses the image can record that
    /// before they are swept.
    pub fn complete(&self, manifest: &Digest) -> Result<bool> {
        if !self.blobs.use_again(manifest)? {
            return Ok(false);
        }
        let manifest = self.manifest(manifest)?;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if !self.blobs.use_again(&blob.digest)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Processes that the buildpacks of an image declared, without those that are not for production.
    pub fn processes(&self, manifest: &Digest) -> Result<Vec<Process>> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            #[serde(default)]
            processes: Vec<Declared>,
        }
        #[derive(serde::Deserialize)]
        struct Declared {
            #[serde(flatten)]
            process: Process,
            #[serde(default, rename = "exec-env")]
            exec_env: Vec<String>,
        }
        let run = self.run_config(manifest)?;
        let Some(text) = run.labels.get(BUILD_METADATA) else { return Ok(Vec::new()) };
        let metadata: Metadata = serde_json::from_str(text).map_err(|source| ImageError::InvalidDocument {
            digest: manifest.clone(),
            what: "build metadata",
            source,
        })?;
        let started = metadata.processes.into_iter().filter(|declared| lifecycle::in_production(&declared.exec_env));
        let with_default = |Declared { mut process, .. }: Declared| {
            process.default |= run.entrypoint == [format!("/cnb/process/{}", process.process_type)];
            process
        };
        Ok(started.map(with_default).collect())
    }

    /// Blobs that are older than `min_age` and do not belong to an image of `keep`.
    pub fn unused(&self, keep: &[Digest], min_age: Duration) -> Result<Vec<UnusedBlob>> {
        let mut needed = HashSet::new();
        for image in keep {
            needed.extend(self.parts(image)?.into_iter().map(|(digest, _)| digest));
        }
        self.blobs.unused(&needed, min_age)
    }

    /// The same, and removes them; returns their number.
    pub fn sweep(&self, keep: &[Digest], min_age: Duration) -> Result<usize> {
        let mut removed = 0;
        for blob in self.unused(keep, min_age)? {
            removed += usize::from(self.blobs.remove_unused(&blob, min_age)?);
        }
        Ok(removed)
    }

    /// The blobs of an image, with their sizes in bytes: manifest, configuration, layers. Those of an image that the store does
    /// not have are unknown.
    pub fn parts(&self, image: &Digest) -> Result<Vec<(Digest, u64)>> {
        let Some(size) = self.blobs.size(image)? else { return Ok(vec![(image.clone(), 0)]) };
        let manifest = self.manifest(image)?;
        let others = [manifest.config].into_iter().chain(manifest.layers).map(|part| (part.digest, part.size));
        Ok([(image.clone(), size)].into_iter().chain(others).collect())
    }

    /// The first of these layers that is not in the blob store.
    pub fn missing<'a>(&self, layers: &'a [BuiltLayer]) -> Option<&'a BuiltLayer> {
        layers.iter().find(|layer| !self.blobs.has(&layer.digest))
    }
}
