//! Phase 2, restore, and its counterpart after a build. The cache lies on the same file system as the layers, so that a
//! layer is restored by links to its files. It is replaced as a whole, by a rename, when a build has succeeded.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

use super::{
    contributions::{Contributions, LayerToml},
    detector::Detected,
    dirs::{Dirs, escaped},
    failure::Failure,
    files,
    output::Output,
    protocol::{BuildRequest, Phase},
    sbom,
};
use crate::model::Digest;

/// Folder of the cache among the layers; no buildpack's folder begins with a dot.
const FOLDER: &str = ".cache";
const NEW: &str = ".cache.new";
const OLD: &str = ".cache.old";
/// File in the cache while a build has links to the cache's files. A build that succeeds replaces it along with the cache.
const LENT: &str = ".lent";

/// Form of the tars of layers; another one with each change of what is written for the same files.
const TAR_FORM: &[u8] = b"2";

/// Note beside a cached layer.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Note {
    #[serde(default)]
    toml: BTreeMap<String, toml::Value>,
    exported: Option<ExportedTar>,
    /// Fingerprint of the files when they were cached.
    fingerprint: Option<String>,
}

impl Note {
    /// Whether a tree is unchanged since the note was written.
    fn matches(&self, tree: &Path) -> io::Result<bool> {
        self.fingerprint.as_ref().map_or(Ok(true), |noted| Ok(*noted == fingerprint(tree)?))
    }
}

/// A tar that was made of a layer, with the fingerprint of the layer's files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ExportedTar {
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

/// What the export may use again, by buildpack id and layer name.
#[derive(Debug, Default)]
pub(super) struct Restored {
    pub(super) tars: BTreeMap<(String, String), ExportedTar>,
    pub(super) previous: BTreeMap<(String, String), PreviousLayer>,
}

/// Makes one whole cache, or none, of what a process left that may have died at any moment.
pub(super) fn recover(dirs: &Dirs) -> io::Result<()> {
    let (cache, old) = (dirs.layers.join(FOLDER), dirs.layers.join(OLD));
    if !cache.exists() && old.exists() {
        fs::rename(&old, &cache)?;
    }
    files::empty(&dirs.layers, &[FOLDER, "lost+found"])
}

/// Restores what the buildpacks of the group cached, and the metadata and bills of materials of the previous image's layers. A
/// buildpack that writes into a restored file writes into the cache; if that build failed, the layer is not restored.
/// `previous_sbom`: the previous image's layer of bills of materials.
pub(super) fn restore(
    dirs: &Dirs,
    request: &BuildRequest,
    detected: &Detected,
    previous_sbom: Option<File>,
    output: &Output,
) -> Result<Restored, Failure> {
    let lent = dirs.layers.join(FOLDER).join(LENT);
    let is_doubtful = lent.exists();
    if !is_doubtful && dirs.layers.join(FOLDER).is_dir() {
        fs::write(&lent, "").map_err(Failure::io(Phase::Restore, "write", &lent))?;
    }
    let previous: Previous =
        request.previous.clone().and_then(|label| serde_json::from_value(label).ok()).unwrap_or_default();
    let mut restored = Restored::default();
    let mut sboms_of_image = BTreeMap::new();
    for buildpack in &detected.group {
        let layers = dirs.layers_of(&buildpack.about.id);
        let cached = dirs.layers.join(FOLDER).join(escaped(&buildpack.about.id));
        let failed = |operation| Failure::io(Phase::Restore, operation, &layers);
        fs::create_dir_all(&layers).map_err(failed("make"))?;
        let of_image = previous.buildpacks.iter().find(|other| other.key == buildpack.about.id);
        if let Ok(Some(store)) = files::read_text(&cached.join("store.toml")) {
            fs::write(layers.join("store.toml"), store).map_err(failed("write in"))?;
        } else if let Some(Ok(metadata)) = of_image.and_then(|of| of.store.get("metadata")).map(toml::Value::try_from) {
            write_toml(&layers, "store", metadata).map_err(failed("write in"))?;
        }
        let layers_of_image = of_image.map(|found| found.layers.clone()).unwrap_or_default();
        for (name, layer) in layers_of_image.into_iter().filter(|(name, _)| files::is_layer_name(name)) {
            // What a build needs cannot come back from an image, and what is cached comes back from the cache.
            if !layer.build && !layer.cache && !request.skip_restore {
                let metadata = toml::Value::try_from(&layer.data).unwrap_or(toml::Value::Table(toml::Table::new()));
                write_toml(&layers, &name, metadata).map_err(failed("write in"))?;
                sboms_of_image.insert((escaped(&buildpack.about.id), name.clone()), layers.clone());
            }
            restored.previous.insert((buildpack.about.id.clone(), name), layer);
        }
        let in_cache = if request.skip_restore { Ok(Vec::new()) } else { files::names(&cached) };
        for name in in_cache.map_err(failed("read"))? {
            let Ok(note) = files::read_toml::<Note>(&cached.join(&name).join("note.toml")) else { continue };
            let tree = cached.join(&name).join("tree");
            if !files::is_layer_name(&name) || !tree.is_dir() {
                continue;
            }
            if is_doubtful && !note.matches(&tree).map_err(failed("read the cache of"))? {
                let id = &buildpack.about.id;
                output.detail(format!(
                    "the layer {name} of {id} is made again: a build that failed wrote into its cache"
                ));
                continue;
            }
            link_tree(&tree, &layers.join(&name)).map_err(failed("restore to"))?;
            let metadata = note.toml.get("metadata").cloned().unwrap_or(toml::Value::Table(toml::Table::new()));
            write_toml(&layers, &name, metadata).map_err(failed("write in"))?;
            sbom::copy(&cached, &layers, |layer| layer == name).map_err(failed("write in"))?;
            sboms_of_image.remove(&(escaped(&buildpack.about.id), name.clone()));
            if let Some(tar) = note.exported {
                restored.tars.insert((buildpack.about.id.clone(), name), tar);
            }
        }
    }
    if let Some(layer) = previous_sbom {
        let failed = Failure::io(Phase::Restore, "restore the bills of materials to", &dirs.layers);
        sbom::restore(layer, &sboms_of_image).map_err(failed)?;
    }
    Ok(restored)
}

/// Writes the TOML file of a layer, or `store.toml`, as the specification restores it: metadata without types.
fn write_toml(layers: &Path, name: &str, metadata: toml::Value) -> io::Result<()> {
    let table = toml::Table::from_iter([("metadata".to_owned(), metadata)]);
    fs::write(layers.join(format!("{name}.toml")), toml::to_string(&table).map_err(io::Error::other)?)
}

/// Replaces the cache by what the buildpacks want cached. The old cache is whole until the last rename. Layers are moved, so
/// call it last.
pub(super) fn commit(
    dirs: &Dirs,
    detected: &Detected,
    contributions: &Contributions,
    tars: &BTreeMap<(usize, String), ExportedTar>,
) -> Result<(), Failure> {
    let [new, cache, old] = [NEW, FOLDER, OLD].map(|name| dirs.layers.join(name));
    let failed = |operation| Failure::io(Phase::Export, operation, &new);
    for layer in contributions.layers.iter().filter(|layer| layer.toml.types.cache) {
        let id = &detected.group[layer.buildpack].about.id;
        let path = dirs.layers_of(id).join(&layer.name);
        if !path.is_dir() {
            continue;
        }
        let target = new.join(escaped(id)).join(&layer.name);
        fs::create_dir_all(&target).map_err(failed("make"))?;
        let exported = tars.get(&(layer.buildpack, layer.name.clone())).cloned();
        let LayerToml { metadata, .. } = layer.toml.clone();
        let fingerprint = match &exported {
            Some(tar) => tar.fingerprint.clone(),
            None => fingerprint(&path).map_err(failed("read a layer for"))?,
        };
        let note = Note {
            toml: BTreeMap::from([("metadata".to_owned(), toml::Value::Table(metadata))]),
            exported,
            fingerprint: Some(fingerprint),
        };
        let text = toml::to_string(&note).map_err(|e| Failure::new(Phase::Export, e.to_string()))?;
        fs::write(target.join("note.toml"), text).map_err(failed("write in"))?;
        fs::rename(&path, target.join("tree")).map_err(failed("move a layer to"))?;
    }
    for buildpack in &detected.group {
        let (layers, target) = (dirs.layers_of(&buildpack.about.id), new.join(escaped(&buildpack.about.id)));
        let is_cached = |name: &str| target.join(name).join("tree").is_dir();
        sbom::copy(&layers, &target, is_cached).map_err(failed("write in"))?;
        if let Ok(Some(text)) = files::read_text(&layers.join("store.toml")) {
            fs::create_dir_all(&target)
                .and_then(|()| fs::write(target.join("store.toml"), text))
                .map_err(failed("write in"))?;
        }
    }
    fs::create_dir_all(&new).map_err(failed("make"))?;
    if cache.exists() {
        fs::rename(&cache, &old).map_err(failed("replace the cache by"))?;
    }
    fs::rename(&new, &cache).map_err(failed("replace the cache by"))?;
    if old.exists() {
        files::remove_tree(&old).map_err(failed("clean up after"))?;
    }
    Ok(())
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir(to)?;
    for entry in files::readable(from, || fs::read_dir(from))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() { link_tree(&source, &target)? } else { fs::hard_link(source, target)? }
    }
    fs::set_permissions(to, fs::metadata(from)?.permissions())
}

/// Hash of the names, kinds, modes, sizes, dates and inodes of a tree's files: cheap, and another one after any change.
pub(super) fn fingerprint(tree: &Path) -> io::Result<String> {
    let mut sum = sha2::Sha256::new();
    // Tars of an earlier form are made again.
    sum.update(TAR_FORM);
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = tree.join(&folder);
        let mut entries = files::readable(&path, || fs::read_dir(&path))?.collect::<io::Result<Vec<_>>>()?;
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
