//! Everything that decides how a source is built, besides the source: the order of buildpacks with their files, the
//! environment, the stack.

use std::{collections::BTreeMap, fmt::Display};

use nodejs_semver::Version;

use super::{BuildError, Buildpack, Builtin, Package};
use crate::{
    images::Stack,
    lifecycle::{
        descriptor::{self, Api, Descriptor, Group, Reference},
        protocol::{GroupEntry, Place},
    },
    model::{Digest, Secret},
    store::UsedBuildpack,
};

/// The buildpack that reads the `Procfile`: it comes last in every group, so that the `Procfile` wins.
const PROCFILE: &str = "paas/procfile";

/// A buildpack that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// By name, among those that are installed.
    Named {
        /// Its id.
        id: String,
        /// Its version; the newest if there is none.
        version: Option<String>,
    },
    /// The one that a package stands for.
    Package(Package),
    /// One in a folder of the app.
    App {
        /// The folder.
        folder: String,
        /// What it says of itself.
        about: Descriptor,
    },
    /// A script of the app's project descriptor.
    Inline {
        /// Its id.
        id: String,
        /// How it is run.
        place: Place,
    },
}

/// What is asked for of a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// The buildpacks, in order; none to leave it to detection among the built-in ones.
    pub group: Vec<Wanted>,
    /// Those that come before every group.
    pub pre: Vec<Wanted>,
    /// Those that come after every group.
    pub post: Vec<Wanted>,
    /// The installed packages, those preferred first.
    pub installed: Vec<Package>,
    /// Variables of the build.
    pub env: BTreeMap<String, Secret>,
}

impl Wishes {
    /// Whether it is left open which buildpacks build.
    pub fn names_none(&self) -> bool {
        self.group.is_empty() && self.pre.is_empty() && self.post.is_empty()
    }
}

/// How a source is built.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Groups, tried in this order.
    pub(super) order: Vec<Vec<GroupEntry>>,
    /// The buildpacks that may take part.
    pub(super) buildpacks: Vec<Buildpack>,
    /// The environment that the user gives.
    pub(super) env: BTreeMap<String, Secret>,
    /// Where it is built, and on what it runs.
    pub(super) stack: Stack,
    /// Of all that, and of the lifecycle.
    digest: Digest,
}

impl Recipe {
    pub(super) fn new(wishes: Wishes, builtin: &Builtin, stack: Stack, lifecycle: &Digest) -> Result<Self, BuildError> {
        let Wishes { group, pre, post, installed, env } = wishes;
        let mut shelf = Shelf { builtin, installed, taken: Vec::new() };
        let pre = shelf.entries(&pre)?;
        let post = shelf.entries(&post)?;
        let groups = if group.is_empty() {
            builtin.order.iter().map(|group| shelf.references(group)).collect::<Result<Vec<_>, _>>()?
        } else {
            vec![shelf.entries(&group)?]
        };
        let procfile = shelf.entries(&[Wanted::Named { id: PROCFILE.to_owned(), version: None }]).unwrap_or_default();
        let procfile: Vec<_> = procfile.into_iter().map(|entry| GroupEntry { optional: true, ..entry }).collect();
        let order = groups.into_iter().map(|group| {
            let group = [pre.clone(), group, post.clone()].concat();
            let reads_it = group.iter().any(|entry| entry.id.ends_with("/procfile"));
            [group, if reads_it { Vec::new() } else { procfile.clone() }].concat()
        });
        let order: Vec<_> = order.collect();
        let buildpacks = shelf.taken;
        let parts = (
            &order,
            buildpacks.iter().map(|b| (b.target(), &b.digest)).collect::<Vec<_>>(),
            env.iter().map(|(name, value)| (name, value.expose())).collect::<Vec<_>>(),
            [&stack.run.manifest, &stack.build.manifest, lifecycle],
        );
        let text = serde_json::to_vec(&parts).map_err(|e| BuildError::Protocol(e.to_string()))?;
        Ok(Self { digest: Digest::of(&text), order, buildpacks, env, stack })
    }

    /// The same for the same source tree (git's name for it) and recipe: a build of it would give the image that one
    /// with this key gave before.
    pub fn key(&self, tree: &impl Display) -> Digest {
        Digest::of(format!("{tree}\n{}", self.digest).as_bytes())
    }

    /// The name of its stack.
    pub fn stack(&self) -> &str {
        &self.stack.id
    }

    /// Which of its buildpacks these are (id and version).
    pub(super) fn ran(&self, group: Vec<(String, String)>) -> Vec<UsedBuildpack> {
        let ran = |(id, version): (String, String)| {
            let found = self.buildpacks.iter().find(|b| b.about.id == id && b.about.version == version);
            UsedBuildpack { digest: found.map(|buildpack| buildpack.digest.clone()), id, version }
        };
        group.into_iter().map(ran).collect()
    }
}

/// Where buildpacks are looked for, and those that were taken from it.
struct Shelf<'a> {
    builtin: &'a Builtin,
    installed: Vec<Package>,
    taken: Vec<Buildpack>,
}

impl Shelf<'_> {
    fn entries(&mut self, wanted: &[Wanted]) -> Result<Vec<GroupEntry>, BuildError> {
        wanted.iter().map(|wanted| self.entry(wanted)).collect()
    }

    fn references(&mut self, group: &Group) -> Result<Vec<GroupEntry>, BuildError> {
        let entry = |reference: &Reference| {
            let Reference { id, version, optional, .. } = reference.clone();
            Ok(GroupEntry { optional, ..self.entry(&Wanted::Named { id, version })? })
        };
        group.group.iter().map(entry).collect()
    }

    fn entry(&mut self, wanted: &Wanted) -> Result<GroupEntry, BuildError> {
        let entry = |about: &Descriptor, place| GroupEntry {
            id: about.id.clone(),
            version: about.version.clone(),
            optional: false,
            place,
        };
        Ok(match wanted {
            Wanted::Named { id, version } => {
                let found = self.find(id, version.as_deref(), None)?;
                let made = entry(&found.about, Place::Installed);
                self.take(found, None)?;
                made
            }
            Wanted::Package(package) => {
                let root = package.root()?.clone();
                let made = entry(&root.about, Place::Installed);
                self.take(root, Some(package))?;
                made
            }
            Wanted::App { folder, about } => {
                self.take_named(about, None)?;
                entry(about, Place::Source(folder.clone()))
            }
            Wanted::Inline { id, place } => {
                check_inline(id, place).map_err(BuildError::Inline)?;
                GroupEntry { id: id.clone(), version: "0.0.0".to_owned(), optional: false, place: place.clone() }
            }
        })
    }

    /// The best that there is: from the same package, then what is installed, then what is built in; the newest version.
    fn find(&self, id: &str, version: Option<&str>, package: Option<&Package>) -> Result<Buildpack, BuildError> {
        let fits = |b: &&Buildpack| b.about.id == id && version.is_none_or(|version| b.about.version == version);
        let newest = |all: &[Buildpack]| all.iter().filter(fits).max_by_key(|b| order_of(&b.about.version)).cloned();
        let own = package.and_then(|package| newest(&package.all));
        // Of several that say the same version, the one that was installed last.
        let installed =
            || self.installed.iter().rev().filter_map(|p| newest(&p.all)).max_by_key(|b| order_of(&b.about.version));
        let found = own.or_else(installed).or_else(|| newest(&self.builtin.all));
        found.ok_or_else(|| {
            let name = version.map_or_else(|| id.to_owned(), |version| format!("{id}@{version}"));
            BuildError::NoBuildpack(name)
        })
    }

    /// Takes a buildpack, and those that it names.
    fn take(&mut self, buildpack: Buildpack, package: Option<&Package>) -> Result<(), BuildError> {
        let same_name = |b: &&Buildpack| b.target() == buildpack.target();
        match self.taken.iter().find(same_name) {
            Some(taken) if taken.digest == buildpack.digest => return Ok(()),
            Some(_) => return Err(BuildError::TwoOfOneName(buildpack.about.full_name())),
            None => {}
        }
        let about = buildpack.about.clone();
        self.taken.push(buildpack);
        self.take_named(&about, package)
    }

    fn take_named(&mut self, about: &Descriptor, package: Option<&Package>) -> Result<(), BuildError> {
        for Reference { id, version, .. } in about.order.iter().flat_map(|group| &group.group) {
            let found = self.find(id, version.as_deref(), package)?;
            self.take(found, package)?;
        }
        Ok(())
    }
}

/// A script of `project.toml` becomes a buildpack: its id and API are those of one.
fn check_inline(id: &str, place: &Place) -> Result<(), String> {
    descriptor::check_id(id).map_err(|e| e.replacen("buildpack.id", "io.buildpacks.group.id", 1))?;
    match place {
        Place::Inline { api, .. } => Api::parse(api).map(drop).map_err(|e| format!("io.buildpacks.group.script.{e}")),
        Place::Installed | Place::Source(_) => Ok(()),
    }
}

/// Later versions are greater; what is no version comes first.
fn order_of(version: &str) -> (Option<Version>, String) {
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

    fn recipe(wishes: Wishes) -> Result<Recipe, String> {
        let group = |id: &str| Group {
            group: vec![Reference { id: id.into(), version: None, optional: false, exec_env: Vec::new() }],
        };
        let builtin = Builtin {
            all: ["paas/node", "paas/python", PROCFILE].map(|id| buildpack(id, "0.1.0", "")).to_vec(),
            order: vec![group("paas/node"), group(PROCFILE)],
        };
        let image = StackImage { manifest: Digest::of(b"m"), config: Digest::of(b"c"), layer: Digest::of(b"l") };
        let stack = Stack { id: "s".into(), run: image.clone(), build: image, target: Target::default() };
        Recipe::new(wishes, &builtin, stack, &Digest::of(b"lifecycle")).map_err(|e| e.to_string())
    }

    fn names(recipe: &Recipe) -> Vec<String> {
        let name = |e: &GroupEntry| format!("{}@{}{}", e.id, e.version, if e.optional { "?" } else { "" });
        recipe.order.iter().map(|group| group.iter().map(name).collect::<Vec<_>>().join(" ")).collect()
    }

    fn named(id: &str, version: Option<&str>) -> Wanted {
        Wanted::Named { id: id.into(), version: version.map(Into::into) }
    }

    #[test]
    fn without_wishes_the_builtin_order_counts() {
        let made = recipe(Wishes::default()).unwrap();
        assert_eq!(names(&made), ["paas/node@0.1.0 paas/procfile@0.1.0?", "paas/procfile@0.1.0"]);
        let wishes = Wishes { pre: vec![named("paas/python", None)], ..Wishes::default() };
        assert_eq!(names(&recipe(wishes).unwrap())[0], "paas/python@0.1.0 paas/node@0.1.0 paas/procfile@0.1.0?");
    }

    #[test]
    fn names_mean_the_newest_that_is_installed() {
        let installed =
            [("1.9.0", ""), ("1.10.0", "")].map(|(version, more)| package(&[buildpack("a/x", version, more)]));
        let wish = |wanted| Wishes { group: vec![wanted], installed: installed.to_vec(), ..Wishes::default() };
        assert_eq!(names(&recipe(wish(named("a/x", None))).unwrap()), ["a/x@1.10.0 paas/procfile@0.1.0?"]);
        assert_eq!(names(&recipe(wish(named("a/x", Some("1.9.0")))).unwrap()), ["a/x@1.9.0 paas/procfile@0.1.0?"]);
        let error = recipe(wish(named("a/y", Some("2")))).unwrap_err();
        assert!(error.starts_with("the buildpack a/y@2 is not installed"), "{error}");
    }

    #[test]
    fn a_package_brings_what_it_names() {
        let order = "[[order]]\n[[order.group]]\nid = \"a/x\"\nversion = \"1.0.0\"\n";
        let all = package(&[buildpack("a/all", "1.0.0", order), buildpack("a/x", "1.0.0", "")]);
        let made = recipe(Wishes { group: vec![Wanted::Package(all.clone())], ..Wishes::default() }).unwrap();
        let taken: Vec<_> = made.buildpacks.iter().map(|b| b.about.full_name()).collect();
        assert_eq!(taken, ["a/all@1.0.0", "a/x@1.0.0", "paas/procfile@0.1.0"]);
        let ran = made.ran(vec![("a/x".into(), "1.0.0".into()), ("own".into(), "0.0.0".into())]);
        assert!(ran[0].digest.is_some() && ran[1].digest.is_none());
        let other = package(&[buildpack("a/x", "1.0.0", "[metadata]\nother = 1\n")]);
        let error = recipe(Wishes { group: vec![Wanted::Package(all), Wanted::Package(other)], ..Wishes::default() });
        assert!(error.unwrap_err().contains("two different buildpacks are called a/x@1.0.0"));
    }

    #[test]
    fn scripts_of_a_project_are_judged_before_they_run() {
        let inline = |id: &str, api: &str| {
            let place = Place::Inline { api: api.into(), shell: "/bin/sh".into(), script: "true".into() };
            recipe(Wishes { group: vec![Wanted::Inline { id: id.into(), place }], ..Wishes::default() })
        };
        assert_eq!(names(&inline("a/b", "0.10").unwrap()), ["a/b@0.0.0 paas/procfile@0.1.0?"]);
        let error = inline("a/b", "0.1").unwrap_err();
        assert_eq!(error, "project.toml, key io.buildpacks.group.script.api: 0.1 is not supported; use 0.7 to 0.12");
        let error = inline("../b", "0.10").unwrap_err();
        assert!(error.starts_with("project.toml, key io.buildpacks.group.id: \"../b\" is not allowed"), "{error}");
    }

    #[test]
    fn whatever_decides_the_image_is_in_the_key() {
        let base = recipe(Wishes::default()).unwrap();
        let other =
            recipe(Wishes { env: [("A".into(), Secret::new("b".to_owned()))].into(), ..Wishes::default() }).unwrap();
        assert_eq!(base.key(&"tree"), recipe(Wishes::default()).unwrap().key(&"tree"));
        assert_ne!(base.key(&"tree"), base.key(&"trees"));
        assert_ne!(base.key(&"tree"), other.key(&"tree"));
    }
}
