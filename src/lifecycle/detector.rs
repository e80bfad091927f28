//! Phase 1, detection: the first group of the order whose buildpacks fit the app.

use std::{collections::HashMap, sync::Mutex};

use super::{
    Dirs, Failure,
    buildpack::{self, Buildpack, Running},
    files,
    output::Output,
    plan::{self, Candidate, Need, PlanFile},
    protocol::{BuildRequest, GroupEntry, Phase},
};

/// What detection found: buildpacks in order, and what they need of each other (by index).
pub(super) struct Detected {
    pub(super) group: Vec<Buildpack>,
    pub(super) needs: Vec<Need>,
}

/// How one buildpack's `bin/detect` ended.
#[derive(Clone)]
enum Outcome {
    Passed(PlanFile),
    Failed,
    Erred(String),
}

pub(super) fn detect(
    dirs: &Dirs,
    request: &BuildRequest,
    running: &Running,
    output: &Output,
) -> Result<Detected, Failure> {
    let mut outcomes: HashMap<String, Outcome> = HashMap::new();
    let printed = Mutex::new(Vec::<(String, String)>::new());
    let mut why_not = Vec::new();
    for group in &request.order {
        let buildpacks = group.iter().map(|entry| Buildpack::load(dirs, entry)).collect::<Result<Vec<_>, _>>()?;
        let new: Vec<&Buildpack> = buildpacks.iter().filter(|b| !outcomes.contains_key(&b.name())).collect();
        let found: Vec<Outcome> = std::thread::scope(|scope| {
            let run = |buildpack| {
                let printed = &printed;
                scope.spawn(move || one(dirs, request, running, buildpack, printed))
            };
            let threads: Vec<_> = new.iter().map(|buildpack| run(*buildpack)).collect();
            let join = |thread: std::thread::ScopedJoinHandle<'_, Outcome>| {
                thread.join().unwrap_or_else(|_| Outcome::Erred("its thread panicked".to_owned()))
            };
            threads.into_iter().map(join).collect()
        });
        outcomes.extend(new.iter().map(|b| b.name()).zip(found));
        match fit(group, &buildpacks, &outcomes) {
            Ok(Some(detected)) => {
                for buildpack in &detected.group {
                    output.detail(buildpack.name());
                }
                return Ok(detected);
            }
            Ok(None) => {}
            Err(reason) => why_not.push(reason),
        }
    }
    for (name, line) in printed.into_inner().unwrap_or_default() {
        output.detail(format!("{name}: {line}"));
    }
    for reason in why_not {
        output.detail(reason);
    }
    let message = "no buildpack recognises this app; it needs a package.json (Node.js), requirements.txt (Python), \
                   index.html (static site) or a Procfile at its root";
    Err(Failure::new(Phase::Detect, message))
}

/// Whether a group fits, given how its buildpacks ended; an error when it nearly did.
fn fit(
    group: &[GroupEntry],
    buildpacks: &[Buildpack],
    outcomes: &HashMap<String, Outcome>,
) -> Result<Option<Detected>, String> {
    let (mut passed, mut candidates) = (Vec::new(), Vec::new());
    for (entry, buildpack) in group.iter().zip(buildpacks) {
        match outcomes.get(&buildpack.name()) {
            Some(Outcome::Passed(plan)) => {
                passed.push(buildpack);
                let name = buildpack.name();
                candidates.push(Candidate { name, optional: entry.optional, plan: plan.clone() });
            }
            Some(Outcome::Failed | Outcome::Erred(_)) | None if entry.optional => {}
            Some(Outcome::Failed) | None => return Ok(None),
            Some(Outcome::Erred(reason)) => return Err(format!("{}: {reason}", buildpack.name())),
        }
    }
    if passed.is_empty() {
        return Ok(None);
    }
    let resolved = plan::resolve(&candidates)?;
    let place = |index: &usize| resolved.kept.iter().position(|kept| kept == index);
    let needs = resolved.needs.iter().map(|need| Need {
        providers: need.providers.iter().filter_map(place).collect(),
        entries: need.entries.clone(),
    });
    let group = resolved.kept.iter().map(|index| passed[*index].clone()).collect();
    Ok(Some(Detected { group, needs: needs.collect() }))
}

fn one(
    dirs: &Dirs,
    request: &BuildRequest,
    running: &Running,
    buildpack: &Buildpack,
    printed: &Mutex<Vec<(String, String)>>,
) -> Outcome {
    const MOST_LINES: usize = 200;
    let plan = dirs.tmp.join(format!("plan-{}-{}.toml", buildpack::escaped(&buildpack.id), buildpack.version));
    if let Err(e) = std::fs::write(&plan, "") {
        return Outcome::Erred(format!("cannot make its plan file: {e}"));
    }
    let mut env = buildpack::base_env(dirs, request, !buildpack.clear_env);
    buildpack::add_platform(&mut env, dirs, request, buildpack);
    env.insert("CNB_BUILD_PLAN_PATH".to_owned(), plan.display().to_string());
    let name = buildpack.name();
    let tell = |line: &str| {
        let Ok(mut printed) = printed.lock() else { return };
        if printed.len() < MOST_LINES && !line.is_empty() {
            printed.push((name.clone(), crate::model::Line::sanitize(line)));
        }
    };
    let program = buildpack.dir.join("bin/detect");
    match buildpack::run(&program, &[&dirs.platform, &plan], &env, dirs, running, &tell) {
        Ok(0) => match files::read_toml(&plan) {
            Ok(plan) => Outcome::Passed(plan),
            Err(reason) => Outcome::Erred(reason),
        },
        Ok(100) => Outcome::Failed,
        Ok(status) => Outcome::Erred(format!("bin/detect ended with status {status}")),
        Err(e) => Outcome::Erred(format!("bin/detect does not run: {e}")),
    }
}
