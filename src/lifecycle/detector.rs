//! Phase 1, detection: chooses the first group of the order whose buildpacks fit the app. Composite buildpacks are replaced
//! by their own groups, depth first and left to right (buildpack.md, "Order Resolution").

use std::{collections::HashMap, path::Path, sync::Mutex};

use super::{
    buildpack::{self, Buildpack},
    descriptor::{Api, Group, Reference},
    dirs::{Dirs, escaped},
    exec_env,
    failure::Failure,
    files,
    output::Output,
    plan::{self, Candidate, Need, PlanFile},
    program_env,
    programs::{self, ProcessGroups},
    protocol::{BuildRequest, GroupEntry, Phase, Place, Target},
};
use crate::model::Line;

/// Deepest nesting of composite buildpacks.
const MAX_DEPTH: usize = 16;
/// Number of groups after which an order is refused.
const MAX_GROUPS: usize = 10_000;
/// Number of output lines of `bin/detect` programs that are shown when no group fits.
const MAX_LINES: usize = 200;

/// Result of detection: buildpacks in order, and what they need from each other (by index).
pub(super) struct Detected {
    pub(super) group: Vec<Buildpack>,
    pub(super) needs: Vec<Need>,
}

/// Result of a buildpack's `bin/detect`.
#[derive(Clone)]
enum DetectResult {
    Passed(PlanFile),
    Failed,
    Error(String),
}

/// A component buildpack of a group that is being put together.
#[derive(Clone)]
struct Member {
    buildpack: Buildpack,
    optional: bool,
}

struct Detection<'a> {
    dirs: &'a Dirs,
    request: &'a BuildRequest,
    process_groups: &'a ProcessGroups,
    /// Results by name of the buildpack.
    results: HashMap<String, DetectResult>,
    /// Lines that `bin/detect` programs printed, with the name of the buildpack.
    printed: Mutex<Vec<(String, String)>>,
    /// Why groups that nearly fit do not.
    reasons: Vec<String>,
    groups_tried: usize,
}

pub(super) fn detect(
    dirs: &Dirs,
    request: &BuildRequest,
    process_groups: &ProcessGroups,
    output: &Output,
) -> Result<Detected, Failure> {
    let mut detection = Detection {
        dirs,
        request,
        process_groups,
        results: HashMap::new(),
        printed: Mutex::default(),
        reasons: Vec::new(),
        groups_tried: 0,
    };
    let found = detection.order(&request.order, &[], &[], false, 0);
    if let Some(detected) = found.map_err(|message| Failure::new(Phase::Detect, message))? {
        for buildpack in &detected.group {
            output.detail(buildpack.name());
        }
        return Ok(detected);
    }
    for (name, line) in detection.printed.into_inner().unwrap_or_default() {
        output.detail(format!("{name}: {line}"));
    }
    detection.reasons.dedup();
    for reason in detection.reasons {
        output.detail(reason);
    }
    let did_not_fit =
        |(name, result): (&String, &DetectResult)| matches!(result, DetectResult::Failed).then(|| name.clone());
    let mut unfit: Vec<_> = detection.results.iter().filter_map(did_not_fit).collect();
    unfit.sort();
    Err(Failure::new(Phase::Detect, no_group_fits(&dirs.workspace, request, &unfit)))
}

/// What is wrong when no group fits, and what to do. `unfit`: the buildpacks whose `bin/detect` said that they do not fit.
fn no_group_fits(workspace: &Path, request: &BuildRequest, unfit: &[String]) -> String {
    let builtin = |entry: &GroupEntry| entry.id.starts_with("paas/") && entry.place == Place::Installed;
    if request.order.iter().flatten().all(builtin) {
        let folders = folders_of_apps(workspace);
        let or = folders
            .first()
            .map(|first| format!(", or build one of its folders ({}): builds:set APP dir {first}", folders.join(", ")));
        format!(
            "no buildpack recognises this app: it has none of the files at its root that tell its language \
             (package.json, requirements.txt, go.mod, pom.xml, Gemfile, composer.json, index.html …); add a Procfile that \
             says what runs, or name a buildpack with buildpacks:add{}",
            or.unwrap_or_default()
        )
    } else {
        let mut names: Vec<_> = request.order.iter().flatten().filter(|e| !e.optional).map(|e| e.id.as_str()).collect();
        names.dedup();
        let unfit = if unfit.is_empty() { "none".to_owned() } else { unfit.join(", ") };
        format!("no group of buildpacks fits this app. Tried: {}; these do not fit: {unfit}", names.join(", "))
    }
}

/// Folders that look like an app, to a depth of two; a few at most.
fn folders_of_apps(workspace: &Path) -> Vec<String> {
    const SIGNS: [&str; 13] = [
        "Procfile",
        "package.json",
        "requirements.txt",
        "pyproject.toml",
        "manage.py",
        "go.mod",
        "Cargo.toml",
        "pom.xml",
        "build.gradle",
        "Gemfile",
        "composer.json",
        "mix.exs",
        "index.html",
    ];
    let mut found = Vec::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for name in files::names(&workspace.join(&folder)).unwrap_or_default() {
            let inside = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
            let path = workspace.join(&inside);
            let is_folder = std::fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            if !is_folder || name.starts_with('.') || matches!(name.as_str(), "node_modules" | "vendor") {
                continue;
            }
            if SIGNS.iter().any(|sign| path.join(sign).is_file()) {
                found.push(inside);
            } else if folder.is_empty() {
                folders.push(inside);
            }
        }
    }
    found.sort();
    found.truncate(4);
    found
}

impl Detection<'_> {
    /// Tries the groups of an order in turn, each between the entries before and after it. If the order is optional, at last
    /// these entries without any group.
    fn order(
        &mut self,
        order: &[Vec<GroupEntry>],
        before: &[Member],
        after: &[GroupEntry],
        optional: bool,
        depth: usize,
    ) -> Result<Option<Detected>, String> {
        for group in order {
            let found = self.group(&[group, after].concat(), before.to_vec(), depth)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        if optional { self.group(after, before.to_vec(), depth) } else { Ok(None) }
    }

    fn group(
        &mut self,
        group: &[GroupEntry],
        mut members: Vec<Member>,
        depth: usize,
    ) -> Result<Option<Detected>, String> {
        for (index, entry) in group.iter().enumerate() {
            // The first entry of a buildpack counts.
            if members.iter().any(|member| member.buildpack.about.id == entry.id) {
                continue;
            }
            let buildpack = Buildpack::load(self.dirs, entry)?;
            if !buildpack.about.order.is_empty() {
                if depth == MAX_DEPTH {
                    return Err(format!("the composite buildpack {} contains itself", buildpack.name()));
                }
                let order: Result<Vec<_>, _> =
                    buildpack.about.order.iter().map(|group| self.entries(group, buildpack.about.api)).collect();
                let order = order?;
                return self.order(&order, &members, &group[index + 1..], entry.optional, depth + 1);
            }
            if !exec_env::in_production(&buildpack.about.exec_env) {
                continue;
            }
            members.push(Member { buildpack, optional: entry.optional });
        }
        self.groups_tried += 1;
        if self.groups_tried > MAX_GROUPS {
            return Err(format!("the order has more than {MAX_GROUPS} groups; name fewer buildpacks"));
        }
        self.run_detect(&members);
        Ok(self.resolve(&members))
    }

    /// The entries of a composite buildpack's group.
    fn entries(&self, group: &Group, api: Api) -> Result<Vec<GroupEntry>, String> {
        let takes_part = |reference: &&Reference| api < Api(0, 12) || exec_env::in_production(&reference.exec_env);
        let wanted = group.group.iter().filter(takes_part);
        let entry = |Reference { id, version, optional, .. }: &Reference| {
            let version = match version {
                Some(version) => version.clone(),
                None => buildpack::only_version(self.dirs, id)?,
            };
            Ok(GroupEntry { id: id.clone(), version, optional: *optional, place: Place::Installed })
        };
        wanted.map(entry).collect()
    }

    /// Runs `bin/detect` of the buildpacks that have no result yet, in parallel.
    fn run_detect(&mut self, members: &[Member]) {
        let new = members.iter().filter(|member| !self.results.contains_key(&member.buildpack.name()));
        let this = &*self;
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                new.map(|member| (member, scope.spawn(move || this.detect_one(&member.buildpack)))).collect();
            let join = |(member, thread): (&Member, std::thread::ScopedJoinHandle<'_, DetectResult>)| {
                let panicked = |_| DetectResult::Error("its thread panicked".to_owned());
                (member.buildpack.name(), thread.join().unwrap_or_else(panicked))
            };
            threads.into_iter().map(join).collect()
        });
        self.results.extend(found);
    }

    fn detect_one(&self, buildpack: &Buildpack) -> DetectResult {
        let Self { dirs, request, process_groups, .. } = self;
        if !buildpack.about.fits(&request.target) {
            let Target { os, arch, distro_name, distro_version, .. } = &request.target;
            return DetectResult::Error(format!(
                "its targets do not include {os}/{arch} {distro_name} {distro_version}"
            ));
        }
        let plan = dirs.tmp.join(format!("plan-{}-{}.toml", escaped(&buildpack.about.id), buildpack.about.version));
        if let Err(e) = std::fs::write(&plan, "") {
            return DetectResult::Error(format!("cannot make its plan file: {e}"));
        }
        let mut env = program_env::of_buildpack(dirs, request, buildpack, &program_env::base(dirs, request));
        env.insert("CNB_BUILD_PLAN_PATH".to_owned(), plan.display().to_string());
        let name = buildpack.name();
        let keep = |line: &str| {
            let Ok(mut printed) = self.printed.lock() else { return };
            if printed.len() < MAX_LINES && !line.is_empty() {
                printed.push((name.clone(), Line::sanitize(line)));
            }
        };
        let program = buildpack.dir.join("bin/detect");
        match programs::run(&program, &[&dirs.platform, &plan], &env, dirs, process_groups, &keep) {
            Ok(0) => match files::read_toml(&plan) {
                Ok(plan) => DetectResult::Passed(plan),
                Err(reason) => DetectResult::Error(format!("its build plan cannot be read: {reason}")),
            },
            Ok(100) => DetectResult::Failed,
            Ok(status) => DetectResult::Error(format!("bin/detect ended with status {status}")),
            Err(e) => DetectResult::Error(format!("cannot run bin/detect: {}", programs::start_error(&e))),
        }
    }

    /// The group without the buildpacks that do not take part, if it fits; notes why not if it nearly does.
    fn resolve(&mut self, members: &[Member]) -> Option<Detected> {
        let (mut passed, mut candidates, mut fits) = (Vec::new(), Vec::new(), true);
        for Member { buildpack, optional } in members {
            let name = buildpack.name();
            match self.results.get(&name) {
                Some(DetectResult::Passed(plan)) => {
                    passed.push(buildpack);
                    candidates.push(Candidate { name, optional: *optional, plan: plan.clone() });
                }
                Some(DetectResult::Failed) | None => fits &= optional,
                Some(DetectResult::Error(reason)) => {
                    self.reasons.push(format!("{name}: {reason}"));
                    fits &= optional;
                }
            }
        }
        if !fits || passed.is_empty() {
            return None;
        }
        let resolved = match plan::resolve(&candidates) {
            Ok(resolved) => resolved,
            Err(reason) => {
                self.reasons.push(reason);
                return None;
            }
        };
        let place = |index: &usize| resolved.kept.iter().position(|kept| kept == index);
        let needs = resolved.needs.iter().map(|need| Need {
            providers: need.providers.iter().filter_map(place).collect(),
            entries: need.entries.clone(),
        });
        let group = resolved.kept.iter().map(|index| passed[*index].clone()).collect();
        Some(Detected { group, needs: needs.collect() })
    }
}
