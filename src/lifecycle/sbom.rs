//! Software bills of materials (buildpack.md, "Software-Bill-of-Materials"): files that buildpacks leave beside their
//! layers, which become a layer of their own in the image.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Dirs, builder::Outcome, buildpack::escaped, detector::Detected, files};

/// Extensions of the media types that the specification names.
const EXTENSIONS: [&str; 3] = ["cdx.json", "spdx.json", "syft.json"];

/// The layer's name and the extension of a file, if it is a bill of materials.
fn parts(name: &str) -> Option<(&str, &str)> {
    let (layer, extension) = name.split_once(".sbom.")?;
    EXTENSIONS.contains(&extension).then_some((layer, extension))
}

/// The bills of materials among a buildpack's layers: name of the file, layer, extension.
fn of(layers: &Path) -> io::Result<Vec<(String, String, String)>> {
    let names = files::names(layers)?.into_iter();
    Ok(names
        .filter_map(|name| parts(&name).map(|(l, e)| (l.to_owned(), e.to_owned())).map(|(l, e)| (name, l, e)))
        .collect())
}

/// Neither a link nor a pipe.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Refuses what is called a bill of materials and is none.
pub(super) fn check(layers: &Path) -> Result<(), String> {
    for name in files::names(layers).map_err(|e| format!("cannot read {}: {e}", layers.display()))? {
        if name.contains(".sbom.") && parts(&name).is_none() {
            let allowed = EXTENSIONS.join(", ");
            return Err(format!("{}: a bill of materials ends in one of {allowed}", layers.join(&name).display()));
        }
    }
    Ok(())
}

/// Where each bill of materials of the image is now, and where it belongs in it.
pub(super) fn for_launch(dirs: &Dirs, detected: &Detected, outcome: &Outcome) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for (index, buildpack) in detected.group.iter().enumerate() {
        let folder = escaped(&buildpack.about.id);
        let layers = dirs.layers.join(&folder);
        for (name, layer, extension) in of(&layers)?.into_iter().filter(|(name, ..)| is_file(&layers.join(name))) {
            let launched =
                outcome.layers.iter().any(|l| l.buildpack == index && l.name == layer && l.toml.types.launch);
            let place = dirs.layers.join("sbom/launch").join(&folder);
            let file = format!("sbom.{extension}");
            if layer == "launch" {
                found.push((layers.join(name), place.join(file)));
            } else if launched {
                found.push((layers.join(name), place.join(layer).join(file)));
            }
        }
    }
    Ok(found)
}

/// Copies those of layers from one folder to another: to the cache after a build, and back before the next.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    for (name, layer, _) in of(from)? {
        if files::is_layer_name(&layer) && is_file(&from.join(&name)) {
            fs::create_dir_all(to)?;
            fs::copy(from.join(&name), to.join(name))?;
        }
    }
    Ok(())
}
