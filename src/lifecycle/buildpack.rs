//! Buildpacks on disk: installed, or made out of a script.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, path::PathBuf};

use super::{
    descriptor::{self, Descriptor},
    dirs::{Dirs, escaped},
    files,
    protocol::{GroupEntry, Place},
};

/// A buildpack that takes part in detection.
#[derive(Debug, Clone)]
pub(super) struct Buildpack {
    pub(super) about: Descriptor,
    pub(super) dir: PathBuf,
}

/// Version of a buildpack of which exactly one is installed.
pub(super) fn only_version(dirs: &Dirs, id: &str) -> Result<String, String> {
    descriptor::check_id(id)?;
    let mut versions = files::names(&dirs.versions_of(id)).map_err(|e| e.to_string())?;
    match (versions.pop(), versions.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(format!("there are several versions of the buildpack {id}: name one")),
        (None, _) => Err(format!("the buildpack {id} is not installed")),
    }
}

impl Buildpack {
    pub(super) fn load(dirs: &Dirs, entry: &GroupEntry) -> Result<Self, String> {
        descriptor::check_id(&entry.id)?;
        descriptor::check_version(&entry.version)?;
        let own = dirs.tmp.join("buildpacks").join(escaped(&entry.id)).join(&entry.version);
        let failed = |e: io::Error| format!("cannot make the buildpack {}: {e}", entry.id);
        let dir = match &entry.place {
            Place::Installed => dirs.versions_of(&entry.id).join(&entry.version),
            Place::Inline { api, shell, script } if !own.exists() => {
                write_inline(&own, entry, api, shell, script).map_err(failed)?;
                own
            }
            Place::Inline { .. } => own,
        };
        let file = dir.join("buildpack.toml");
        let text = files::read_text(&file)?;
        let text = text.ok_or_else(|| format!("the buildpack {}@{} is not installed", entry.id, entry.version))?;
        let about = Descriptor::parse(&text).map_err(|e| format!("{}, {e}", file.display()))?;
        if about.id != entry.id {
            return Err(format!("{}: buildpack.id is {:?}, not {:?}", file.display(), about.id, entry.id));
        }
        Ok(Self { about, dir })
    }

    pub(super) fn name(&self) -> String {
        self.about.full_name()
    }
}

/// Makes a buildpack out of a script; its detection always passes.
fn write_inline(dir: &Path, entry: &GroupEntry, api: &str, shell: &str, script: &str) -> io::Result<()> {
    let toml = toml::toml! {
        api = api
        [buildpack]
        id = (entry.id.as_str())
        version = (entry.version.as_str())
    };
    fs::create_dir_all(dir.join("bin"))?;
    fs::write(dir.join("buildpack.toml"), toml.to_string())?;
    let (detect, build) = ("#!/bin/sh\nexit 0\n".to_owned(), format!("#!{shell}\n\n{script}\n"));
    for (name, text) in [("detect", detect), ("build", build)] {
        let path = dir.join("bin").join(name);
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}
