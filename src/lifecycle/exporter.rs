//! Phase 4, export: layers from the lowest to the app's own, so that a change of code moves one small layer.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io,
    path::{Component, Path, PathBuf},
};

use super::{
    Dirs, Failure,
    builder::{Layer, Outcome, Slice, path_of},
    buildpack::{Buildpack, escaped},
    cache::{self, Restored},
    descriptor::Descriptor,
    detector::Detected,
    files,
    layer_tar::LayerTar,
    output::Output,
    protocol::{BlobHeader, BuildRequest, Built, BuiltLayer, BuiltWith, Phase},
    sbom,
};
use crate::model::{Digest, Process};

/// The user that builds and apps run as.
const OWNER: u64 = 1000;

/// What launchers of images of this lifecycle read; see `launcher`.
pub(super) const METADATA: &str = "config/metadata.toml";

/// Layers that were made or found, and where the layers that a cache may keep came from.
pub(super) struct Exported {
    pub(super) built: Built,
    pub(super) layers: BTreeMap<(usize, String), (String, BuiltLayer)>,
}

struct Exporter<'a> {
    dirs: &'a Dirs,
    spool: PathBuf,
    known: HashSet<&'a Digest>,
    output: &'a Output,
    layers: Vec<BuiltLayer>,
}

impl Exporter<'_> {
    fn tar(&self, owner: u64) -> io::Result<LayerTar> {
        LayerTar::new(&self.spool, owner)
    }

    /// Takes a finished tar into the image; sends it if the server lacks it.
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
    fn sbom(&mut self, detected: &Detected, outcome: &Outcome) -> io::Result<Option<BuiltLayer>> {
        let files = sbom::for_launch(self.dirs, detected, outcome)?;
        if files.is_empty() {
            return Ok(None);
        }
        let mut tar = self.tar(OWNER)?;
        tar.files(&files)?;
        self.add(tar.finish("software bills of materials")?).map(Some)
    }

    /// A launch layer: made before and untouched, or as the previous image has it, or made anew.
    fn launch(
        &mut self,
        detected: &Detected,
        layer: &Layer,
        restored: &Restored,
    ) -> Result<Option<(String, BuiltLayer)>, Failure> {
        let buildpack = &detected.group[layer.buildpack];
        let path = path_of(self.dirs, detected, layer);
        let key = (buildpack.about.id.clone(), layer.name.clone());
        let created_by = format!("{}:{}", buildpack.about.id, layer.name);
        if !path.exists() {
            let Some(previous) = restored.previous.get(&key).filter(|p| self.known.contains(&p.sha)) else {
                let message = format!(
                    "{}.toml says that the layer is for launch, but {} is not there",
                    path.display(),
                    path.display()
                );
                return Err(Failure::new(Phase::Export, message));
            };
            self.layers.push(BuiltLayer { digest: previous.sha.clone(), size: previous.size, created_by });
            return Ok(None);
        }
        let failed = |e: io::Error| Failure::new(Phase::Export, format!("cannot export {}: {e}", path.display()));
        let fingerprint = cache::fingerprint(&path).map_err(failed)?;
        let before = restored.exported.get(&key).filter(|e| e.fingerprint == fingerprint);
        if let Some(before) = before.filter(|before| self.known.contains(&before.digest)) {
            let layer = BuiltLayer { digest: before.digest.clone(), size: before.size, created_by };
            self.layers.push(layer.clone());
            return Ok(Some((fingerprint, layer)));
        }
        let mut tar = self.tar(OWNER).map_err(failed)?;
        tar.tree(&path, &|_| false).map_err(failed)?;
        let layer = tar.finish(&created_by).and_then(|made| self.add(made)).map_err(failed)?;
        Ok(Some((fingerprint, layer)))
    }

    /// The app: a layer for each slice, then the rest.
    fn app(&mut self, slices: &[Slice]) -> io::Result<()> {
        let workspace = self.dirs.workspace.clone();
        let mut taken: HashSet<PathBuf> = HashSet::new();
        for slice in slices {
            let mut paths: Vec<PathBuf> = slice
                .paths
                .iter()
                .flat_map(|pattern| matching(&workspace, pattern))
                .filter(|p| !taken.contains(p))
                .collect();
            paths.sort();
            paths.dedup();
            if paths.is_empty() {
                continue;
            }
            let mut tar = self.tar(OWNER)?;
            tar.parents(&workspace.join("x"))?;
            for path in &paths {
                tar.path(path)?;
            }
            self.add(tar.finish("app slice")?)?;
            taken.extend(paths);
        }
        let mut tar = self.tar(OWNER)?;
        tar.tree(&workspace, &|path| !path.is_dir() && taken.contains(path))?;
        self.add(tar.finish("app")?).map(drop)
    }
}

/// Files under the app that a slice's pattern names: relative to the app's folder, or absolute and in it.
fn matching(workspace: &Path, pattern: &str) -> Vec<PathBuf> {
    let relative = Path::new(pattern).strip_prefix(workspace).unwrap_or(Path::new(pattern));
    let parts: Option<Vec<&str>> = relative
        .components()
        .filter(|part| *part != Component::CurDir)
        .map(|part| if let Component::Normal(part) = part { part.to_str() } else { None })
        .collect();
    let Some(parts) = parts.filter(|parts| !parts.is_empty()) else { return Vec::new() };
    let mut found = vec![workspace.to_owned()];
    for part in parts {
        found = found
            .into_iter()
            .filter(|folder| folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()))
            .flat_map(|folder| {
                let names = files::names(&folder).unwrap_or_default();
                names.into_iter().filter(|name| glob(part, name)).map(move |name| folder.join(name))
            })
            .collect();
    }
    let mut files = Vec::new();
    for path in found {
        collect(&path, &mut files);
    }
    files
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    files.push(path.to_owned());
    if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
        for name in files::names(path).unwrap_or_default() {
            collect(&path.join(name), files);
        }
    }
}

/// Patterns of Go's `filepath.Match`, within one name: `*`, `?`, `[a-z]`, `[^a]`, `\\` before what stands for itself.
fn glob(pattern: &str, name: &str) -> bool {
    let mut rest = pattern.chars();
    let mut left = name.chars();
    let Some(first) = rest.next() else { return name.is_empty() };
    match first {
        '*' => name.char_indices().map(|(at, _)| at).chain([name.len()]).any(|at| glob(rest.as_str(), &name[at..])),
        '?' => left.next().is_some() && glob(rest.as_str(), left.as_str()),
        '[' => {
            let Some((class, rest)) = rest.as_str().split_once(']') else { return false };
            let (class, wanted) = class.strip_prefix('^').map_or((class, true), |class| (class, false));
            left.next().is_some_and(|c| in_class(class, c) == wanted) && glob(rest, left.as_str())
        }
        '\\' => rest.next().is_some_and(|c| left.next() == Some(c)) && glob(rest.as_str(), left.as_str()),
        c => left.next() == Some(c) && glob(rest.as_str(), left.as_str()),
    }
}

fn in_class(class: &str, wanted: char) -> bool {
    let chars: Vec<char> = class.chars().filter(|c| *c != '\\').collect();
    let mut at = 0;
    while at < chars.len() {
        let range = chars.get(at + 1) == Some(&'-') && at + 2 < chars.len();
        let last = if range { chars[at + 2] } else { chars[at] };
        if (chars[at]..=last).contains(&wanted) {
            return true;
        }
        at += if range { 3 } else { 1 };
    }
    false
}

pub(super) fn export(
    dirs: &Dirs,
    request: &BuildRequest,
    detected: &Detected,
    outcome: &Outcome,
    restored: &Restored,
    output: &Output,
) -> Result<Exported, Failure> {
    let failed = |e: io::Error| Failure::new(Phase::Export, format!("cannot export: {e}"));
    let processes: Vec<Process> = outcome.processes.iter().map(|(_, process)| process.clone()).collect();
    let known = request.known_blobs.iter().collect();
    let spool = dirs.layers.join(".export");
    let mut exporter = Exporter { dirs, spool, known, output, layers: Vec::new() };
    let config = launcher_config(detected, &outcome.processes)?;
    for layer in
        [launcher(&exporter.spool, &dirs.lifecycle, &processes), self::config(&exporter.spool, &dirs.layers, &config)]
    {
        layer.and_then(|layer| exporter.add(layer)).map_err(failed)?;
    }
    let sbom = exporter.sbom(detected, outcome).map_err(failed)?;
    let mut layers = BTreeMap::new();
    let mut of_buildpacks: BTreeMap<usize, serde_json::Map<String, serde_json::Value>> = BTreeMap::new();
    for layer in outcome.layers.iter().filter(|layer| layer.toml.types.launch) {
        let made = exporter.launch(detected, layer, restored)?;
        let Some(last) = exporter.layers.last() else { continue };
        let entry = serde_json::json!({
            "sha": last.digest, "size": last.size, "data": files::json_of(layer.toml.metadata.clone().into()),
            "launch": true, "build": layer.toml.types.build, "cache": layer.toml.types.cache,
        });
        of_buildpacks.entry(layer.buildpack).or_default().insert(layer.name.clone(), entry);
        if let Some(made) = made {
            layers.insert((layer.buildpack, layer.name.clone()), made);
        }
    }
    let first_of_app = exporter.layers.len();
    exporter.app(&outcome.slices).map_err(failed)?;
    let made = exporter.layers;

    let stores = detected.group.iter().map(|b| store(&layers_of(&dirs.layers, &b.about.id)));
    let stores = stores.collect::<Result<Vec<_>, _>>()?;
    let mut lifecycle_metadata = serde_json::json!({
        "app": made[first_of_app..].iter().map(|layer| serde_json::json!({ "sha": layer.digest })).collect::<Vec<_>>(),
        "launcher": { "sha": made[0].digest },
        "config": { "sha": made[1].digest },
        "buildpacks": detected.group.iter().enumerate().map(|(index, buildpack)| serde_json::json!({
            "key": buildpack.about.id, "version": buildpack.about.version,
            "layers": of_buildpacks.remove(&index).unwrap_or_default(), "store": stores[index],
        })).collect::<Vec<_>>(),
    });
    if let Some(sbom) = sbom {
        lifecycle_metadata["sbom"] = serde_json::json!({ "sha": sbom.digest });
    }
    let buildpacks: Vec<BuiltWith> = detected.group.iter().map(|b| built_with(&b.about)).collect();
    let of = |(index, process): &(usize, Process)| {
        let mut json = serde_json::json!(process);
        json["buildpackID"] = serde_json::json!(detected.group[*index].about.id);
        json
    };
    let build_metadata = serde_json::json!({
        "processes": outcome.processes.iter().map(of).collect::<Vec<_>>(),
        "buildpacks": buildpacks,
        "launcher": { "version": env!("CARGO_PKG_VERSION") },
    });
    let mut labels = outcome.labels.clone();
    labels.insert("io.buildpacks.lifecycle.metadata".to_owned(), lifecycle_metadata.to_string());
    labels.insert("io.buildpacks.build.metadata".to_owned(), build_metadata.to_string());
    labels.insert("io.buildpacks.project.metadata".to_owned(), request.project.to_string());
    labels.insert("io.buildpacks.rebasable".to_owned(), "true".to_owned());
    let main = processes.iter().find(|p| p.default).or_else(|| processes.iter().find(|p| p.process_type.is_web()));
    let entrypoint =
        main.map_or_else(|| "/cnb/lifecycle/launcher".to_owned(), |p| format!("/cnb/process/{}", p.process_type));
    let built = Built {
        layers: made,
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
    Ok(Exported { built, layers })
}

/// What a buildpack wants to know at its next build (`store.toml`): it goes with the image, so that it outlives the cache.
fn store(layers: &Path) -> Result<Option<serde_json::Value>, Failure> {
    #[derive(Default, serde::Deserialize)]
    struct Store {
        #[serde(default)]
        metadata: toml::Table,
    }
    let Store { metadata } =
        files::read_toml(&layers.join("store.toml")).map_err(|message| Failure::new(Phase::Export, message))?;
    let stored = !metadata.is_empty();
    Ok(stored.then(|| serde_json::json!({ "metadata": files::json_of(metadata.into()) })))
}

/// The launcher, and a link to it for each process.
fn launcher(spool: &Path, lifecycle: &Path, processes: &[Process]) -> io::Result<(BuiltLayer, File)> {
    let mut tar = LayerTar::new(spool, 0)?;
    for folder in ["cnb", "cnb/lifecycle"] {
        tar.folder(Path::new(folder), 0o755)?;
    }
    tar.file(Path::new("cnb/lifecycle/launcher"), lifecycle, 0o755)?;
    tar.folder(Path::new("cnb/process"), 0o755)?;
    let mut names: Vec<_> = processes.iter().map(|process| process.process_type.as_str()).collect();
    names.sort_unstable();
    for name in names {
        tar.link(&Path::new("cnb/process").join(name), Path::new("/cnb/lifecycle/launcher"))?;
    }
    tar.finish("launcher")
}

/// What the launcher reads.
fn config(spool: &Path, layers: &Path, text: &str) -> io::Result<(BuiltLayer, File)> {
    let path = layers.join(METADATA);
    let mut tar = LayerTar::new(spool, OWNER)?;
    tar.parents(&path)?;
    tar.bytes(&path, 0o644, text.as_bytes())?;
    tar.finish("launcher configuration")
}

/// The layers that let an image which no buildpack made be launched like any other, each with its tar: `lifecycle` is
/// the binary, `spool` a folder for files without a name.
pub fn launcher_layers(lifecycle: &Path, processes: &[Process], spool: &Path) -> io::Result<Vec<(BuiltLayer, File)>> {
    let text = toml::to_string(&BTreeMap::from([("processes", processes)])).map_err(io::Error::other)?;
    let layers = Dirs::default().layers;
    Ok(vec![launcher(spool, lifecycle, processes)?, config(spool, &layers, &text)?])
}

fn built_with(about: &Descriptor) -> BuiltWith {
    BuiltWith {
        id: about.id.clone(),
        version: about.version.clone(),
        api: about.api.to_string(),
        homepage: about.homepage.clone(),
    }
}

/// What the launcher needs to know, in the order that the environment is made in (platform.md, `metadata.toml`).
fn launcher_config(detected: &Detected, processes: &[(usize, Process)]) -> Result<String, Failure> {
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
    }
    let row = |b: &Buildpack| BTreeMap::from([("id", b.about.id.clone()), ("api", b.about.api.to_string())]);
    let processes =
        processes.iter().map(|(index, process)| Row { process, buildpack_id: &detected.group[*index].about.id });
    toml::to_string(&Config { buildpacks: detected.group.iter().map(row).collect(), processes: processes.collect() })
        .map_err(|e| Failure::new(Phase::Export, e.to_string()))
}

/// The folder of a buildpack's layers in an image.
pub(super) fn layers_of(layers: &Path, id: &str) -> PathBuf {
    layers.join(escaped(id))
}
