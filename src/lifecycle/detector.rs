//! Phase 1, detection: the first group of the order whose buildpacks fit the app. Composite buildpacks are replaced by
//! their own groups, depth first and left to right (buildpack.md, "Order Resolution").

use std::{collections::HashMap, path::Path, sync::Mutex};

use super::{
    Dirs, Failure,
    buildpack::{self, Buildpack, Running},
    descriptor::{self, Group, Reference},
    files,
    output::Output,
    plan::{self, Candidate, Need, PlanFile},
    protocol::{BuildRequest, GroupEntry, Phase, Place},
};

/// How deep composite buildpacks may name each other.
const DEEPEST: usize = 16;
/// How many groups are tried before it is said that an order has too many.
const MOST_GROUPS: usize = 10_000;
/// How many lines of what `bin/detect` printed are shown when nothing fits.
const MOST_LINES: usize = 200;

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

/// A component buildpack of a group that is being put together.
#[derive(Clone)]
struct Member {
    buildpack: Buildpack,
    optional: bool,
}

struct Detection<'a> {
    dirs: &'a Dirs,
    request: &'a BuildRequest,
    running: &'a Running,
    outcomes: HashMap<String, Outcome>,
    printed: Mutex<Vec<(String, String)>>,
    why_not: Vec<String>,
    tried: usize,
}

pub(super) fn detect(
    dirs: &Dirs,
    request: &BuildRequest,
    running: &Running,
    output: &Output,
) -> Result<Detected, Failure> {
    let (outcomes, printed, why_not) = (HashMap::new(), Mutex::default(), Vec::new());
    let mut detection = Detection { dirs, request, running, outcomes, printed, why_not, tried: 0 };
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
    detection.why_not.dedup();
    for reason in detection.why_not {
        output.detail(reason);
    }
    Err(Failure::new(Phase::Detect, no_fit(&dirs.workspace, request)))
}

fn no_fit(workspace: &Path, request: &BuildRequest) -> String {
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
        format!("no group of buildpacks fits this app; whatever they said is above. Tried: {}", names.join(", "))
    }
}

/// Folders, and folders in these, that look like an app; a few at the most.
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
    /// Tries the groups one by one, each between what comes before and after; at last none of them, if that will do.
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
            // Whoever comes first counts.
            if members.iter().any(|member| member.buildpack.about.id == entry.id) {
                continue;
            }
            let buildpack = Buildpack::load(self.dirs, entry)?;
            if !buildpack.about.order.is_empty() {
                if depth == DEEPEST {
                    return Err(format!("the composite buildpack {} leads to itself", buildpack.name()));
                }
                let order =
                    buildpack.about.order.iter().map(|group| self.entries(group)).collect::<Result<Vec<_>, _>>()?;
                return self.order(&order, &members, &group[index + 1..], entry.optional, depth + 1);
            }
            if !descriptor::in_production(&buildpack.about.exec_env) {
                continue;
            }
            members.push(Member { buildpack, optional: entry.optional });
        }
        self.tried += 1;
        if self.tried > MOST_GROUPS {
            return Err(format!("the order has more than {MOST_GROUPS} groups; name fewer buildpacks"));
        }
        self.run(&members);
        Ok(self.fit(&members))
    }

    /// The entries of a composite buildpack's group.
    fn entries(&self, group: &Group) -> Result<Vec<GroupEntry>, String> {
        let wanted = group.group.iter().filter(|reference| descriptor::in_production(&reference.exec_env));
        let entry = |Reference { id, version, optional, .. }: &Reference| {
            let version = match version {
                Some(version) => version.clone(),
                None => buildpack::only_version(self.dirs, id)?,
            };
            Ok(GroupEntry { id: id.clone(), version, optional: *optional, place: Place::Installed })
        };
        wanted.map(entry).collect()
    }

    /// Runs `bin/detect` of those that it was not run of yet, side by side.
    fn run(&mut self, members: &[Member]) {
        let new = members.iter().filter(|member| !self.outcomes.contains_key(&member.buildpack.name()));
        let this = &*self;
        let found: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> =
                new.map(|member| (member, scope.spawn(move || this.outcome(&member.buildpack)))).collect();
            let join = |(member, thread): (&Member, std::thread::ScopedJoinHandle<'_, Outcome>)| {
                let outcome = thread.join().unwrap_or_else(|_| Outcome::Erred("its thread panicked".to_owned()));
                (member.buildpack.name(), outcome)
            };
            threads.into_iter().map(join).collect()
        });
        self.outcomes.extend(found);
    }

    fn outcome(&self, buildpack: &Buildpack) -> Outcome {
        let Self { dirs, request, running, .. } = self;
        if !buildpack.about.fits(&request.target) {
            let super::protocol::Target { os, arch, distro_name, distro_version, .. } = &request.target;
            return Outcome::Erred(format!("its targets do not include {os}/{arch} {distro_name} {distro_version}"));
        }
        let plan =
            dirs.tmp.join(format!("plan-{}-{}.toml", buildpack::escaped(&buildpack.about.id), buildpack.about.version));
        if let Err(e) = std::fs::write(&plan, "") {
            return Outcome::Erred(format!("cannot make its plan file: {e}"));
        }
        let mut env = buildpack::environment(dirs, request, buildpack, &buildpack::base_environment(dirs, request));
        env.insert("CNB_BUILD_PLAN_PATH".to_owned(), plan.display().to_string());
        let name = buildpack.name();
        let tell = |line: &str| {
            let Ok(mut printed) = self.printed.lock() else { return };
            if printed.len() < MOST_LINES && !line.is_empty() {
                printed.push((name.clone(), crate::model::Line::sanitize(line)));
            }
        };
        let program = buildpack.dir.join("bin/detect");
        match buildpack::run(&program, &[&dirs.platform, &plan], &env, dirs, running, &tell) {
            Ok(0) => match files::read_toml(&plan) {
                Ok(plan) => Outcome::Passed(plan),
                Err(reason) => Outcome::Erred(format!("its build plan cannot be read: {reason}")),
            },
            Ok(100) => Outcome::Failed,
            Ok(status) => Outcome::Erred(format!("bin/detect ended with status {status}")),
            Err(e) => Outcome::Erred(format!("bin/detect does not run: {}", buildpack::why_not(&e))),
        }
    }

    /// Whether a group fits, given how its buildpacks ended; notes why not when it nearly did.
    fn fit(&mut self, members: &[Member]) -> Option<Detected> {
        let (mut passed, mut candidates, mut fits) = (Vec::new(), Vec::new(), true);
        for Member { buildpack, optional } in members {
            let name = buildpack.name();
            match self.outcomes.get(&name) {
                Some(Outcome::Passed(plan)) => {
                    passed.push(buildpack);
                    candidates.push(Candidate { name, optional: *optional, plan: plan.clone() });
                }
                Some(Outcome::Failed) | None => fits &= optional,
                Some(Outcome::Erred(reason)) => {
                    self.why_not.push(format!("{name}: {reason}"));
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
                self.why_not.push(reason);
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
