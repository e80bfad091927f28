//! Phase 4, export: layers from the lowest to the app's own, so that a change of code moves one small layer.

mod slices;

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io,
    path::{Path, PathBuf},
};

use super::{
    buildpack::Buildpack,
    cache::{self, ExportedTar, Restored},
    contributions::{Contributions, DeclaredProcess, Layer, Slice},
    descriptor::Descriptor,
    detector::Detected,
    dirs::Dirs,
    exec_env::{self, EXEC_ENV},
    failure::Failure,
    files, launcher_layers,
    layer_tar::{LayerTar, OWNER},
    output::Output,
    protocol::{BlobHeader, BuildRequest, Built, BuiltLayer, BuiltWith, Phase},
    sbom,
};
use crate::model::{Digest, Process};

/// Result of the export.
pub(super) struct Exported {
    pub(super) built: Built,
    /// Tars that were made of layers or used again, by place of the buildpack and name of the layer.
    pub(super) tars: BTreeMap<(usize, String), ExportedTar>,
}

pub(super) fn export(
    dirs: &Dirs,
    request: &BuildRequest,
    detected: &Detected,
    contributions: &Contributions,
    restored: &Restored,
    output: &Output,
) -> Result<Exported, Failure> {
    let failed = |e: io::Error| Failure::new(Phase::Export, format!("cannot export: {e}"));
    let types = contributions.processes.iter().map(|declared| declared.process.process_type.as_str()).collect();
    let started = contributions.processes.iter().filter(|declared| exec_env::in_production(&declared.exec_env));
    let processes: Vec<Process> = started.map(|declared| declared.process.clone()).collect();
    let known = request.known_blobs.iter().collect();
    let spool = dirs.layers.join(".export");
    let mut exporter = Exporter { dirs, spool, known, output, layers: Vec::new() };
    let config = launcher_config(detected, &contributions.processes)?;
    for layer in [
        launcher_layers::launcher(&exporter.spool, &dirs.lifecycle, types),
        launcher_layers::config(&exporter.spool, dirs, &config),
    ] {
        layer.and_then(|layer| exporter.add(layer)).map_err(failed)?;
    }
    let sbom = exporter.sbom(detected, contributions).map_err(failed)?;
    let mut tars = BTreeMap::new();
    let mut of_buildpacks: BTreeMap<usize, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
    for layer in contributions.layers.iter().filter(|layer| layer.toml.types.launch) {
        let tar = exporter.launch(&detected.group[layer.buildpack], layer, restored)?;
        let Some(last) = exporter.layers.last() else { continue };
        let entry = serde_json::json!({
            "sha": last.digest, "size": last.size, "data": files::json_of(layer.toml.metadata.clone().into()),
            "launch": true, "build": layer.toml.types.build, "cache": layer.toml.types.cache,
        });
        of_buildpacks.entry(layer.buildpack).or_default().insert(layer.name.clone(), entry);
        if let Some(tar) = tar {
            tars.insert((layer.buildpack, layer.name.clone()), tar);
        }
    }
    let first_of_app = exporter.layers.len();
    exporter.app(&dirs.workspace, &contributions.slices).map_err(failed)?;
    let layers = exporter.layers;

    let stores = detected.group.iter().map(|buildpack| store(&dirs.layers_of(&buildpack.about.id)));
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let mut lifecycle_metadata = serde_json::json!({
        "app": layers[first_of_app..].iter().map(|layer| serde_json::json!({ "sha": layer.digest })).collect::<Vec<_>>(),
        "launcher": { "sha": layers[0].digest },
        "config": { "sha": layers[1].digest },
        "exec-env": EXEC_ENV,
        "buildpacks": detected.group.iter().enumerate().map(|(index, buildpack)| serde_json::json!({
            "key": buildpack.about.id, "version": buildpack.about.version,
            "layers": of_buildpacks.remove(&index).unwrap_or_default(), "store": stores[index],
        })).collect::<Vec<_>>(),
    });
    if let Some(sbom) = sbom {
        lifecycle_metadata["sbom"] = serde_json::json!({ "sha": sbom.digest });
    }
    let buildpacks: Vec<BuiltWith> = detected.group.iter().map(|buildpack| built_with(&buildpack.about)).collect();
    let with_buildpack = |DeclaredProcess { buildpack, process, exec_env }: &DeclaredProcess| {
        let mut json = serde_json::json!(process);
        json["buildpackID"] = serde_json::json!(detected.group[*buildpack].about.id);
        // The entrypoint says which one it is.
        if let Some(json) = json.as_object_mut() {
            json.remove("default");
        }
        if !exec_env.is_empty() {
            json["exec-env"] = serde_json::json!(exec_env);
        }
        json
    };
    let build_metadata = serde_json::json!({
        "processes": contributions.processes.iter().map(with_buildpack).collect::<Vec<_>>(),
        "buildpacks": buildpacks,
        "launcher": { "version": env!("CARGO_PKG_VERSION") },
    });
    let mut labels = contributions.labels.clone();
    labels.insert("io.buildpacks.lifecycle.metadata".to_owned(), lifecycle_metadata.to_string());
    labels.insert("io.buildpacks.build.metadata".to_owned(), build_metadata.to_string());
    labels.insert("io.buildpacks.project.metadata".to_owned(), request.project.to_string());
    labels.insert("io.buildpacks.rebasable".to_owned(), "true".to_owned());
    labels.insert("io.buildpacks.exec-env".to_owned(), EXEC_ENV.to_owned());
    let main = processes.iter().find(|p| p.default).or_else(|| processes.iter().find(|p| p.process_type.is_web()));
    let entrypoint =
        main.map_or_else(|| "/cnb/lifecycle/launcher".to_owned(), |p| format!("/cnb/process/{}", p.process_type));
    let built = Built {
        layers,
        env: vec![
            "CNB_LAYERS_DIR=/layers".to_owned(),
            "CNB_APP_DIR=/workspace".to_owned(),
            "CNB_PLATFORM_API=0.15".to_owned(),
        ],
        path: vec!["/cnb/process".to_owned(), "/cnb/lifecycle".to_owned()],
        entrypoint: vec![entrypoint],
        working_dir: "/workspace".to_owned(),
        labels,
        processes,
        buildpacks,
        timings: Vec::new(),
    };
    Ok(Exported { built, tars })
}

struct Exporter<'a> {
    dirs: &'a Dirs,
    /// Folder for tars, which have no names.
    spool: PathBuf,
    /// Blobs that the server has.
    known: HashSet<&'a Digest>,
    output: &'a Output,
    /// Layers of the image so far.
    layers: Vec<BuiltLayer>,
}

impl Exporter<'_> {
    fn tar(&self) -> io::Result<LayerTar> {
        LayerTar::new(&self.spool, OWNER)
    }

    /// Adds a finished tar to the image; sends it if the server lacks it.
    fn add(&mut self, (layer, file): (BuiltLayer, File)) -> io::Result<BuiltLayer> {
        let sent = self.known.contains(&layer.digest) || self.layers.iter().any(|other| other.digest == layer.digest);
        if !sent {
            let header = BlobHeader { digest: layer.digest.clone(), size: layer.size, download: None };
            self.output.blob(&header, file)?;
        }
        self.layers.push(layer.clone());
        Ok(layer)
    }

    /// The bills of materials, if there are any.
    fn sbom(&mut self, detected: &Detected, contributions: &Contributions) -> io::Result<Option<BuiltLayer>> {
        let files = sbom::for_launch(self.dirs, detected, contributions)?;
        if files.is_empty() {
            return Ok(None);
        }
        let mut tar = self.tar()?;
        tar.files(&files)?;
        self.add(tar.finish("software bills of materials")?).map(Some)
    }

    /// Adds a launch layer: an earlier tar of an unchanged layer, the previous image's layer if the folder is absent, or a
    /// new tar. Returns the tar of a layer whose folder exists.
    fn launch(
        &mut self,
        buildpack: &Buildpack,
        layer: &Layer,
        restored: &Restored,
    ) -> Result<Option<ExportedTar>, Failure> {
        let path = self.dirs.layers_of(&buildpack.about.id).join(&layer.name);
        let key = (buildpack.about.id.clone(), layer.name.clone());
        let created_by = format!("{}:{}", buildpack.about.id, layer.name);
        if !path.exists() {
            let Some(previous) = restored.previous.get(&key).filter(|p| self.known.contains(&p.sha)) else {
                let path = path.display();
                let message = format!("{path}.toml says that the layer is for launch, but {path} does not exist");
                return Err(Failure::new(Phase::Export, message));
            };
            self.layers.push(BuiltLayer { digest: previous.sha.clone(), size: previous.size, created_by });
            return Ok(None);
        }
        let failed = |e: io::Error| Failure::new(Phase::Export, format!("cannot export {}: {e}", path.display()));
        let fingerprint = cache::fingerprint(&path).map_err(failed)?;
        let earlier = restored.tars.get(&key).filter(|tar| tar.fingerprint == fingerprint);
        if let Some(earlier) = earlier.filter(|earlier| self.known.contains(&earlier.digest)) {
            self.layers.push(BuiltLayer { digest: earlier.digest.clone(), size: earlier.size, created_by });
            return Ok(Some(earlier.clone()));
        }
        let mut tar = self.tar().map_err(failed)?;
        tar.tree(&path, &path).map_err(failed)?;
        let BuiltLayer { digest, size, .. } = tar.finish(&created_by).and_then(|tar| self.add(tar)).map_err(failed)?;
        Ok(Some(ExportedTar { fingerprint, digest, size }))
    }

    /// The app: a layer for each slice, then one for the rest. `place` is its folder in the image.
    fn app(&mut self, place: &Path, slices: &[Slice]) -> io::Result<()> {
        let workspace = &self.dirs.workspace;
        // Absolute patterns name paths in the image.
        let relative =
            |slice: &Slice| Slice { paths: slice.paths.iter().map(|path| slices::relative(place, path)).collect() };
        let layers = slices::divide(workspace, &slices.iter().map(relative).collect::<Vec<_>>())?;
        let rest = layers.len() - 1;
        for (index, entries) in layers.into_iter().enumerate() {
            let mut tar = LayerTar::new(&self.spool, OWNER)?;
            if !entries.is_empty() {
                tar.parents(place)?;
            }
            for entry in entries {
                let below =
                    |folder: &Path| if entry.as_os_str().is_empty() { folder.to_owned() } else { folder.join(&entry) };
                tar.path(&below(workspace), &below(place))?;
            }
            self.add(tar.finish(if index == rest { "app" } else { "app slice" })?)?;
        }
        Ok(())
    }
}

/// Metadata that a buildpack keeps for its next build (`store.toml`). It goes with the image, so that it outlives the cache.
fn store(layers: &Path) -> Result<Option<serde_json::Value>, Failure> {
    #[derive(Default, serde::Deserialize)]
    struct Store {
        #[serde(default)]
        metadata: toml::Table,
    }
    let Store { metadata } =
        files::read_toml(&layers.join("store.toml")).map_err(|message| Failure::new(Phase::Export, message))?;
    let has_metadata = !metadata.is_empty();
    Ok(has_metadata.then(|| serde_json::json!({ "metadata": files::json_of(metadata.into()) })))
}

fn built_with(about: &Descriptor) -> BuiltWith {
    BuiltWith {
        id: about.id.clone(),
        version: about.version.clone(),
        api: about.api.to_string(),
        homepage: about.homepage.clone(),
    }
}

/// The launcher's configuration: buildpacks in the order in which they add to the environment, and processes.
fn launcher_config(detected: &Detected, processes: &[DeclaredProcess]) -> Result<String, Failure> {
    #[derive(serde::Serialize)]
    struct Config<'a> {
        buildpacks: Vec<BTreeMap<&'a str, String>>,
        processes: Vec<Row<'a>>,
    }
    #[derive(serde::Serialize)]
    #[serde(rename_all = "kebab-case")]
    struct Row<'a> {
        #[serde(flatten)]
        process: &'a Process,
        buildpack_id: &'a str,
        #[serde(skip_serializing_if = "<[String]>::is_empty")]
        exec_env: &'a [String],
    }
    let row = |b: &Buildpack| BTreeMap::from([("id", b.about.id.clone()), ("api", b.about.api.to_string())]);
    let processes = processes.iter().map(|DeclaredProcess { buildpack, process, exec_env }| Row {
        process,
        buildpack_id: &detected.group[*buildpack].about.id,
        exec_env,
    });
    toml::to_string(&Config { buildpacks: detected.group.iter().map(row).collect(), processes: processes.collect() })
        .map_err(|e| Failure::new(Phase::Export, e.to_string()))
}

#[cfg(test)]
mod tests;
