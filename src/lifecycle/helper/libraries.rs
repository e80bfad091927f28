//! `bp libraries`: shared libraries that what was built links to, and that the run image lacks, are brought along or named.

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use super::{
    answer::{Answer, Refusal, wrong},
    elf::{self, Linked},
    layers::layer_name,
};
use crate::{
    lifecycle::{apt::RUN_PACKAGES, files},
    model::Line,
};

/// Beginnings of libraries that are not reported: drivers, which only some machines have, those of other systems, and those that
/// packages load by paths of their own.
const NOT_REPORTED: [&str; 9] =
    ["ld-linux", "libc.musl", "libc10", "libcu", "libnv", "libpython3", "libtensorflow", "libtorch", "linux-vdso"];

/// Debian packages whose names do not follow from the library's.
const PACKAGES: [(&str, &str); 14] = [
    ("libGL.so.1", "libgl1"),
    ("libglib-2.0.so.0", "libglib2.0-0t64"),
    ("libgthread-2.0.so.0", "libglib2.0-0t64"),
    ("libgobject-2.0.so.0", "libglib2.0-0t64"),
    ("libgio-2.0.so.0", "libglib2.0-0t64"),
    ("libgmodule-2.0.so.0", "libglib2.0-0t64"),
    ("libodbc.so.2", "libodbc2"),
    ("libmariadb.so.3", "libmariadb3"),
    ("libmysqlclient.so.21", "libmariadb3"),
    ("libldap.so.2", "libldap2"),
    ("libgdal.so.36", "libgdal36"),
    ("libsnappy.so.1", "libsnappy1v5"),
    ("libX11.so.6", "libx11-6"),
    ("libxcb.so.1", "libxcb1"),
];

/// Copies libraries that files in folders link to into the launch layer NAME, if the build image has them and the run image does
/// not. The status is 1 if there are others that nobody has; they are reported.
pub(super) fn libraries(words: &[&str]) -> Answer {
    let [layers, name, words @ ..] = words else {
        return Err(wrong("bp libraries: LAYERS and NAME are missing"));
    };
    let (mut places, mut linked, mut words) = (Vec::new(), Linked::default(), words.iter());
    while let Some(word) = words.next() {
        match *word {
            "--from" => {
                let place = words.next().ok_or_else(|| wrong("bp libraries: --from DIR is missing"))?;
                places.push(PathBuf::from(place));
            }
            option if option.starts_with("--") => {
                return Err(wrong(format!("bp libraries: there is no option {option}")));
            }
            folder => linked.add(Path::new(folder)),
        }
    }
    let Some(images) = Images::read(Path::new("/"), places).map_err(wrong)? else { return Ok(String::new()) };
    // What the layers of other buildpacks have, which the app will have as well.
    let folders = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    for folder in env::split_paths(&folders) {
        linked.names.extend(files::names(&folder).unwrap_or_default());
    }
    let needed = |files: &[PathBuf]| elf::dynamic(files).map(|dynamic| dynamic.needed);
    let lacking = images.lacking(needed(&linked.files).map_err(wrong)?, &linked.names, needed).map_err(wrong)?;
    bring_along(Path::new(layers), layer_name(name)?, &lacking.copies)?;
    if lacking.nowhere.is_empty() {
        return Ok(String::new());
    }
    let packages: BTreeSet<_> = lacking.nowhere.iter().filter_map(|name| package_of(name)).collect();
    let packages = packages.into_iter().collect::<Vec<_>>().join(" ");
    let names = lacking.nowhere.into_iter().collect::<Vec<_>>().join(" ");
    Err(Refusal {
        status: 1,
        text: format!(
            "the app links to libraries that it will not have ({names}): add their Debian packages to a file named Aptfile{}",
            if packages.is_empty() { String::new() } else { format!(": {packages}") }
        ),
    })
}

fn bring_along(layers: &Path, name: &str, copies: &BTreeMap<String, PathBuf>) -> Result<(), Refusal> {
    if copies.is_empty() {
        return Ok(());
    }
    let (folder, about) = (layers.join(name).join("lib"), layers.join(format!("{name}.toml")));
    let copy = || {
        fs::create_dir_all(&folder)?;
        for (name, from) in copies {
            let to = folder.join(name);
            // A restored file is a link to the cache of the last good build.
            fs::remove_file(&to).or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            fs::copy(from, to)?;
        }
        if !about.exists() {
            fs::write(&about, "[types]\nlaunch = true\n")?;
        }
        Ok(())
    };
    copy().map_err(|e: io::Error| wrong(format!("cannot copy libraries to {}: {e}", folder.display())))?;
    let names = copies.keys().map(String::as_str).collect::<Vec<_>>().join(" ");
    let line = Line::Detail(Line::sanitize(&format!("Adding libraries to the image that the app links to: {names}")));
    let _ = writeln!(io::stderr(), "{line}");
    Ok(())
}

/// What the build image and the run image have.
struct Images {
    /// Packages that the app will have, from the run image or its Aptfile.
    run: BTreeSet<String>,
    /// Packages of the build image that have a library of this name.
    owners: BTreeMap<String, Vec<String>>,
    /// Folders of the build in which libraries are.
    places: Vec<PathBuf>,
}

/// What the app lacks.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lacking {
    /// Libraries that the build has.
    copies: BTreeMap<String, PathBuf>,
    nowhere: BTreeSet<String>,
}

impl Images {
    /// `None` if it is unknown what the run image has.
    fn read(root: &Path, mut places: Vec<PathBuf>) -> Result<Option<Self>, String> {
        let list = files::read_text(&root.join(RUN_PACKAGES.trim_start_matches('/')))?.unwrap_or_default();
        let mut run: BTreeSet<_> =
            list.lines().filter_map(|line| line.strip_prefix("Package: ")).map(str::to_owned).collect();
        if run.is_empty() {
            return Ok(None);
        }
        if let Some(list) = env::var_os("APTFILE_RUN_PACKAGES") {
            run.extend(files::read_text(Path::new(&list))?.unwrap_or_default().lines().map(str::to_owned));
        }
        let triplet = format!("{}-linux-gnu", env::consts::ARCH);
        for folder in [format!("usr/lib/{triplet}"), format!("lib/{triplet}"), "usr/lib".into(), "usr/local/lib".into()]
        {
            places.push(root.join(folder));
        }
        let mut owners = BTreeMap::<String, Vec<String>>::new();
        let info = root.join("var/lib/dpkg/info");
        for name in files::names(&info).unwrap_or_default() {
            let Some(package) = name.strip_suffix(".list").and_then(|package| package.split(':').next()) else {
                continue;
            };
            for path in files::read_text(&info.join(&name))?.unwrap_or_default().lines() {
                let library = path.rsplit('/').next().unwrap_or_default();
                if library.contains(".so") {
                    owners.entry(library.to_owned()).or_default().push(package.to_owned());
                }
            }
        }
        Ok(Some(Self { run, owners, places }))
    }

    /// Which of the libraries that are needed the app lacks, and those that these need in turn.
    fn lacking(
        &self,
        mut needed: BTreeSet<String>,
        known: &BTreeSet<String>,
        needed_by: impl Fn(&[PathBuf]) -> Result<BTreeSet<String>, String>,
    ) -> Result<Lacking, String> {
        let (mut lacking, mut seen) = (Lacking::default(), BTreeSet::new());
        while let Some(name) = needed.pop_first() {
            if known.contains(&name) || !seen.insert(name.clone()) || self.app_has(&name) {
                continue;
            }
            // A name with a slash is a path that the program itself knows.
            if name.contains('/') {
                continue;
            }
            if let Some(file) = self.places.iter().map(|place| place.join(&name)).find(|file| file.is_file()) {
                needed.extend(needed_by(std::slice::from_ref(&file))?);
                lacking.copies.insert(name, file);
            } else if !NOT_REPORTED.iter().any(|beginning| name.starts_with(beginning)) {
                lacking.nowhere.insert(name);
            }
        }
        Ok(lacking)
    }

    fn app_has(&self, library: &str) -> bool {
        match self.owners.get(library) {
            Some(packages) => packages.iter().any(|package| self.run.contains(package)),
            None => package_of(library).is_some_and(|package| self.run.contains(&package)),
        }
    }
}

/// The Debian package that a library is probably in: most are named after it, `libsndfile.so.1` is in `libsndfile1`.
fn package_of(library: &str) -> Option<String> {
    if let Some((_, package)) = PACKAGES.iter().find(|(name, _)| *name == library) {
        return Some((*package).to_owned());
    }
    let (name, version) = library.strip_prefix("lib").and_then(|_| library.split_once(".so."))?;
    let version = version.split('.').next().filter(|version| version.bytes().all(|byte| byte.is_ascii_digit()))?;
    let name = name.to_ascii_lowercase().replace('_', "-");
    let separator = if name.ends_with(|end: char| end.is_ascii_digit()) { "-" } else { "" };
    Some(format!("{name}{separator}{version}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_named_after_libraries() {
        let package = |library| package_of(library).unwrap_or_default();
        assert_eq!(package("libsndfile.so.1"), "libsndfile1");
        assert_eq!(package("libpango-1.0.so.0"), "libpango-1.0-0");
        assert_eq!(package("libGL.so.1"), "libgl1");
        assert_eq!(package("libX11.so.6"), "libx11-6");
        assert_eq!(package("libfoo_bar.so.2.1"), "libfoo-bar2");
        assert_eq!(package("plugin.so"), "");
    }

    #[test]
    fn what_the_run_image_lacks_is_copied_or_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        let usr = root.join(format!("usr/lib/{}-linux-gnu", env::consts::ARCH));
        for folder in [&usr, &root.join("var/lib/dpkg/info"), &root.join("cnb")] {
            fs::create_dir_all(folder).unwrap();
        }
        assert!(Images::read(root, Vec::new()).unwrap().is_none());
        fs::write(root.join("cnb/run-packages"), "Package: libc6\nVersion: 2\n\nPackage: libexpat1\n").unwrap();
        for (package, library) in [
            ("libc6:amd64", "libc.so.6"),
            ("libpython3.13:amd64", "libpython3.13.so.1.0"),
            ("libexpat1", "libexpat.so.1"),
        ] {
            fs::write(usr.join(library), "x").unwrap();
            fs::write(root.join(format!("var/lib/dpkg/info/{package}.list")), format!("/.\n/usr/lib/{library}\n"))
                .unwrap();
        }
        fs::write(usr.join("libown.so.1"), "x").unwrap();
        let images = Images::read(root, Vec::new()).unwrap().unwrap();
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
        let wanted = set(&["libc.so.6", "libpython3.13.so.1.0", "libGL.so.1", "libcuda.so.1", "libmine.so.1"]);
        let needs = |files: &[PathBuf]| {
            let of_python = files[0].ends_with("libpython3.13.so.1.0");
            Ok(if of_python { set(&["libexpat.so.1", "libown.so.1"]) } else { set(&["libc.so.6"]) })
        };
        let lacking = images.lacking(wanted, &set(&["libmine.so.1"]), needs).unwrap();
        assert_eq!(lacking.copies.keys().collect::<Vec<_>>(), ["libown.so.1", "libpython3.13.so.1.0"]);
        assert_eq!(lacking.nowhere, set(&["libGL.so.1"]));

        bring_along(root, "programs", &lacking.copies).unwrap();
        assert_eq!(fs::read_to_string(root.join("programs/lib/libown.so.1")).unwrap(), "x");
        assert_eq!(fs::read_to_string(root.join("programs.toml")).unwrap(), "[types]\nlaunch = true\n");
    }
}
