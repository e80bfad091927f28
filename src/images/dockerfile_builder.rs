//! The image in which Dockerfiles are built. It is made when it is needed first, and cached like the images of stacks.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    bootstrap::{CUSTOMIZE, DebianRoot, EPOCH, lock},
    error::{ImageError, Result},
    manifest::architecture,
    store::ImageStore,
};
use crate::{config, model::Digest, progress::Progress};

const DEFINITION: &str = include_str!("../../stacks/dockerfile-builder.toml");

/// What buildah needs to be root in a user namespace: user ids for it, and programs that may give them to it. (They have
/// capabilities instead of the setuid bit: root without `DAC_OVERRIDE` could not open the map of another user.)
/// buildah looks for the configuration of its user in the user's home folder.
const USER_NAMESPACES: &str = r#"
setcap cap_setuid+ep "$1/usr/bin/newuidmap"
setcap cap_setgid+ep "$1/usr/bin/newgidmap"
echo 'paas:1879048192:65536' > "$1/etc/subuid"
echo 'paas:1879048192:65536' > "$1/etc/subgid"
install -d -o 1000 -g 1000 -m 0755 "$1/home/paas/.config" "$1/cnb/offered"
"#;

#[derive(Deserialize)]
struct Definition {
    id: String,
    suite: String,
    packages: Vec<String>,
}

/// Key of everything that decides the contents of the image.
pub fn dockerfile_builder_key() -> String {
    let parts = [DEFINITION, CUSTOMIZE, USER_NAMESPACES, EPOCH, architecture()];
    Digest::of(parts.join("\0").as_bytes()).hex()[..16].to_owned()
}

impl ImageStore {
    /// Adds the image to the store; makes it if it is not cached. Returns its manifest.
    pub async fn dockerfile_builder(&self, config: &config::Stack, progress: &Progress) -> Result<Digest> {
        let definition: Definition =
            toml::from_str(DEFINITION).map_err(|e| ImageError::Definition(e.message().to_owned()))?;
        let Definition { id, suite, packages } = definition;
        let folder = config.cache_dir.join(format!("{id}-{}", dockerfile_builder_key()));
        let _lock = lock(&folder, &id, progress).await?;
        let customize = format!("{CUSTOMIZE}{USER_NAMESPACES}");
        let what = "image in which Dockerfiles are built".to_owned();
        let root = DebianRoot { what, stack: &id, suite: &suite, packages, customize: &customize };
        let (tar, layer) = root.cached(&folder, "builder", progress).await?;
        let store = self.clone();
        let put = tokio::task::spawn_blocking(move || {
            store.blobs().adopt(&tar, &layer)?;
            Ok(store.put_stack_image(architecture(), layer, BTreeMap::new())?.manifest)
        });
        put.await.map_err(|e| ImageError::Stack { stack: id, reason: e.to_string() })?
    }
}
