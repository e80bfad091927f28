//! Phase 3, build: each buildpack's `bin/build` in turn, and what it declared.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::Mutex,
    time::{Duration, Instant},
};

use serde::Deserialize;

use super::{
    Dirs, Failure,
    buildpack::{self, Buildpack, Running},
    descriptor::{self, Api},
    detector::Detected,
    env::{self, Moment},
    files,
    output::Output,
    plan::{Entry, Need},
    protocol::{BuildRequest, Phase},
    sbom,
};
use crate::model::{Line, Process};

/// What a layer's TOML file says; `metadata` is the buildpack's own.
#[derive(Debug, Clone, Default, Deserialize, serde::Serialize)]
pub(super) struct LayerToml {
    #[serde(default)]
    pub(super) types: LayerTypes,
    #[serde(default)]
    pub(super) metadata: toml::Table,
}

/// What a layer is for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, serde::Serialize)]
pub(super) struct LayerTypes {
    #[serde(default)]
    pub(super) launch: bool,
    #[serde(default)]
    pub(super) build: bool,
    #[serde(default)]
    pub(super) cache: bool,
}

/// What a buildpack wrote to `launch.toml`.
#[derive(Debug, Default, Deserialize)]
struct LaunchToml {
    #[serde(default)]
    processes: Vec<RawProcess>,
    #[serde(default)]
    labels: Vec<Label>,
    #[serde(default)]
    slices: Vec<Slice>,
}

#[derive(Debug, Deserialize)]
struct RawProcess {
    #[serde(rename = "type")]
    process_type: String,
    command: Words,
    #[serde(default)]
    args: Vec<String>,
    direct: Option<bool>,
    #[serde(default)]
    default: bool,
    #[serde(rename = "working-dir")]
    working_dir: Option<String>,
    #[serde(default, rename = "exec-env")]
    exec_env: Vec<String>,
}

/// `command` was a string before API 0.9.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Words {
    One(String),
    Many(Vec<String>),
}

#[derive(Debug, Deserialize)]
struct Label {
    key: String,
    value: String,
}

/// Files of the app that get a layer of their own.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Slice {
    #[serde(default)]
    pub(super) paths: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
struct BuildToml {
    #[serde(default)]
    unmet: Vec<Unmet>,
}

#[derive(Debug, Deserialize)]
struct Unmet {
    name: String,
}

/// A layer that a buildpack left.
#[derive(Debug, Clone)]
pub(super) struct Layer {
    pub(super) buildpack: usize,
    pub(super) name: String,
    pub(super) toml: LayerToml,
}

/// What all buildpacks left.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) processes: Vec<(usize, Process)>,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) slices: Vec<Slice>,
    pub(super) layers: Vec<Layer>,
    /// How long each buildpack took, in order.
    pub(super) times: Vec<Duration>,
}

pub(super) fn build(
    dirs: &Dirs,
    request: &BuildRequest,
    detected: &Detected,
    running: &Running,
    output: &Output,
) -> Result<Outcome, Failure> {
    let mut outcome = Outcome::default();
    let mut needs = detected.needs.clone();
    let mut env = buildpack::base_environment(dirs, request);
    for (index, buildpack) in detected.group.iter().enumerate() {
        let wrong = |message: String| Failure::new(Phase::Build, message);
        let layers = dirs.layers.join(buildpack::escaped(&buildpack.about.id));
        fs::create_dir_all(&layers).map_err(Failure::io(Phase::Build, "make", &layers))?;
        let plan = dirs.tmp.join(format!("build-plan-{index}.toml"));
        let entries: Vec<&Entry> =
            needs.iter().filter(|need| need.providers.contains(&index)).flat_map(|need| &need.entries).collect();
        let text = toml::to_string(&BTreeMap::from([("entries", &entries)])).map_err(|e| wrong(e.to_string()))?;
        fs::write(&plan, text).map_err(Failure::io(Phase::Build, "write", &plan))?;

        let mut own = buildpack::environment(dirs, request, buildpack, &env);
        own.insert("CNB_LAYERS_DIR".to_owned(), layers.display().to_string());
        own.insert("CNB_BP_PLAN_PATH".to_owned(), plan.display().to_string());
        let program = buildpack.dir.join("bin/build");
        let arguments: [&Path; 3] = [&layers, &dirs.platform, &plan];
        // Its last complaint, if nothing comes after it, is why it failed: said once, and where the build is listed, too.
        let complaint = Mutex::new(None::<String>);
        let tell = |line: &str| {
            let is_one = line.starts_with(" !     ");
            let held = match complaint.lock() {
                Ok(mut complaint) => std::mem::replace(&mut *complaint, is_one.then(|| line.to_owned())),
                Err(_) => None,
            };
            if let Some(held) = held {
                output.printed(&held);
            }
            if !is_one {
                output.printed(line);
            }
        };
        let begun = Instant::now();
        match buildpack::run(&program, &arguments, &own, dirs, running, &tell) {
            Ok(0) => {
                if let Some(held) = complaint.into_inner().ok().flatten() {
                    output.printed(&held);
                }
            }
            Ok(status) => {
                let why = complaint.into_inner().ok().flatten();
                let why =
                    why.as_deref().and_then(|line| line.strip_prefix(" !     ")).map(|why| Line::sanitize(why.trim()));
                let failed = format!("the buildpack {} failed with status {status}", buildpack.name());
                let why = why.filter(|why| !why.is_empty()).map(|why| format!("{why} ({failed})"));
                return Err(wrong(why.unwrap_or(failed)));
            }
            Err(e) => {
                let why = buildpack::why_not(&e);
                return Err(wrong(format!("bin/build of the buildpack {} does not run: {why}", buildpack.name())));
            }
        }
        outcome.times.push(begun.elapsed());
        read_launch(&layers, index, buildpack, &mut outcome).map_err(wrong)?;
        let found = read_layers(&layers, index).map_err(wrong)?;
        sbom::check(&layers).map_err(wrong)?;
        let build = found.iter().filter(|layer| layer.toml.types.build).map(|layer| layers.join(&layer.name));
        let build: Vec<_> = build.collect();
        env::add_layers(&mut env, &build, Moment::Build).map_err(wrong)?;
        outcome.layers.extend(found);

        let file = layers.join("build.toml");
        let BuildToml { unmet } = files::read_toml(&file).map_err(wrong)?;
        if let Some(unknown) = unmet.iter().find(|unmet| entries.iter().all(|entry| entry.name != unmet.name)) {
            return Err(wrong(format!("{}, key unmet.name: the plan has no entry {:?}", file.display(), unknown.name)));
        }
        needs = left(needs, index, &unmet);
    }
    Ok(outcome)
}

pub(super) fn path_of(dirs: &Dirs, detected: &Detected, layer: &Layer) -> std::path::PathBuf {
    dirs.layers.join(buildpack::escaped(&detected.group[layer.buildpack].about.id)).join(&layer.name)
}

/// Needs that go on to later providers: those that this buildpack did not provide, or named as unmet.
fn left(needs: Vec<Need>, index: usize, unmet: &[Unmet]) -> Vec<Need> {
    needs
        .into_iter()
        .filter(|need| {
            let name = need.entries.first().map(|entry| entry.name.as_str());
            !need.providers.contains(&index) || unmet.iter().any(|unmet| Some(unmet.name.as_str()) == name)
        })
        .collect()
}

/// Reads what a buildpack wrote to `launch.toml`; nothing of it is trusted.
fn read_launch(layers: &Path, index: usize, buildpack: &Buildpack, outcome: &mut Outcome) -> Result<(), String> {
    let file = layers.join("launch.toml");
    let wrong = |message: &str| format!("{}, {message}", file.display());
    let launch: LaunchToml = files::read_toml(&file)?;
    if launch.processes.iter().filter(|process| process.default).count() > 1 {
        return Err(wrong("key processes.default: only one process can be the default"));
    }
    for raw in launch.processes.into_iter().filter(|raw| descriptor::in_production(&raw.exec_env)) {
        let process = process(raw, buildpack).map_err(|e| wrong(&e))?;
        outcome.processes.retain(|(_, other)| other.process_type != process.process_type);
        if process.default {
            for (_, other) in &mut outcome.processes {
                other.default = false;
            }
        }
        outcome.processes.push((index, process));
    }
    for label in launch.labels {
        outcome.labels.insert(label.key, label.value);
    }
    outcome.slices.extend(launch.slices);
    Ok(())
}

/// The layers that a buildpack left: whatever has a TOML file.
fn read_layers(layers: &Path, index: usize) -> Result<Vec<Layer>, String> {
    let mut found = Vec::new();
    for file in files::names(layers).map_err(|e| format!("cannot read {}: {e}", layers.display()))? {
        let Some(name) = file.strip_suffix(".toml") else { continue };
        if !files::is_layer_name(name) {
            continue;
        }
        let folder = layers.join(name);
        if fs::symlink_metadata(&folder).is_ok_and(|metadata| !metadata.is_dir()) {
            return Err(format!("{} is not a folder", folder.display()));
        }
        let toml: LayerToml = files::read_toml(&layers.join(&file))?;
        found.push(Layer { buildpack: index, name: name.to_owned(), toml });
    }
    Ok(found)
}

fn process(raw: RawProcess, buildpack: &Buildpack) -> Result<Process, String> {
    let process_type = raw.process_type.parse().map_err(|e| format!("key processes.type: {e}"))?;
    let command = match raw.command {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    };
    if command.first().is_none_or(String::is_empty) {
        return Err(format!("key processes.command: the command of {process_type} is empty"));
    }
    // Before API 0.9 a process runs in a shell unless it says otherwise; from then on it never does.
    let direct = buildpack.about.api >= Api(0, 9) || raw.direct.unwrap_or(false);
    Ok(Process {
        process_type,
        command,
        args: raw.args,
        direct,
        default: raw.default,
        working_dir: raw.working_dir.filter(|dir| !dir.is_empty()),
    })
}
