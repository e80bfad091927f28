//! What layers contribute to the environment of builds and processes (buildpack.md, "Environment").

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use super::files;

/// Variables by name.
pub(super) type Env = BTreeMap<String, String>;

/// What the environment is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment<'a> {
    Build,
    /// A process of this type, or one without a type.
    Launch(&'a str),
}

/// Folders of a layer with the search paths that they are added to, at build time and at launch.
const BUILD_PATHS: [(&str, &str); 5] = [
    ("bin", "PATH"),
    ("lib", "LD_LIBRARY_PATH"),
    ("lib", "LIBRARY_PATH"),
    ("include", "CPATH"),
    ("pkgconfig", "PKG_CONFIG_PATH"),
];
const LAUNCH_PATHS: [(&str, &str); 2] = [("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")];

/// Whether the user's value of a variable is prepended instead of overriding it.
pub(super) fn is_search_path(variable: &str) -> bool {
    BUILD_PATHS.iter().any(|(_, name)| *name == variable)
}

/// Adds what the layers of one buildpack contribute. At launch, all folders come before all environment files; at build
/// time, each layer's files follow its folders (as in the reference implementation). The error names the file.
pub(super) fn add_layers(env: &mut Env, layers: &[PathBuf], moment: Moment<'_>) -> Result<(), String> {
    match moment {
        Moment::Build => {
            for layer in layers {
                add_folders(env, layer, &BUILD_PATHS);
                add_files(env, &layer.join("env"))?;
                add_files(env, &layer.join("env.build"))?;
            }
        }
        Moment::Launch(process_type) => {
            for layer in layers {
                add_folders(env, layer, &LAUNCH_PATHS);
            }
            for layer in layers {
                add_files(env, &layer.join("env"))?;
                add_files(env, &layer.join("env.launch"))?;
                if !process_type.is_empty() {
                    add_files(env, &layer.join("env.launch").join(process_type))?;
                }
            }
        }
    }
    Ok(())
}

fn add_folders(env: &mut Env, layer: &Path, paths: &[(&str, &str)]) {
    for (folder, variable) in paths {
        let folder = layer.join(folder);
        if folder.is_dir() {
            prepend(env, variable, &folder.display().to_string(), ":");
        }
    }
}

/// Applies the files of an `env` folder; the suffix of a file is its action.
fn add_files(env: &mut Env, folder: &Path) -> Result<(), String> {
    for name in files::names(folder).map_err(|e| format!("cannot read {}: {e}", folder.display()))? {
        let path = folder.join(&name);
        if path.is_dir() {
            continue;
        }
        let Some(value) = files::read_text(&path)? else { continue };
        let (variable, suffix) = name.split_once('.').unwrap_or((&name, ""));
        if variable.is_empty() || variable.contains('=') || value.contains('\0') {
            continue;
        }
        let delimiter = files::read_text(&folder.join(format!("{variable}.delim")))?;
        let delimiter = delimiter.unwrap_or_default();
        match suffix {
            "" | "override" => drop(env.insert(variable.to_owned(), value)),
            "default" => {
                let old = env.entry(variable.to_owned()).or_default();
                if old.is_empty() {
                    *old = value;
                }
            }
            "append" => match env.get_mut(variable) {
                Some(old) if !old.is_empty() => *old = format!("{old}{delimiter}{value}"),
                _ => drop(env.insert(variable.to_owned(), value)),
            },
            "prepend" => prepend(env, variable, &value, &delimiter),
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn prepend(env: &mut Env, variable: &str, value: &str, delimiter: &str) {
    match env.get_mut(variable) {
        Some(old) if !old.is_empty() => *old = format!("{value}{delimiter}{old}"),
        _ => drop(env.insert(variable.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_follow_the_specification() {
        let dir = tempfile::tempdir().unwrap();
        for (name, value) in [
            ("env/A", "over"),
            ("env/B.append", "end"),
            ("env/B.delim", "-"),
            ("env/C.prepend", "start"),
            ("env/D.default", "no"),
            ("env/E.default", "yes"),
            ("env.build/F", "build"),
            ("env.launch/F", "launch"),
            ("env.launch/web/G", "web"),
            ("bin/x", ""),
        ] {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, value).unwrap();
        }
        let base = ["A", "B", "C", "D", "PATH"].map(|name| (name.to_owned(), "old".to_owned()));
        let mut env = Env::from(base);
        add_layers(&mut env, &[dir.path().to_owned()], Moment::Launch("web")).unwrap();
        let bin = dir.path().join("bin").display().to_string();
        assert_eq!(env["A"], "over");
        assert_eq!(env["B"], "old-end");
        assert_eq!(env["C"], "startold");
        assert_eq!(env["D"], "old");
        assert_eq!(env["E"], "yes");
        assert_eq!(env["F"], "launch");
        assert_eq!(env["G"], "web");
        assert_eq!(env["PATH"], format!("{bin}:old"));
        add_layers(&mut env, &[dir.path().to_owned()], Moment::Build).unwrap();
        assert_eq!(env["F"], "build");
    }
}
