//! Phase 2, restore, and its counterpart after a build. The cache lies on the same file system as the layers, so that
//! restoring a layer is linking its files. It is replaced as a whole, by a rename, when a build has succeeded.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    Dirs, Failure,
    builder::{LayerToml, Outcome, path_of},
    buildpack::escaped,
    detector::Detected,
    files,
    output::Output,
    protocol::{BuildRequest, BuiltLayer, Phase},
    sbom,
};
use crate::model::Digest;

/// The cache's folder among the layers; no buildpack's folder begins with a dot.
pub(super) const FOLDER: &str = ".cache";
const NEW: &str = ".cache.new";
/// In the cache while a build has links to its files: a build that ended well has replaced it with the cache.
const LENT: &str = ".lent";
const OLD: &str = ".cache.old";

/// What is noted beside a cached layer.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    #[serde(default)]
    toml: BTreeMap<String, toml::Value>,
    /// The tar that was made of it, and what it was made of.
    exported: Option<Exported>,
    /// Of its files, when they were put here.
    fingerprint: Option<String>,
}

impl Note {
    /// Whether a tree is as it was when this was noted.
    fn fits(&self, tree: &Path) -> io::Result<bool> {
        self.fingerprint.as_ref().map_or(Ok(true), |noted| Ok(*noted == fingerprint(tree)?))
    }
}

/// A tar that was made of a layer whose files had this fingerprint.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Exported {
    pub(super) fingerprint: String,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// The label `io.buildpacks.lifecycle.metadata` of the previous image, as far as it is read.
#[derive(Debug, Default, Deserialize)]
struct Previous {
    #[serde(default)]
    buildpacks: Vec<PreviousBuildpack>,
}

#[derive(Debug, Deserialize)]
struct PreviousBuildpack {
    key: String,
    #[serde(default)]
    layers: BTreeMap<String, PreviousLayer>,
    #[serde(default)]
    store: serde_json::Value,
}

/// A launch layer of the previous image.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct PreviousLayer {
    pub(super) sha: Digest,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    data: serde_json::Value,
    #[serde(default)]
    build: bool,
    #[serde(default)]
    cache: bool,
}

/// What the export may use again: by buildpack id and layer name.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) exported: BTreeMap<(String, String), Exported>,
    pub(super) previous: BTreeMap<(String, String), PreviousLayer>,
}

/// After an earlier process may have died at any moment: one whole cache, or none.
pub(super) fn recover(dirs: &Dirs) -> io::Result<()> {
    let (cache, old) = (dirs.layers.join(FOLDER), dirs.layers.join(OLD));
    if !cache.exists() && old.exists() {
        fs::rename(&old, &cache)?;
    }
    files::empty(&dirs.layers, &[FOLDER, "lost+found"])
}

/// Puts back what the buildpacks of the group cached, and the metadata of the previous image's layers. A buildpack that
/// writes into a restored file writes into the cache; where the build then failed, the layer is left out.
pub(super) fn restore(
    dirs: &Dirs,
    request: &BuildRequest,
    detected: &Detected,
    output: &Output,
) -> Result<Restored, Failure> {
    let lent = dirs.layers.join(FOLDER).join(LENT);
    let doubtful = lent.exists();
    if !doubtful && dirs.layers.join(FOLDER).is_dir() {
        fs::write(&lent, "").map_err(Failure::io(Phase::Restore, "write", &lent))?;
    }
    let previous: Previous =
        request.previous.clone().and_then(|label| serde_json::from_value(label).ok()).unwrap_or_default();
    let mut restored = Restored::default();
    for buildpack in &detected.group {
        let layers = dirs.layers.join(escaped(&buildpack.about.id));
        let cached = dirs.layers.join(FOLDER).join(escaped(&buildpack.about.id));
        let failed = |act| Failure::io(Phase::Restore, act, &layers);
        fs::create_dir_all(&layers).map_err(failed("make"))?;
        let of_image = previous.buildpacks.iter().find(|other| other.key == buildpack.about.id);
        if let Ok(Some(store)) = files::read_text(&cached.join("store.toml")) {
            fs::write(layers.join("store.toml"), store).map_err(failed("write in"))?;
        } else if let Some(Ok(metadata)) = of_image.and_then(|of| of.store.get("metadata")).map(toml::Value::try_from) {
            write_toml(&layers, "store", metadata).map_err(failed("write in"))?;
        }
        sbom::copy(&cached, &layers).map_err(failed("write in"))?;
        let layers_of_image = of_image.map(|found| found.layers.clone()).unwrap_or_default();
        for (name, layer) in layers_of_image.into_iter().filter(|(name, _)| files::is_layer_name(name)) {
            // What a build needs cannot come back from an image, and what is cached comes back from the cache.
            if !layer.build && !layer.cache {
                let metadata = toml::Value::try_from(&layer.data).unwrap_or(toml::Value::Table(toml::Table::new()));
                write_toml(&layers, &name, metadata).map_err(failed("write in"))?;
            }
            restored.previous.insert((buildpack.about.id.clone(), name), layer);
        }
        for name in files::names(&cached).map_err(failed("read"))? {
            let Ok(note) = files::read_toml::<Note>(&cached.join(&name).join("note.toml")) else { continue };
            let tree = cached.join(&name).join("tree");
            if !files::is_layer_name(&name) || !tree.is_dir() {
                continue;
            }
            if doubtful && !note.fits(&tree).map_err(failed("read the cache of"))? {
                let id = &buildpack.about.id;
                output.detail(format!(
                    "the layer {name} of {id} is made again: a build that failed wrote into its cache"
                ));
                continue;
            }
            link_tree(&tree, &layers.join(&name)).map_err(failed("restore to"))?;
            let metadata = note.toml.get("metadata").cloned().unwrap_or(toml::Value::Table(toml::Table::new()));
            write_toml(&layers, &name, metadata).map_err(failed("write in"))?;
            if let Some(exported) = note.exported {
                restored.exported.insert((buildpack.about.id.clone(), name), exported);
            }
        }
    }
    Ok(restored)
}

/// A layer's file, or `store.toml`, as the specification restores it: metadata without types.
fn write_toml(layers: &Path, name: &str, metadata: toml::Value) -> io::Result<()> {
    let table = toml::Table::from_iter([("metadata".to_owned(), metadata)]);
    fs::write(layers.join(format!("{name}.toml")), toml::to_string(&table).map_err(io::Error::other)?)
}

/// Keeps what the buildpacks want cached. Until the last rename, the old cache is whole; layers are moved, so call it last.
pub(super) fn commit(
    dirs: &Dirs,
    detected: &Detected,
    outcome: &Outcome,
    exported: &BTreeMap<(usize, String), (String, BuiltLayer)>,
) -> Result<(), Failure> {
    let [new, cache, old] = [NEW, FOLDER, OLD].map(|name| dirs.layers.join(name));
    let failed = |act| Failure::io(Phase::Export, act, &new);
    for layer in outcome.layers.iter().filter(|layer| layer.toml.types.cache) {
        let path = path_of(dirs, detected, layer);
        if !path.is_dir() {
            continue;
        }
        let place = new.join(escaped(&detected.group[layer.buildpack].about.id)).join(&layer.name);
        fs::create_dir_all(&place).map_err(failed("make"))?;
        let made = exported.get(&(layer.buildpack, layer.name.clone()));
        let exported = made.map(|(fingerprint, layer)| Exported {
            fingerprint: fingerprint.clone(),
            digest: layer.digest.clone(),
            size: layer.size,
        });
        let LayerToml { metadata, .. } = layer.toml.clone();
        let fingerprint = match &exported {
            Some(exported) => exported.fingerprint.clone(),
            None => fingerprint(&path).map_err(failed("read a layer for"))?,
        };
        let note = Note {
            toml: BTreeMap::from([("metadata".to_owned(), toml::Value::Table(metadata))]),
            exported,
            fingerprint: Some(fingerprint),
        };
        let text = toml::to_string(&note).map_err(|e| Failure::new(Phase::Export, e.to_string()))?;
        fs::write(place.join("note.toml"), text).map_err(failed("write in"))?;
        fs::rename(&path, place.join("tree")).map_err(failed("move a layer to"))?;
    }
    for buildpack in &detected.group {
        let id = escaped(&buildpack.about.id);
        sbom::copy(&dirs.layers.join(&id), &new.join(&id)).map_err(failed("write in"))?;
        let store = dirs.layers.join(escaped(&buildpack.about.id)).join("store.toml");
        if let Ok(Some(text)) = files::read_text(&store) {
            let place = new.join(escaped(&buildpack.about.id));
            fs::create_dir_all(&place)
                .and_then(|()| fs::write(place.join("store.toml"), text))
                .map_err(failed("write in"))?;
        }
    }
    fs::create_dir_all(&new).map_err(failed("make"))?;
    if cache.exists() {
        fs::rename(&cache, &old).map_err(failed("replace the cache by"))?;
    }
    fs::rename(&new, &cache).map_err(failed("replace the cache by"))?;
    if old.exists() {
        files::remove_tree(&old).map_err(failed("clean after"))?;
    }
    Ok(())
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() { link_tree(&source, &target)? } else { fs::hard_link(source, target)? }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

/// A cheap sign that no file of a tree was touched: names, kinds, modes, sizes, dates, inodes.
pub(super) fn fingerprint(tree: &Path) -> io::Result<String> {
    let mut sum = sha2::Sha256::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let mut entries = fs::read_dir(tree.join(&folder))?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, metadata) = (folder.join(entry.file_name()), entry.metadata()?);
            sum.update(path.as_os_str().as_encoded_bytes());
            sum.update([0]);
            sum.update(metadata.mode().to_le_bytes());
            if metadata.is_dir() {
                folders.push(path);
                continue;
            }
            for number in [
                metadata.ino(),
                metadata.size(),
                metadata.mtime().cast_unsigned(),
                metadata.mtime_nsec().cast_unsigned(),
            ] {
                sum.update(number.to_le_bytes());
            }
        }
    }
    Ok(Digest::from_sha256(&sum.finalize().into()).hex().to_owned())
}
