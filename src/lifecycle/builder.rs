//! Phase 3, build: runs each buildpack's `bin/build` in turn, and collects what it contributes.

mod launch_toml;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::Deserialize;

use super::{
    buildpack::Buildpack,
    contributions::{self, Contributions},
    detector::Detected,
    dirs::Dirs,
    env::{self, Env, Moment},
    failure::Failure,
    files,
    output::Output,
    plan::{Entry, Need},
    program_env,
    programs::{self, ProcessGroups},
    protocol::{BuildRequest, Phase},
    sbom,
};
use crate::model::Line;

/// Beginning of an output line that reports trouble.
const TROUBLE: &str = " !     ";

#[derive(Debug, Default, Deserialize)]
struct BuildToml {
    #[serde(default)]
    unmet: Vec<Unmet>,
}

#[derive(Debug, Deserialize)]
struct Unmet {
    name: String,
}

pub(super) fn build(
    dirs: &Dirs,
    request: &BuildRequest,
    detected: &Detected,
    groups: &ProcessGroups,
    output: &Output,
) -> Result<Contributions, Failure> {
    let mut contributions = Contributions::default();
    let mut needs = detected.needs.clone();
    let mut env = program_env::base(dirs, request);
    for (index, buildpack) in detected.group.iter().enumerate() {
        let wrong = |message: String| Failure::new(Phase::Build, message);
        let layers = dirs.layers_of(&buildpack.about.id);
        fs::create_dir_all(&layers).map_err(Failure::io(Phase::Build, "make", &layers))?;
        let plan = dirs.tmp.join(format!("build-plan-{index}.toml"));
        let entries: Vec<&Entry> =
            needs.iter().filter(|need| need.providers.contains(&index)).flat_map(|need| &need.entries).collect();
        let text = toml::to_string(&BTreeMap::from([("entries", &entries)])).map_err(|e| wrong(e.to_string()))?;
        fs::write(&plan, text).map_err(Failure::io(Phase::Build, "write", &plan))?;

        let own = program_env::of_buildpack(dirs, request, buildpack, &env);
        let begun = Instant::now();
        run_build(dirs, buildpack, &layers, &plan, own, groups, output).map_err(wrong)?;
        contributions.durations.push(begun.elapsed());

        launch_toml::read(&layers, index, buildpack.about.api, &mut contributions).map_err(wrong)?;
        let found = contributions::read_layers(&layers, index).map_err(wrong)?;
        sbom::check(&layers).map_err(wrong)?;
        let for_build = found.iter().filter(|layer| layer.toml.types.build).map(|layer| layers.join(&layer.name));
        let for_build: Vec<_> = for_build.collect();
        env::add_layers(&mut env, &for_build, Moment::Build).map_err(wrong)?;
        contributions.layers.extend(found);

        let file = layers.join("build.toml");
        let BuildToml { unmet } = files::read_toml(&file).map_err(wrong)?;
        if let Some(unknown) = unmet.iter().find(|unmet| entries.iter().all(|entry| entry.name != unmet.name)) {
            return Err(wrong(format!("{}, key unmet.name: the plan has no entry {:?}", file.display(), unknown.name)));
        }
        needs = unmet_needs(needs, index, &unmet);
    }
    Ok(contributions)
}

/// Runs a buildpack's `bin/build`, and shows what it prints. If it fails, its last line becomes part of the error, provided
/// that it reports trouble; it is then not shown as well.
fn run_build(
    dirs: &Dirs,
    buildpack: &Buildpack,
    layers: &Path,
    plan: &Path,
    mut env: Env,
    groups: &ProcessGroups,
    output: &Output,
) -> Result<(), String> {
    env.insert("CNB_LAYERS_DIR".to_owned(), layers.display().to_string());
    env.insert("CNB_BP_PLAN_PATH".to_owned(), plan.display().to_string());
    let held = Mutex::new(None::<String>);
    let show = |line: &str| {
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trouble) = held.take() {
            output.printed(&trouble);
        }
        if line.starts_with(TROUBLE) {
            *held = Some(line.to_owned());
        } else {
            output.printed(line);
        }
    };
    let program = buildpack.dir.join("bin/build");
    let ended = programs::run(&program, &[layers, &dirs.platform, plan], &env, dirs, groups, &show);
    let held = held.into_inner().unwrap_or_else(PoisonError::into_inner);
    let name = buildpack.name();
    match ended {
        Ok(0) => {
            if let Some(trouble) = held {
                output.printed(&trouble);
            }
            Ok(())
        }
        Ok(status) => {
            let failed = format!("the buildpack {name} failed with status {status}");
            let why = held.as_deref().and_then(|line| line.strip_prefix(TROUBLE)).map(|why| Line::sanitize(why.trim()));
            Err(match why.filter(|why| !why.is_empty()) {
                Some(why) => format!("{why} ({failed})"),
                None => failed,
            })
        }
        Err(e) => Err(format!("cannot run bin/build of the buildpack {name}: {}", programs::start_error(&e))),
    }
}

/// Needs that go on to later providers: those that this buildpack does not provide, or named as unmet.
fn unmet_needs(needs: Vec<Need>, index: usize, unmet: &[Unmet]) -> Vec<Need> {
    needs
        .into_iter()
        .filter(|need| {
            let name = need.entries.first().map(|entry| entry.name.as_str());
            !need.providers.contains(&index) || unmet.iter().any(|unmet| Some(unmet.name.as_str()) == name)
        })
        .collect()
}
