//! The app's previous image, and what a build may take over from it.

use std::{collections::HashSet, fs::File};

use super::error::BuildError;
use crate::{
    images::{ImageStore, LIFECYCLE_METADATA},
    model::Digest,
};

/// What a build may take over from the previous image; empty if there is none.
#[derive(Debug, Default)]
pub(super) struct PreviousImage {
    /// Metadata that the lifecycle wrote into the image.
    pub(super) metadata: Option<serde_json::Value>,
    /// Layers of the image that are still in the blob store.
    pub(super) layers: HashSet<Digest>,
    /// The layer with bills of materials, and its size in bytes, if the build gets them back.
    pub(super) sbom: Option<(File, u64)>,
}

impl PreviousImage {
    /// Reads an image by its manifest; nothing is taken over if the blob store no longer has it. Blocks.
    pub(super) fn read(images: &ImageStore, manifest: &Digest) -> Result<Self, BuildError> {
        if !images.blobs().has(manifest) {
            return Ok(Self::default());
        }
        let metadata = images.labels(manifest)?.remove(LIFECYCLE_METADATA);
        let metadata: Option<serde_json::Value> = metadata.and_then(|text| serde_json::from_str(&text).ok());
        let mut layers = HashSet::new();
        for layer in images.layers(manifest)? {
            if images.blobs().use_again(&layer)? {
                layers.insert(layer);
            }
        }
        let sbom = metadata.as_ref().and_then(|metadata| metadata["sbom"]["sha"].as_str()?.parse().ok());
        let sbom = sbom.filter(|sbom| layers.contains(sbom)).map(|sbom| images.blobs().open_blob(&sbom)).transpose()?;
        Ok(Self { metadata, layers, sbom: sbom.flatten() })
    }
}
