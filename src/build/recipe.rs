//! The recipe: everything that decides an image besides the source, that is the order, the buildpacks, the variables,
//! the service bindings and the stack.

use std::{collections::BTreeMap, fmt::Display};

use nodejs_semver::Version;

use super::{buildpack::Buildpack, builtin::Builtin, error::BuildError, packages::Package};
use crate::{
    images::Stack,
    lifecycle::{
        descriptor::{self, Api, Descriptor, Group, Reference},
        protocol::{GroupEntry, Place},
    },
    model::{Bindings, Digest, Secret},
    store::UsedBuildpack,
};

/// The buildpack that reads the `Procfile`: it comes last in every group, so that the `Procfile` wins.
pub(super) const PROCFILE: &str = "paas/procfile";

/// Deepest nesting of composite buildpacks in which one that reads the `Procfile` is looked for.
const MAX_DEPTH: usize = 16;

/// A buildpack that the app, or its `project.toml`, requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestedBuildpack {
    /// An installed or built-in buildpack, by name.
    Named {
        /// Id of the buildpack.
        id: String,
        /// Version of the buildpack; `None` for the newest.
        version: Option<String>,
    },
    /// The buildpack that a package stands for.
    Package(Package),
    /// A script of the app's project descriptor.
    Inline {
        /// Id of the buildpack.
        id: String,
        /// The script, and how it is run.
        place: Place,
    },
}

/// What a recipe is made of, besides the built-in buildpacks and the stack.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BuildSettings {
    /// The group of buildpacks that builds, in order; empty to let detection try the built-in groups.
    pub group: Vec<RequestedBuildpack>,
    /// Buildpacks that come before those of every group.
    pub pre: Vec<RequestedBuildpack>,
    /// Buildpacks that come after those of every group.
    pub post: Vec<RequestedBuildpack>,
    /// The installed packages, the preferred ones first.
    pub installed: Vec<Package>,
    /// Variables of the build.
    pub env: BTreeMap<String, Secret>,
    /// Service bindings, which buildpacks see.
    pub bindings: Bindings,
}

impl BuildSettings {
    /// Whether no buildpack is requested.
    pub fn names_no_buildpack(&self) -> bool {
        self.group.is_empty() && self.pre.is_empty() && self.post.is_empty()
    }
}

/// How a source is built.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Groups, in the order in which detection tries them.
    pub(super) order: Vec<Vec<GroupEntry>>,
    /// All buildpacks of these groups, and those that composite ones name.
    pub(super) buildpacks: Vec<Buildpack>,
    /// Variables of the build.
    pub(super) env: BTreeMap<String, Secret>,
    /// Service bindings.
    pub(super) bindings: Bindings,
    /// The stack on which the app is built and runs.
    pub(super) stack: Stack,
    /// Digest of all that, and of the lifecycle.
    digest: Digest,
    /// Whether the buildpack that reads the `Procfile` joins a group that was requested.
    pub(super) adds_procfile: bool,
    /// Whether all buildpacks are built-in ones.
    pub(super) is_builtin: bool,
}

impl Recipe {
    pub(super) fn new(
        settings: BuildSettings,
        builtin: &Builtin,
        stack: Stack,
        lifecycle: &Digest,
    ) -> Result<Self, BuildError> {
        let BuildSettings { group, pre, post, installed, env, bindings } = settings;
        let mut resolver = BuildpackResolver { builtin, installed, resolved: Vec::new() };
        let pre = resolver.entries(&pre)?;
        let post = resolver.entries(&post)?;
        let is_requested = !group.is_empty();
        let groups = if group.is_empty() {
            builtin.order.iter().map(|group| resolver.builtin_group(group)).collect::<Result<Vec<_>, _>>()?
        } else {
            vec![resolver.entries(&group)?]
        };
        let procfile = RequestedBuildpack::Named { id: PROCFILE.to_owned(), version: None };
        let procfile = resolver.entries(&[procfile]).unwrap_or_default();
        let procfile: Vec<_> = procfile.into_iter().map(|entry| GroupEntry { optional: true, ..entry }).collect();
        let mut adds_procfile = false;
        let order = groups.into_iter().map(|group| {
            let group = [pre.clone(), group, post.clone()].concat();
            let reads_it =
                group.iter().any(|entry| resolver.reads_procfile(&entry.id, Some(&entry.version), MAX_DEPTH));
            adds_procfile |= is_requested && !reads_it;
            [group, if reads_it { Vec::new() } else { procfile.clone() }].concat()
        });
        let order: Vec<_> = order.collect();
        let buildpacks = resolver.resolved;
        let is_builtin = order.iter().flatten().all(|entry| entry.place == Place::Installed)
            && buildpacks.iter().all(|b| builtin.all.iter().any(|own| own.digest == b.digest));
        let parts = (
            &order,
            buildpacks.iter().map(|b| (b.target(), &b.digest)).collect::<Vec<_>>(),
            env.iter().map(|(name, value)| (name, value.expose())).collect::<Vec<_>>(),
            &bindings,
            [&stack.run.manifest, &stack.build.manifest, lifecycle],
        );
        let text = serde_json::to_vec(&parts).map_err(|e| BuildError::Protocol(e.to_string()))?;
        Ok(Self { digest: Digest::of(&text), order, buildpacks, env, bindings, stack, adds_procfile, is_builtin })
    }

    /// Digest of the recipe and a source tree (git's id of it): a build with a key that was built before would give the
    /// same image.
    pub fn key(&self, tree: &impl Display) -> Digest {
        Digest::of(format!("{tree}\n{}", self.digest).as_bytes())
    }

    /// Name of the stack.
    pub fn stack(&self) -> &str {
        &self.stack.id
    }

    /// The buildpacks of the group that built (id and version), with their digests.
    pub(super) fn used(&self, group: Vec<(String, String)>) -> Vec<UsedBuildpack> {
        let with_digest = |(id, version): (String, String)| {
            let found = self.buildpacks.iter().find(|b| b.about.id == id && b.about.version == version);
            UsedBuildpack { digest: found.map(|buildpack| buildpack.digest.clone()), id, version }
        };
        group.into_iter().map(with_digest).collect()
    }
}

/// Finds requested buildpacks, and collects them with those that they name.
struct BuildpackResolver<'a> {
    builtin: &'a Builtin,
    installed: Vec<Package>,
    resolved: Vec<Buildpack>,
}

impl BuildpackResolver<'_> {
    /// Whether this buildpack reads a `Procfile`, or one in each group of a composite buildpack does.
    fn reads_procfile(&self, id: &str, version: Option<&str>, depth: usize) -> bool {
        if id.ends_with("/procfile") {
            return true;
        }
        let fits = |b: &&Buildpack| b.about.id == id && version.is_none_or(|version| b.about.version == version);
        let order = self.resolved.iter().find(fits).map(|found| &found.about.order[..]).unwrap_or_default();
        let reads = |reference: &Reference| {
            depth > 0 && self.reads_procfile(&reference.id, reference.version.as_deref(), depth - 1)
        };
        !order.is_empty() && order.iter().all(|group| group.group.iter().any(reads))
    }

    fn entries(&mut self, requested: &[RequestedBuildpack]) -> Result<Vec<GroupEntry>, BuildError> {
        requested.iter().map(|requested| self.entry(requested)).collect()
    }

    fn builtin_group(&mut self, group: &Group) -> Result<Vec<GroupEntry>, BuildError> {
        let entry = |reference: &Reference| {
            let Reference { id, version, optional, .. } = reference.clone();
            Ok(GroupEntry { optional, ..self.entry(&RequestedBuildpack::Named { id, version })? })
        };
        group.group.iter().map(entry).collect()
    }

    fn entry(&mut self, requested: &RequestedBuildpack) -> Result<GroupEntry, BuildError> {
        let entry = |about: &Descriptor, place| GroupEntry {
            id: about.id.clone(),
            version: about.version.clone(),
            optional: false,
            place,
        };
        Ok(match requested {
            RequestedBuildpack::Named { id, version } => {
                let found = self.find(id, version.as_deref(), None)?;
                let named = entry(&found.about, Place::Installed);
                self.add(found, None)?;
                named
            }
            RequestedBuildpack::Package(package) => {
                let root = package.root()?.clone();
                let packaged = entry(&root.about, Place::Installed);
                self.add(root, Some(package))?;
                packaged
            }
            RequestedBuildpack::Inline { id, place } => {
                check_inline(id, place).map_err(BuildError::Inline)?;
                GroupEntry { id: id.clone(), version: "0.0.0".to_owned(), optional: false, place: place.clone() }
            }
        })
    }

    /// Finds a buildpack: in the same package, else the newest version among the built-in and the installed ones. What is installed does
    /// not replace a built-in one of the same version.
    fn find(&self, id: &str, version: Option<&str>, package: Option<&Package>) -> Result<Buildpack, BuildError> {
        let fits = |b: &&Buildpack| b.about.id == id && version.is_none_or(|version| b.about.version == version);
        let newest = |all: &[Buildpack]| all.iter().filter(fits).max_by_key(|b| version_key(&b.about.version)).cloned();
        let own = package.and_then(|package| newest(&package.all));
        // Of several packages with the same version, the one that was installed last.
        let installed =
            || self.installed.iter().rev().filter_map(|p| newest(&p.all)).max_by_key(|b| version_key(&b.about.version));
        let elsewhere = || {
            let others = [installed(), newest(&self.builtin.all)];
            others.into_iter().flatten().max_by_key(|b| version_key(&b.about.version))
        };
        let found = own.or_else(elsewhere);
        found.ok_or_else(|| {
            let name = version.map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
            BuildError::NoBuildpack(name)
        })
    }

    /// Collects a buildpack, and those that it names.
    fn add(&mut self, buildpack: Buildpack, package: Option<&Package>) -> Result<(), BuildError> {
        let same_name = |b: &&Buildpack| b.target() == buildpack.target();
        match self.resolved.iter().find(same_name) {
            Some(resolved) if resolved.digest == buildpack.digest => return Ok(()),
            Some(_) => return Err(BuildError::TwoOfOneName(buildpack.about.full_name())),
            None => {}
        }
        let about = buildpack.about.clone();
        self.resolved.push(buildpack);
        self.add_named_by(&about, package)
    }

    fn add_named_by(&mut self, about: &Descriptor, package: Option<&Package>) -> Result<(), BuildError> {
        for Reference { id, version, .. } in about.order.iter().flat_map(|group| &group.group) {
            let found = self.find(id, version.as_deref(), package)?;
            self.add(found, package)?;
        }
        Ok(())
    }
}

/// Checks id and API version of a script of `project.toml`, which becomes a buildpack.
fn check_inline(id: &str, place: &Place) -> Result<(), String> {
    descriptor::check_id(id).map_err(|e| e.replacen("buildpack.id", "io.buildpacks.group.id", 1))?;
    match place {
        Place::Inline { api, .. } => Api::parse(api).map(drop).map_err(|e| format!("io.buildpacks.group.script.{e}")),
        Place::Installed => Ok(()),
    }
}

/// Sort key of a version: later versions are greater; text that is not a version is smaller than any version.
fn version_key(version: &str) -> (Option<Version>, String) {
    (version.parse().ok(), version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{images::StackImage, lifecycle::protocol::Target};

    fn buildpack(id: &str, version: &str, more: &str) -> Buildpack {
        let text = format!("api = \"0.10\"\n[buildpack]\nid = {id:?}\nversion = {version:?}\n{more}");
        let about = Descriptor::parse(&text).unwrap();
        Buildpack { about, folder: "/".into(), digest: Digest::of(text.as_bytes()) }
    }

    fn package(all: &[Buildpack]) -> Package {
        Package { digest: Digest::of(format!("{all:?}").as_bytes()), all: all.to_vec() }
    }

    fn recipe(settings: BuildSettings) -> Result<Recipe, String> {
        let group = |id: &str| Group {
            group: vec![Reference { id: id.into(), version: None, optional: false, exec_env: Vec::new() }],
        };
        let builtin = Builtin {
            all: ["paas/node", "paas/python", PROCFILE].map(|id| buildpack(id, "0.1.0", "")).to_vec(),
            order: vec![group("paas/node"), group(PROCFILE)],
        };
        let image = StackImage { manifest: Digest::of(b"m"), config: Digest::of(b"c"), layer: Digest::of(b"l") };
        let stack = Stack { id: "s".into(), run: image.clone(), build: image, target: Target::default() };
        Recipe::new(settings, &builtin, stack, &Digest::of(b"lifecycle")).map_err(|e| e.to_string())
    }

    fn names(recipe: &Recipe) -> Vec<String> {
        let name = |e: &GroupEntry| format!("{}@{}{}", e.id, e.version, if e.optional { "?" } else { "" });
        recipe.order.iter().map(|group| group.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
    }

    fn named(id: &str, version: Option<&str>) -> RequestedBuildpack {
        RequestedBuildpack::Named { id: id.into(), version: version.map(Into::into) }
    }

    #[test]
    fn without_requested_buildpacks_the_builtin_order_is_used() {
        let made = recipe(BuildSettings::default()).unwrap();
        assert_eq!(names(&made), ["paas/node@0.1.0 paas/procfile@0.1.0?", "paas/procfile@0.1.0"]);
        let settings = BuildSettings { pre: vec![named("paas/python", None)], ..BuildSettings::default() };
        assert_eq!(names(&recipe(settings).unwrap())[0], "paas/python@0.1.0 paas/node@0.1.0 paas/procfile@0.1.0?");
    }

    #[test]
    fn the_procfile_is_read_after_a_group_that_does_not() {
        let order =
            |id: &str| format!("[[order]]\n[[order.group]]\nid = {id:?}\nversion = \"1.0.0\"\noptional = true\n");
        let all = package(&[
            buildpack("a/plain", "1.0.0", ""),
            buildpack("x/procfile", "1.0.0", ""),
            buildpack("a/all", "1.0.0", &order("x/procfile")),
            buildpack("a/deep", "1.0.0", &order("a/all")),
            buildpack("a/partly", "1.0.0", &(order("x/procfile") + &order("a/plain"))),
        ]);
        for (id, added) in
            [("a/plain", true), ("x/procfile", false), ("a/all", false), ("a/deep", false), ("a/partly", true)]
        {
            let made = recipe(BuildSettings {
                group: vec![named(id, None)],
                installed: vec![all.clone()],
                ..BuildSettings::default()
            });
            let made = made.unwrap();
            assert_eq!(names(&made)[0].contains(PROCFILE), added, "{id}");
            assert_eq!(made.notices(true).len(), usize::from(added), "{id}");
        }
        let none: Vec<String> = Vec::new();
        assert_eq!(recipe(BuildSettings::default()).unwrap().notices(true), none);
    }

    #[test]
    fn variables_of_other_buildpacks_are_told() {
        let env = ["BP_JVM_VERSION", "BP_NODE_PROJECT_PATH", "BPE_A", "BPA"];
        let env = env.map(|name| (name.to_owned(), Secret::new("1"))).into();
        let settings = BuildSettings { env, ..BuildSettings::default() };
        let [notice] = recipe(settings.clone()).unwrap().notices(false).try_into().unwrap();
        assert!(notice.starts_with("BPE_A, BP_JVM_VERSION have no effect: "), "{notice}");
        let installed = vec![package(&[buildpack("a/x", "1.0.0", "")])];
        let of_others = BuildSettings { group: vec![named("a/x", None)], installed, ..settings };
        assert!(recipe(of_others).unwrap().notices(false).is_empty(), "its buildpack may read them");
    }

    #[test]
    fn a_name_means_the_newest_installed_version() {
        let installed =
            [("1.9.0", ""), ("1.10.0", "")].map(|(version, more)| package(&[buildpack("a/x", version, more)]));
        let request = |requested| BuildSettings {
            group: vec![requested],
            installed: installed.to_vec(),
            ..BuildSettings::default()
        };
        assert_eq!(names(&recipe(request(named("a/x", None))).unwrap()), ["a/x@1.10.0 paas/procfile@0.1.0?"]);
        assert_eq!(names(&recipe(request(named("a/x", Some("1.9.0")))).unwrap()), ["a/x@1.9.0 paas/procfile@0.1.0?"]);
        let own = [package(&[buildpack("paas/node", "0.1.0", "[metadata]\nother = 1\n")])];
        let made = recipe(BuildSettings { installed: own.to_vec(), ..BuildSettings::default() }).unwrap();
        assert!(made.buildpacks.iter().all(|b| b.digest != own[0].all[0].digest), "the built-in one stays");
        let error = recipe(request(named("a/y", Some("2")))).unwrap_err();
        assert!(error.starts_with("the buildpack a/y@2 is not installed"), "{error}");
    }

    #[test]
    fn a_package_provides_the_buildpacks_that_it_names() {
        let order = "[[order]]\n[[order.group]]\nid = \"a/x\"\nversion = \"1.0.0\"\n";
        let all = package(&[buildpack("a/all", "1.0.0", order), buildpack("a/x", "1.0.0", "")]);
        let made =
            recipe(BuildSettings { group: vec![RequestedBuildpack::Package(all.clone())], ..BuildSettings::default() })
                .unwrap();
        let resolved: Vec<_> = made.buildpacks.iter().map(|b| b.about.full_name()).collect();
        assert_eq!(resolved, ["a/all@1.0.0", "a/x@1.0.0", "paas/procfile@0.1.0"]);
        let ran = made.used(vec![("a/x".into(), "1.0.0".into()), ("own".into(), "0.0.0".into())]);
        assert!(ran[0].digest.is_some() && ran[1].digest.is_none());
        let other = package(&[buildpack("a/x", "1.0.0", "[metadata]\nother = 1\n")]);
        let error = recipe(BuildSettings {
            group: vec![RequestedBuildpack::Package(all), RequestedBuildpack::Package(other)],
            ..BuildSettings::default()
        });
        assert!(error.unwrap_err().contains("two different buildpacks are named a/x@1.0.0"));
    }

    #[test]
    fn another_value_of_a_binding_is_another_recipe() {
        let with = |value: &str| {
            let binding = format!(r#"{{ "db": {{ "type": "postgresql", "values": {{ "password": "{value}" }} }} }}"#);
            let bindings = serde_json::from_str(&binding).unwrap();
            recipe(BuildSettings { bindings, ..BuildSettings::default() }).unwrap().key(&"tree")
        };
        assert_eq!(with("AAAA"), with("AAAA"));
        assert_ne!(with("AAAA"), with("BBBB"));
        assert_ne!(with("AAAA"), recipe(BuildSettings::default()).unwrap().key(&"tree"));
    }

    #[test]
    fn scripts_of_a_project_are_checked_before_they_run() {
        let inline = |id: &str, api: &str| {
            let place = Place::Inline { api: api.into(), shell: "/bin/sh".into(), script: "true".into() };
            recipe(BuildSettings {
                group: vec![RequestedBuildpack::Inline { id: id.into(), place }],
                ..BuildSettings::default()
            })
        };
        assert_eq!(names(&inline("a/b", "0.10").unwrap()), ["a/b@0.0.0 paas/procfile@0.1.0?"]);
        let error = inline("a/b", "0.1").unwrap_err();
        assert_eq!(error, "project.toml, key io.buildpacks.group.script.api: 0.1 is not supported; use 0.7 to 0.12");
        let error = inline("../b", "0.10").unwrap_err();
        assert!(error.starts_with("project.toml, key io.buildpacks.group.id: \"../b\" is not allowed"), "{error}");
    }

    #[test]
    fn the_key_covers_everything_that_decides_the_image() {
        let base = recipe(BuildSettings::default()).unwrap();
        let other = recipe(BuildSettings {
            env: [("A".into(), Secret::new("b".to_owned()))].into(),
            ..BuildSettings::default()
        })
        .unwrap();
        assert_eq!(base.key(&"tree"), recipe(BuildSettings::default()).unwrap().key(&"tree"));
        assert_ne!(base.key(&"tree"), base.key(&"trees"));
        assert_ne!(base.key(&"tree"), other.key(&"tree"));
    }
}
