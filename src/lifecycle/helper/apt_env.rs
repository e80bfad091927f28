//! `bp apt-env`: sets the search paths by which programs find what `bp apt` unpacked into a layer.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{
    answer::{Answer, wrong},
    elf::{self, Linked},
    layers::{self, layer_name},
    options::check_options,
};
use crate::lifecycle::files;

/// Search paths: `{lib}` is the folder of libraries of this architecture, `*` stands for any part of a name.
const PATHS: [(&str, &[&str]); 5] = [
    ("PATH", &["usr/bin", "usr/sbin", "usr/games"]),
    ("PERL5LIB", &["usr/share/perl5", "{lib}/perl5/5.*", "usr/share/perl/5.*", "{lib}/perl/5.*"]),
    ("GI_TYPELIB_PATH", &["{lib}/girepository-1.0", "usr/lib/girepository-1.0"]),
    (
        "GS_LIB",
        &[
            "usr/share/ghostscript/*/Resource/Init",
            "usr/share/ghostscript/*/lib",
            "usr/share/ghostscript/*/Resource/Font",
            "usr/share/ghostscript/*/iccprofiles",
        ],
    ),
    ("XDG_DATA_DIRS", &["usr/share"]),
];

/// Those that only compilers and other tools of a build read.
const BUILD_PATHS: [(&str, &[&str]); 6] = [
    ("LIBRARY_PATH", &["{lib}", "usr/lib"]),
    ("C_INCLUDE_PATH", &["usr/include", "usr/include/{arch}"]),
    ("CPLUS_INCLUDE_PATH", &["usr/include", "usr/include/{arch}"]),
    ("PKG_CONFIG_PATH", &["{lib}/pkgconfig", "usr/lib/pkgconfig", "usr/share/pkgconfig"]),
    ("CMAKE_PREFIX_PATH", &["usr"]),
    ("ACLOCAL_PATH", &["usr/share/aclocal"]),
];

/// Variables with one path: the first that exists, unless the app sets another.
const DEFAULTS: [(&str, &[&str]); 11] = [
    ("FONTCONFIG_PATH", &["etc/fonts"]),
    ("GIT_EXEC_PATH", &["usr/lib/git-core"]),
    ("GIT_TEMPLATE_DIR", &["usr/share/git-core/templates"]),
    ("MAGICK_CONFIGURE_PATH", &["etc/ImageMagick-*"]),
    ("MAGICK_CODER_MODULE_PATH", &["{lib}/ImageMagick-*/modules-*/coders"]),
    ("MAGICK_CODER_FILTER_PATH", &["{lib}/ImageMagick-*/modules-*/filters"]),
    ("TESSDATA_PREFIX", &["usr/share/tesseract-ocr/*/tessdata"]),
    ("MAGIC", &["usr/share/misc/magic.mgc", "usr/lib/file/magic.mgc"]),
    ("PROJ_DATA", &["usr/share/proj"]),
    ("GDAL_DATA", &["usr/share/gdal"]),
    ("GDK_PIXBUF_MODULE_FILE", &["{lib}/gdk-pixbuf-2.0/*/loaders.cache"]),
];

/// Sets the variables in the environment files of the layer.
pub(super) fn apt_env(layers: &Path, name: &str, options: &[&str]) -> Answer {
    let root = layers.join(layer_name(name)?);
    check_options("apt-env", options, &["--launch", "--build"], &[])?;
    let [phase] = options else { return Err(wrong("bp apt-env: write --launch or --build")) };
    let set = |how: &str, variable: &str, value: &str| {
        layers::env(layers, name, &[phase, how, &format!("{variable}={value}")]).map(drop)
    };
    let build: &[_] = if *phase == "--build" { &BUILD_PATHS } else { &[] };
    for (variable, patterns) in PATHS.iter().chain(build) {
        let mut paths = existing(&root, patterns);
        if !paths.is_empty() {
            if *variable == "XDG_DATA_DIRS" {
                // Where programs look if the variable is not set (XDG Base Directory specification).
                paths.extend(["/usr/local/share", "/usr/share"].map(PathBuf::from));
            }
            set("--prepend", variable, &joined(&paths))?;
        }
    }
    let libraries = library_folders(&root).map_err(wrong)?;
    if !libraries.is_empty() {
        set("--prepend", "LD_LIBRARY_PATH", &joined(&libraries))?;
    }
    // Debian's modules come after those that the app installs itself.
    if let [modules, ..] = &existing(&root, &["usr/lib/python3/dist-packages"])[..] {
        set("--append", "PYTHONPATH", &modules.display().to_string())?;
    }
    for (variable, patterns) in DEFAULTS {
        if let [first, ..] = &existing(&root, patterns)[..] {
            set("--default", variable, &first.display().to_string())?;
        }
    }
    Ok(String::new())
}

fn joined(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
}

fn architecture() -> String {
    format!("{}-linux-gnu", env::consts::ARCH)
}

/// The paths below the root that exist, each once.
fn existing(root: &Path, patterns: &[&str]) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    let same = |a: &Path, b: &Path| fs::canonicalize(a).ok() == fs::canonicalize(b).ok();
    for pattern in patterns {
        let pattern = pattern.replace("{lib}", "usr/lib/{arch}").replace("{arch}", &architecture());
        for path in expanded(root, &pattern) {
            if !found.iter().any(|other| same(other, &path)) {
                found.push(path);
            }
        }
    }
    found
}

/// Expands `*` in the parts of a path.
fn expanded(root: &Path, pattern: &str) -> Vec<PathBuf> {
    let mut paths = vec![root.to_owned()];
    for part in pattern.split('/') {
        paths = match part.split_once('*') {
            None => paths.into_iter().map(|path| path.join(part)).filter(|path| path.exists()).collect(),
            Some((begin, end)) => {
                let fits = |name: &String| {
                    name.len() >= begin.len() + end.len() && name.starts_with(begin) && name.ends_with(end)
                };
                let below = |path: PathBuf| {
                    let mut names = files::names(&path).unwrap_or_default();
                    names.retain(fits);
                    names.sort();
                    names.into_iter().map(move |name| path.join(name))
                };
                paths.into_iter().flat_map(below).collect()
            }
        };
    }
    paths
}

/// Folders with libraries: the usual ones, those of the run paths of programs and libraries, and those that ldconfig is told.
fn library_folders(root: &Path) -> Result<Vec<PathBuf>, String> {
    let mut linked = Linked::default();
    linked.add(&root.join("usr"));
    let mut private: Vec<String> = elf::dynamic(&linked.files)?.run_paths.into_iter().collect();
    for file in expanded(root, "etc/ld.so.conf.d/*.conf") {
        private.extend(files::read_text(&file)?.unwrap_or_default().lines().map(|line| line.trim().to_owned()));
    }
    private.sort();
    let private = private.iter().filter_map(|path| path.strip_prefix('/')).map(|path| path.trim_end_matches('/'));
    let patterns: Vec<&str> =
        ["{lib}", "usr/lib"].into_iter().chain(private.filter(|path| path.starts_with("usr/"))).collect();
    Ok(existing(root, &patterns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn search_paths_are_set_for_what_was_unpacked() {
        let dir = tempfile::tempdir().unwrap();
        let (layers, root) = (dir.path(), dir.path().join("perl"));
        let lib = format!("usr/lib/{}", architecture());
        for folder in
            ["usr/bin", "usr/share/perl5", "usr/share/perl/5.40.1", "etc/ld.so.conf.d", "usr/include", "etc/fonts"]
        {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        for folder in ["perl5/5.40", "private"] {
            fs::create_dir_all(root.join(&lib).join(folder)).unwrap();
        }
        std::os::unix::fs::symlink("5.40.1", root.join("usr/share/perl/5.40")).unwrap();
        fs::write(root.join("etc/ld.so.conf.d/x.conf"), format!("# x\n/{lib}/private/\n/usr/lib/missing\n")).unwrap();

        apt_env(layers, "perl", &["--launch"]).unwrap();
        let read =
            |file: &str| fs::read_to_string(root.join(file)).map(|text| text.replace(root.to_str().unwrap(), "R"));
        assert_eq!(read("env.launch/PATH.prepend").unwrap(), "R/usr/bin");
        assert_eq!(
            read("env.launch/PERL5LIB.prepend").unwrap(),
            format!("R/usr/share/perl5:R/{lib}/perl5/5.40:R/usr/share/perl/5.40")
        );
        assert_eq!(read("env.launch/LD_LIBRARY_PATH.prepend").unwrap(), format!("R/{lib}:R/usr/lib:R/{lib}/private"));
        assert_eq!(read("env.launch/XDG_DATA_DIRS.prepend").unwrap(), "R/usr/share:/usr/local/share:/usr/share");
        assert_eq!(read("env.launch/FONTCONFIG_PATH.default").unwrap(), "R/etc/fonts");
        assert!(read("env.launch/C_INCLUDE_PATH.prepend").is_err(), "only builds compile");

        apt_env(layers, "perl", &["--build"]).unwrap();
        assert_eq!(read("env.build/C_INCLUDE_PATH.prepend").unwrap(), "R/usr/include");
        assert!(apt_env(layers, "perl", &[]).is_err() && apt_env(layers, "perl", &["--run"]).is_err());
    }
}
