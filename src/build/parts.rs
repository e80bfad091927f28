//! The parts of a composite buildpack that is a folder: `package.toml` beside its `buildpack.toml` says where they are, as for
//! `pack buildpack package`.

use std::{
    collections::HashSet,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    buildpack::real_within,
    error::BuildpacksError,
    packages::{Package, Packages},
    unpacked::{MAX_PACKAGE_BYTES, adopt, copy, from_archive},
};
use crate::{
    lifecycle::{
        self,
        descriptor::{Descriptor, read_file},
    },
    model::{BuildpackSource, Line, toml_message},
};

/// Maximum number of parts, those of parts included.
const MAX_PARTS: usize = 200;

/// Why parts that are too large are refused.
pub(super) const MAX_OF_PARTS: &str = "the parts that package.toml names are larger than 2 GiB in all, unpacked";

/// `package.toml`, as far as it is read.
#[derive(Deserialize)]
struct PackageToml {
    #[serde(default)]
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    uri: Option<String>,
    image: Option<String>,
}

/// A buildpack in a folder, and where its parts are.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Parts {
    /// Folders of buildpacks, its own first.
    folders: Vec<PathBuf>,
    /// Files, `.cnb` or `.tgz`.
    archives: Vec<PathBuf>,
    /// Names of buildpacks that are to be installed where the package is used.
    installed: Vec<BuildpackSource>,
    /// What has to be fetched.
    pub(super) sources: Vec<BuildpackSource>,
}

/// Whether a folder is a composite buildpack; `false` also for one that is not readable. Blocks.
pub(super) fn is_composite(folder: &Path) -> bool {
    Descriptor::read(&folder.join("buildpack.toml")).is_ok_and(|about| !about.order.is_empty())
}

/// Finds the parts of the buildpack in a folder. `within`: a folder that they must not lead out of. Blocks.
pub(super) fn find(folder: &Path, within: Option<&Path>) -> Result<Parts, String> {
    let mut parts = Parts::default();
    let (mut seen, mut next) = (HashSet::new(), vec![folder.to_owned()]);
    while let Some(path) = next.pop() {
        let shown = shown_in(&path, within);
        let real = if let Some(within) = within {
            // The same whether there is a file elsewhere on this machine or not.
            let inside = real_within(within, &path);
            inside.ok_or_else(|| format!("{shown}, which package.toml names, is not in the same source"))?
        } else {
            fs::canonicalize(&path).map_err(|e| format!("cannot find {shown}, which package.toml names: {e}"))?
        };
        if !seen.insert(real.clone()) {
            continue;
        }
        if seen.len() + parts.sources.len() > MAX_PARTS {
            return Err(format!("it has more than {MAX_PARTS} parts; name fewer in package.toml"));
        }
        if real.is_file() {
            parts.archives.push(real);
            continue;
        }
        let hidden = |e: String| within.map_or(e.clone(), |within| e.replace(&format!("{}/", within.display()), ""));
        let about = Descriptor::read(&real.join("buildpack.toml"));
        let about = about.map_err(|e| format!("{shown}/buildpack.toml, {}", hidden(e)))?;
        if !about.order.is_empty() {
            let named = dependencies(&real).map_err(|e| format!("{shown}/package.toml, {}", hidden(e)))?;
            for part in named {
                match part {
                    Part::Path(path) => next.push(real.join(path)),
                    Part::Installed(name) => parts.installed.push(name),
                    Part::Source(source) => parts.sources.push(source),
                }
            }
        }
        parts.folders.push(real);
    }
    Ok(parts)
}

/// The parts of a composite buildpack that is to be packaged.
pub struct LocalParts {
    /// Folders of its parts.
    pub folders: Vec<PathBuf>,
    /// Names of those that are to be installed where the package is used.
    pub installed: Vec<BuildpackSource>,
    /// What else its `package.toml` names: archives, repositories and images.
    pub others: Vec<String>,
}

/// The parts that a buildpack's `package.toml` names. Blocks.
pub fn local_parts(folder: &Path) -> Result<LocalParts, BuildpacksError> {
    if !is_composite(folder) {
        return Ok(LocalParts { folders: Vec::new(), installed: Vec::new(), others: Vec::new() });
    }
    let Parts { folders, archives, installed, sources } = find(folder, None).map_err(BuildpacksError::Unusable)?;
    let others = archives.iter().map(|path| path.display().to_string()).chain(sources.iter().map(ToString::to_string));
    Ok(LocalParts { folders: folders.into_iter().skip(1).collect(), installed, others: others.collect() })
}

/// A path, in messages without the folder in which a source was unpacked.
fn shown_in(path: &Path, within: Option<&Path>) -> String {
    let shown = within.and_then(|within| path.strip_prefix(within).ok()).unwrap_or(path);
    if shown.as_os_str().is_empty() { ".".to_owned() } else { Line::excerpt(&shown.display().to_string()) }
}

/// Where a part is.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// A folder or file, relative to the composite buildpack's folder.
    Path(PathBuf),
    /// Among the buildpacks of the server, by its name.
    Installed(BuildpackSource),
    Source(BuildpackSource),
}

/// What the `package.toml` in a folder names.
fn dependencies(folder: &Path) -> Result<Vec<Part>, String> {
    let Some(text) = read_file(&folder.join("package.toml"))? else { return Ok(Vec::new()) };
    let PackageToml { dependencies } = toml::from_str(&text).map_err(|e| toml_message(&e))?;
    let mut parts = Vec::new();
    for dependency in dependencies {
        let wrong = |text: &str, why: &str| format!("key dependencies.uri: {:?} {why}", Line::excerpt(text));
        match dependency {
            Dependency { uri: Some(uri), .. } => {
                if uri.starts_with("urn:cnb:") {
                    parts.push(Part::Installed(uri.parse().map_err(|_| wrong(&uri, "is not a buildpack's name"))?));
                    continue;
                }
                let path = uri.strip_prefix("file://").unwrap_or(&uri);
                parts.push(if path.contains("://") {
                    Part::Source(
                        path.parse().map_err(|_| wrong(path, "is neither a path, a git URL nor docker://IMAGE"))?,
                    )
                } else {
                    Part::Path(path.into())
                });
            }
            Dependency { image: Some(image), .. } => {
                let source = if image.contains("://") { image } else { format!("docker://{image}") };
                parts.push(Part::Source(source.parse().map_err(|_| wrong(&source, "is not an image"))?));
            }
            Dependency { uri: None, image: None } => {
                return Err("a row of dependencies has neither uri nor image".to_owned());
            }
        }
    }
    Ok(parts)
}

/// Makes a package of a buildpack and its parts, and of the buildpacks in other packages. What no order names is left out. Archives are
/// unpacked into `spool`. Blocks.
pub(super) fn package(
    packages: &Packages,
    spool: &Packages,
    parts: &Parts,
    fetched: &[Package],
) -> Result<Package, String> {
    let failed = |e: &dyn std::fmt::Display| e.to_string();
    let mut fetched = fetched.to_vec();
    let mut of_archives = 0;
    for archive in &parts.archives {
        let is_image = archive.extension().is_some_and(|extension| extension == "cnb");
        let file = fs::File::open(archive).map_err(|e| format!("{}: {e}", archive.display()))?;
        let package = from_archive(spool, file, is_image)?;
        of_archives += spool.size(&package.digest).map_err(|e| failed(&e))?;
        if of_archives > MAX_PACKAGE_BYTES {
            return Err(MAX_OF_PARTS.to_owned());
        }
        fetched.push(package);
    }
    let of_packages = fetched.iter().flat_map(|package| &package.all).map(|buildpack| buildpack.folder.clone());
    let mut found: Vec<(PathBuf, Descriptor)> = Vec::new();
    for folder in parts.folders.iter().cloned().chain(of_packages) {
        let about = Descriptor::read(&folder.join("buildpack.toml"))?;
        if !found.iter().any(|(_, other)| other.full_name() == about.full_name()) {
            found.push((folder, about));
        }
    }
    let staged = packages.staging().map_err(|e| failed(&e))?;
    let mut left = MAX_PACKAGE_BYTES;
    for (index, (folder, about)) in found.iter().enumerate() {
        let references = |other: &Descriptor| {
            let mut all = other.order.iter().flat_map(|group| &group.group);
            all.any(|reference| {
                reference.id == about.id && reference.version.as_ref().is_none_or(|wanted| *wanted == about.version)
            })
        };
        if index > 0 && !found.iter().any(|(_, other)| references(other)) {
            continue;
        }
        let target = staged.path().join(index.to_string());
        fs::create_dir(&target).map_err(|e| failed(&e))?;
        if about.order.is_empty() {
            copy(folder, &target, &mut left).map_err(|e| format!("{}: {e}", folder.display()))?;
            lifecycle::convert_scripts_of_buildpack(&target).map_err(|e| failed(&e))?;
        } else {
            // Nothing else of it is used, and its parts may lie in its folder.
            let file = folder.join("buildpack.toml");
            let text = read_file(&file)?.unwrap_or_default();
            fs::write(target.join("buildpack.toml"), text).map_err(|e| failed(&e))?;
        }
    }
    adopt(packages, staged.path())
}

#[cfg(test)]
mod tests {
    use super::{super::buildpack::write_example, *};

    /// Writes a composite buildpack that names others, and its `package.toml`.
    fn composite(folder: &Path, id: &str, named: &[&str], package: &str) {
        let rows = named.iter().map(|id| format!("[[order.group]]\nid = {id:?}\nversion = \"1.0\"\n"));
        write_example(folder, id, &format!("[[order]]\n{}", rows.collect::<String>()));
        fs::remove_dir_all(folder.join("bin")).unwrap();
        fs::write(folder.join("package.toml"), package).unwrap();
    }

    fn uris(uris: &[&str]) -> String {
        let rows: Vec<_> = uris.iter().map(|uri| format!("[[dependencies]]\nuri = {uri:?}\n")).collect();
        rows.concat()
    }

    fn names(package: &Package) -> String {
        package.all.iter().map(|b| b.about.id.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_composite_buildpack_brings_the_parts_that_its_package_toml_names() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let packages = Packages::open(at("kept")).unwrap();
        for name in ["a", "all/inside", "unused"] {
            write_example(&at(&format!("src/{name}")), &format!("x/{}", name.replace('/', "-")), "");
        }
        let own = uris(&["../a", "inside", "../unused", "../more", "urn:cnb:registry:x/y@1", "."]);
        composite(&at("src/all"), "x/all", &["x/a", "x/all-inside", "x/more"], &own);
        composite(&at("src/more"), "x/more", &["x/a"], &uris(&["../a"]));
        let parts = find(&at("src/all"), None).unwrap();
        let spool = Packages::open(at("spool")).unwrap();
        let package = package(&packages, &spool, &parts, &[]).unwrap();
        assert_eq!(names(&package), "x/a x/all-inside x/all x/more");
        assert_eq!(package.root().unwrap().about.id, "x/all");
        assert!(at("src/a/bin/build").exists(), "the folders stay");

        assert_eq!(find(&at("src/all"), Some(&at("src"))).unwrap(), parts);
        let error = find(&at("src/all"), Some(&at("src/all"))).unwrap_err();
        assert!(error.contains("is not in the same source"), "{error}");
        assert!(!error.contains(&dir.path().display().to_string()) || error.contains("../"), "{error}");
    }

    #[test]
    fn what_is_refused_leaves_nothing_and_tells_nothing_about_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        write_example(&at("a"), "x/a", "");
        fs::create_dir(at("src")).unwrap();
        let mut tar = tar::Builder::new(fs::File::create(at("src/a.tgz")).unwrap());
        tar.append_dir_all(".", at("a")).unwrap();
        tar.finish().unwrap();
        fs::write(at("src/broken.tgz"), [0x1f, 0x8b, 0x78]).unwrap();
        composite(&at("src/all"), "x/all", &["x/a"], &uris(&["../broken.tgz", "../a.tgz"]));
        let parts = find(&at("src/all"), Some(&at("src"))).unwrap();
        let (packages, spool) = (Packages::open(at("kept")).unwrap(), Packages::open(at("spool")).unwrap());
        package(&packages, &spool, &parts, &[]).unwrap_err();
        assert_eq!(fs::read_dir(at("kept")).unwrap().count(), 0);

        std::os::unix::fs::symlink("/", at("src/link")).unwrap();
        let refused = |uri: &str| {
            composite(&at("src/all"), "x/all", &["x/a"], &uris(&[uri]));
            find(&at("src/all"), Some(&at("src"))).unwrap_err().replace(uri, "URI").replace("all/URI", "URI")
        };
        for (there, missing) in [("/etc/passwd", "/etc/none"), ("../link/etc/passwd", "../link/etc/none")] {
            assert_eq!(refused(there), refused(missing));
            assert!(
                refused(there).ends_with("URI, which package.toml names, is not in the same source"),
                "{}",
                refused(there)
            );
        }
    }

    #[test]
    fn what_a_package_toml_names_is_found_or_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("all");
        let read = |text: &str| {
            composite(&folder, "x/all", &["x/a"], text);
            find(&folder, None)
        };
        let images =
            "[[dependencies]]\nimage = \"example.com/x:1\"\n[[dependencies]]\nuri = \"docker://example.com/y\"\n";
        let sources: Vec<_> = read(images).unwrap().sources.iter().map(ToString::to_string).collect();
        assert_eq!(sources, ["docker://example.com/x:1", "docker://example.com/y"]);
        for (text, says) in [
            ("[[dependencies]]\n", "neither uri nor image"),
            (&uris(&["../none"]), "none, which package.toml names: No such file"),
            (&uris(&["ftp://x/y"]), "\"ftp://x/y\" is neither a path, a git URL nor docker://IMAGE"),
            ("dependencies = 3\n", "package.toml, "),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
    }
}
