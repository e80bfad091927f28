//! Rebase (platform.md, "Rebase"): an app's own layers on another run image, by writing a new manifest.

use super::{
    Image, ImageError, ImageStore, LIFECYCLE_METADATA, Result, base_labels, env_name, manifest::ImageConfig,
    name_run_image, owned, split_path,
};
use crate::model::Digest;

impl ImageStore {
    /// Puts an image that stands on `old` on `new`. The same input gives the same image. No layer is read.
    pub fn rebase(&self, image: &Digest, old: &Digest, new: &Digest) -> Result<Image> {
        let (manifest, old_manifest, new_manifest) = (self.manifest(image)?, self.manifest(old)?, self.manifest(new)?);
        let read = |digest: &Digest| self.read::<ImageConfig>(digest, "configuration");
        let config = read(&manifest.config.digest)?;
        let (old_config, new_config) = (read(&old_manifest.config.digest)?, read(&new_manifest.config.digest)?);
        let height = old_manifest.layers.len();
        let below = manifest.layers.iter().take(height).map(|layer| &layer.digest);
        let fixed = config.config.labels.get("io.buildpacks.rebasable").is_some_and(|text| text == "false");
        if fixed || manifest.layers.len() < height || !below.eq(old_manifest.layers.iter().map(|layer| &layer.digest)) {
            return Err(ImageError::NotOnBase(old.clone()));
        }
        let own = |all: usize| all.min(height);
        let mut layers = new_manifest.layers;
        layers.extend(manifest.layers.into_iter().skip(height));
        let top = new_config.rootfs.diff_ids.last().cloned();
        let mut diff_ids = new_config.rootfs.diff_ids;
        diff_ids.extend(config.rootfs.diff_ids.into_iter().skip(height));
        let of_old = own(old_config.history.len());
        let mut history = new_config.history;
        history.extend(config.history.into_iter().skip(of_old));

        let mut run = config.config;
        run.env = env(&run.env, &old_config.config.env, &new_config.config.env);
        if let (Some(text), Some(top)) = (run.labels.get(LIFECYCLE_METADATA), &top)
            && let Ok(serde_json::Value::Object(mut metadata)) = serde_json::from_str(text)
        {
            name_run_image(&mut metadata, top, new);
            run.labels.insert(LIFECYCLE_METADATA.to_owned(), serde_json::Value::Object(metadata).to_string());
        }
        run.labels.extend(base_labels(&new_config.config.labels).map(owned));
        self.put_image(&config.architecture, layers, diff_ids, history, run)
    }
}

/// The image's environment, where what it has from the old base is the new base's.
fn env(image: &[String], old: &[String], new: &[String]) -> Vec<String> {
    let own = image.iter().filter(|entry| !old.contains(entry) && env_name(entry) != "PATH");
    let own: Vec<_> = own.cloned().collect();
    let names: Vec<_> = own.iter().map(|entry| env_name(entry)).collect();
    let of_base = new.iter().filter(|entry| !names.contains(&env_name(entry)) && env_name(entry) != "PATH");
    let (path, old_path, new_path) = (split_path(image), split_path(old), split_path(new));
    let prefix = path.strip_suffix(old_path).unwrap_or_default();
    let path = if prefix.is_empty() && path != old_path { path.to_owned() } else { format!("{prefix}{new_path}") };
    std::iter::once(format!("PATH={path}")).chain(of_base.cloned()).chain(own.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_follows_the_base() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let old = words("PATH=/bin LANG=C OLD=1 KEPT=old");
        let new = words("PATH=/usr/bin LANG=C.UTF-8 NEW=1 KEPT=new");
        let image = words("PATH=/cnb/process:/bin LANG=C OLD=1 KEPT=app APP=1");
        assert_eq!(env(&image, &old, &new), words("PATH=/cnb/process:/usr/bin LANG=C.UTF-8 NEW=1 KEPT=app APP=1"));
        assert_eq!(env(&words("PATH=/own"), &old, &new)[0], "PATH=/own");
        assert_eq!(env(&old, &old, &new), new);
    }
}
