//! Rebase (platform.md, "Rebase"): a new manifest that combines the layers of an app with another run image.

use super::{
    environment,
    error::{ImageError, Result},
    labels,
    manifest::ImageConfig,
    store::{Image, ImageStore},
};
use crate::model::Digest;

impl ImageStore {
    /// Moves an image from the run image `old` to the run image `new`. The same input gives the same image. No layer is
    /// read.
    pub fn rebase(&self, image: &Digest, old: &Digest, new: &Digest) -> Result<Image> {
        let (manifest, old_manifest, new_manifest) = (self.manifest(image)?, self.manifest(old)?, self.manifest(new)?);
        let read = |digest: &Digest| self.read::<ImageConfig>(digest, "configuration");
        let config = read(&manifest.config.digest)?;
        let (old_config, new_config) = (read(&old_manifest.config.digest)?, read(&new_manifest.config.digest)?);
        let height = old_manifest.layers.len();
        let below = manifest.layers.iter().take(height).map(|layer| &layer.digest);
        let not_rebasable = config.config.labels.get("io.buildpacks.rebasable").is_some_and(|text| text == "false");
        if not_rebasable
            || manifest.layers.len() < height
            || !below.eq(old_manifest.layers.iter().map(|layer| &layer.digest))
        {
            return Err(ImageError::NotOnBase(old.clone()));
        }
        let mut layers = new_manifest.layers;
        layers.extend(manifest.layers.into_iter().skip(height));
        let top_layer = new_config.rootfs.diff_ids.last().cloned();
        let mut diff_ids = new_config.rootfs.diff_ids;
        diff_ids.extend(config.rootfs.diff_ids.into_iter().skip(height));
        let old_history = old_config.history.len().min(height);
        let mut history = new_config.history;
        history.extend(config.history.into_iter().skip(old_history));

        let mut run = config.config;
        run.env = environment::rebased(&run.env, &old_config.config.env, &new_config.config.env);
        if let Some(top_layer) = &top_layer {
            labels::replace_run_image(&mut run.labels, top_layer, new);
        }
        run.labels.extend(labels::of_base(&new_config.config.labels));
        self.put_image(&config.architecture, layers, diff_ids, history, run)
    }
}
