//! Environment of builds and processes (buildpack.md, "Environment"): what layers contribute.

use std::{collections::BTreeMap, io, path::Path};

use super::files;

/// Variables by name.
pub(super) type Env = BTreeMap<String, String>;

/// Whose environment it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Moment<'a> {
    Build,
    Launch(&'a str),
}

/// Adds what a layer contributes: its folders to search paths, then its environment files.
pub(super) fn add_layer(env: &mut Env, layer: &Path, moment: Moment<'_>) -> io::Result<()> {
    let paths: &[(&str, &str)] = match moment {
        Moment::Build => &[
            ("bin", "PATH"),
            ("lib", "LD_LIBRARY_PATH"),
            ("lib", "LIBRARY_PATH"),
            ("include", "CPATH"),
            ("pkgconfig", "PKG_CONFIG_PATH"),
        ],
        Moment::Launch(_) => &[("bin", "PATH"), ("lib", "LD_LIBRARY_PATH")],
    };
    for (folder, variable) in paths {
        let folder = layer.join(folder);
        if folder.is_dir() {
            let value = folder.display().to_string();
            prepend(env, variable, &value, ":");
        }
    }
    add_files(env, &layer.join("env"))?;
    match moment {
        Moment::Build => add_files(env, &layer.join("env.build")),
        Moment::Launch(process_type) => {
            add_files(env, &layer.join("env.launch"))?;
            add_files(env, &layer.join("env.launch").join(process_type))
        }
    }
}

/// The files of an `env` folder; the suffix says what each does.
fn add_files(env: &mut Env, folder: &Path) -> io::Result<()> {
    for name in files::names(folder)? {
        let path = folder.join(&name);
        if path.is_dir() {
            continue;
        }
        let Some(value) = files::read_text(&path).map_err(io::Error::other)? else { continue };
        let (variable, suffix) = name.split_once('.').unwrap_or((&name, ""));
        if variable.is_empty() || variable.contains('=') || value.contains('\0') {
            continue;
        }
        let delimiter = files::read_text(&folder.join(format!("{variable}.delim"))).map_err(io::Error::other)?;
        let delimiter = delimiter.unwrap_or_default();
        match suffix {
            "" | "override" => drop(env.insert(variable.to_owned(), value)),
            "default" => drop(env.entry(variable.to_owned()).or_insert(value)),
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

fn prepend(env: &mut Env, variable: &str, value: &str, delimiter: &str) {
    match env.get_mut(variable) {
        Some(old) if !old.is_empty() => *old = format!("{value}{delimiter}{old}"),
        _ => drop(env.insert(variable.to_owned(), value.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_do_what_the_specification_says() {
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
        add_layer(&mut env, dir.path(), Moment::Launch("web")).unwrap();
        let bin = dir.path().join("bin").display().to_string();
        assert_eq!(env["A"], "over");
        assert_eq!(env["B"], "old-end");
        assert_eq!(env["C"], "startold");
        assert_eq!(env["D"], "old");
        assert_eq!(env["E"], "yes");
        assert_eq!(env["F"], "launch");
        assert_eq!(env["G"], "web");
        assert_eq!(env["PATH"], format!("{bin}:old"));
        add_layer(&mut env, dir.path(), Moment::Build).unwrap();
        assert_eq!(env["F"], "build");
    }
}
