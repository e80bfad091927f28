//! The skeleton of a new buildpack: it works, and is short enough to be read before it is changed.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use super::error::{LocalError, Result};
use crate::lifecycle::descriptor;

const FILES: [(&str, &str); 6] = [
    ("buildpack.toml", include_str!("scaffold/buildpack.toml.in")),
    ("bin/detect", include_str!("scaffold/detect.in")),
    ("bin/build", include_str!("scaffold/build.in")),
    ("README.md", include_str!("scaffold/README.md.in")),
    ("example/hello.txt", "Hello from a buildpack\n"),
    ("example/.gitignore", "site/\n"),
];

/// Writes the skeleton to `folder`, which must not exist. `id` is the buildpack's, for example `acme/elixir`.
pub fn new_buildpack(id: &str, folder: &Path) -> Result<()> {
    descriptor::check_id(id).map_err(LocalError::Wrong)?;
    if folder.exists() {
        return Err(LocalError::Wrong(format!(
            "{} already exists; choose another folder with --dir",
            folder.display()
        )));
    }
    let name = id.rsplit('/').next().unwrap_or(id);
    for (file, text) in FILES {
        let path = folder.join(file);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(LocalError::file("make", parent))?;
        }
        fs::write(&path, text.replace("@ID@", id).replace("@NAME@", name)).map_err(LocalError::file("write", &path))?;
        if file.starts_with("bin/") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(LocalError::file("write", &path))?;
        }
    }
    Ok(())
}
