//! Stacks whose images are in the store.

use super::{
    error::{ImageError, Result},
    manifest::ImageConfig,
    store::ImageStore,
};
use crate::{
    lifecycle::protocol::Target,
    model::{Digest, Distribution},
};

/// A stack: a build image and a run image of one distribution.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Id of the stack, such as `debian-13`.
    pub id: String,
    /// Run image: what apps run on.
    pub run: StackImage,
    /// Build image: what apps are built in.
    pub build: StackImage,
    /// Platform and distribution.
    pub target: Target,
}

/// One image of a stack.
#[derive(Debug, Clone)]
pub struct StackImage {
    /// Digest of the manifest.
    pub manifest: Digest,
    /// Digest of the configuration: the image's id on the engine.
    pub config: Digest,
    /// Topmost layer.
    pub layer: Digest,
}

impl ImageStore {
    /// A stack of images that are in the store.
    pub fn stack(&self, id: &str, run: &Digest, build: &Digest, distribution: &Distribution) -> Result<Stack> {
        let image = |digest: &Digest| {
            let manifest = self.manifest(digest)?;
            let config: ImageConfig = self.read(&manifest.config.digest, "configuration")?;
            let layer = config.rootfs.diff_ids.last().cloned().ok_or_else(|| ImageError::Missing(digest.clone()))?;
            Ok::<_, ImageError>((
                StackImage { manifest: digest.clone(), config: manifest.config.digest, layer },
                config,
            ))
        };
        let ((run, config), (build, _)) = (image(run)?, image(build)?);
        let target = Target {
            os: config.os,
            arch: config.architecture,
            arch_variant: String::new(),
            distro_name: distribution.name.clone(),
            distro_version: distribution.version.clone(),
        };
        Ok(Stack { id: id.to_owned(), run, build, target })
    }
}
