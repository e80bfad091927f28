//! Images of apps, made of the layers that a build exports.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    environment,
    error::{ImageError, Result},
    labels::{self, LIFECYCLE_METADATA},
    manifest::{Descriptor, History, ImageConfig, RunConfig},
    stack::Stack,
    store::{CREATED, Image, ImageStore},
};
use crate::lifecycle::protocol::Built;

impl ImageStore {
    /// Makes an image of the layers of a build and the stack's run image.
    pub fn assemble(&self, stack: &Stack, built: &Built) -> Result<Image> {
        let base = self.manifest(&stack.run.manifest)?;
        let base_config: ImageConfig = self.read(&base.config.digest, "configuration")?;
        let mut layers = base.layers;
        let mut diff_ids = base_config.rootfs.diff_ids;
        let mut history = base_config.history;
        for layer in &built.layers {
            let size = self.blobs().size(&layer.digest)?.ok_or_else(|| ImageError::Missing(layer.digest.clone()))?;
            layers.push(Descriptor::layer(layer.digest.clone(), size));
            diff_ids.push(layer.digest.clone());
            history.push(History::of(CREATED, layer.created_by.as_str()));
        }
        let of_build = built.labels.clone().into_iter().filter(|(name, _)| labels::is_kept_of_build(name));
        let mut labels: BTreeMap<_, _> = labels::of_base(&base_config.config.labels).chain(of_build).collect();
        add_stack(&mut labels, stack);
        labels::add_launcher(&mut labels);
        let run = RunConfig {
            user: Some("1000:1000".to_owned()),
            env: environment::merged(&base_config.config.env, &built.env, &built.path),
            entrypoint: built.entrypoint.clone(),
            cmd: Vec::new(),
            working_dir: built.working_dir.clone(),
            labels,
            ..RunConfig::default()
        };
        self.put_image(&stack.target.arch, layers, diff_ids, history, run)
    }
}

/// Adds the metadata that only the server knows (platform specification, "Labels").
fn add_stack(labels: &mut BTreeMap<String, String>, stack: &Stack) {
    let text = labels.get(LIFECYCLE_METADATA).map_or("{}", String::as_str);
    let Ok(Value::Object(mut metadata)) = serde_json::from_str(text) else { return };
    labels::insert_run_image(&mut metadata, &stack.run.layer, &stack.run.manifest);
    metadata.insert("stack".to_owned(), json!({ "runImage": { "image": stack.id } }));
    labels.insert(LIFECYCLE_METADATA.to_owned(), Value::Object(metadata).to_string());
    labels.insert("io.buildpacks.stack.id".to_owned(), stack.id.clone());
    labels.insert("io.buildpacks.base.distro.name".to_owned(), stack.target.distro_name.clone());
    labels.insert("io.buildpacks.base.distro.version".to_owned(), stack.target.distro_version.clone());
}
