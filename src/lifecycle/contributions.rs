//! What the buildpacks of a group contribute to the image: layers, processes, labels, slices.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use serde::{Deserialize, Serialize};

use super::files;
use crate::model::Process;

/// Contributions of all buildpacks of a group. Numbers are places of buildpacks in the group.
#[derive(Debug, Default)]
pub(super) struct Contributions {
    pub(super) processes: Vec<DeclaredProcess>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) slices: Vec<Slice>,
    pub(super) layers: Vec<Layer>,
    /// Duration of each buildpack's `bin/build`, in order.
    pub(super) durations: Vec<Duration>,
}

/// A process of a buildpack.
#[derive(Debug)]
pub(super) struct DeclaredProcess {
    /// Place of the buildpack in the group.
    pub(super) buildpack: usize,
    pub(super) process: Process,
    /// Execution environments in which it can be started; empty for all.
    pub(super) exec_env: Vec<String>,
}

/// Files of the app that get an image layer of their own.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Slice {
    #[serde(default)]
    pub(super) paths: Vec<String>,
}

/// A layer of a buildpack.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    /// Place of the buildpack in the group.
    pub(super) buildpack: usize,
    pub(super) name: String,
    pub(super) toml: LayerToml,
}

/// TOML file of a layer; `metadata` is the buildpack's own.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
pub(super) struct LayerToml {
    #[serde(default)]
    pub(super) types: LayerTypes,
    #[serde(default)]
    pub(super) metadata: toml::Table,
}

/// Where the types were before Buildpack API 0.6: a layer that has them there would be left out of the image in silence.
#[derive(Default, Deserialize)]
struct FormerTypes {
    launch: Option<toml::Value>,
    build: Option<toml::Value>,
    cache: Option<toml::Value>,
}

/// What a layer is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(super) struct LayerTypes {
    #[serde(default)]
    pub(super) launch: bool,
    #[serde(default)]
    pub(super) build: bool,
    #[serde(default)]
    pub(super) cache: bool,
}

/// Reads the layers in a buildpack's folder of layers: whatever has a TOML file.
pub(super) fn read_layers(folder: &Path, buildpack: usize) -> Result<Vec<Layer>, String> {
    let mut found = Vec::new();
    for file in files::names(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))? {
        let Some(name) = file.strip_suffix(".toml") else { continue };
        if !files::is_layer_name(name) {
            continue;
        }
        let contents = folder.join(name);
        if fs::symlink_metadata(&contents).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(format!("{} is not a folder", contents.display()));
        }
        let FormerTypes { launch, build, cache } = files::read_toml(&folder.join(&file))?;
        if launch.or(build).or(cache).is_some() {
            let file = folder.join(&file);
            return Err(format!("{}: launch, build and cache belong in its table [types]", file.display()));
        }
        let toml: LayerToml = files::read_toml(&folder.join(&file))?;
        found.push(Layer { buildpack, name: name.to_owned(), toml });
    }
    Ok(found)
}
