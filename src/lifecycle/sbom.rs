//! Software bills of materials (buildpack.md, "Software-Bill-of-Materials"): files that buildpacks put beside their layers.
//! They become a layer of their own in the image.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    path::{Component, Path, PathBuf},
};

use super::{
    contributions::Contributions,
    detector::Detected,
    dirs::{Dirs, escaped},
    files,
};

/// Extensions of the media types that the specification names.
const EXTENSIONS: [&str; 3] = ["cdx.json", "spdx.json", "syft.json"];

/// A bill of materials in a buildpack's folder of layers.
struct Sbom {
    file_name: String,
    layer: String,
    extension: String,
}

/// Splits the name of a bill of materials into layer and extension.
fn split_name(name: &str) -> Option<(&str, &str)> {
    let (layer, extension) = name.split_once(".sbom.")?;
    EXTENSIONS.contains(&extension).then_some((layer, extension))
}

fn list(layers: &Path) -> io::Result<Vec<Sbom>> {
    let sbom = |file_name: String| {
        let (layer, extension) = split_name(&file_name)?;
        let (layer, extension) = (layer.to_owned(), extension.to_owned());
        Some(Sbom { file_name, layer, extension })
    };
    Ok(files::names(layers)?.into_iter().filter_map(sbom).collect())
}

/// Whether the path itself is a regular file, not a link to one.
fn is_file(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Refuses what has the name of a bill of materials and is no file, or has an unknown extension.
pub(super) fn check(layers: &Path) -> Result<(), String> {
    for name in files::names(layers).map_err(|e| format!("cannot read {}: {e}", layers.display()))? {
        if !name.contains(".sbom.") {
            continue;
        }
        let path = layers.join(&name);
        if split_name(&name).is_none() {
            let allowed = EXTENSIONS.join(", ");
            return Err(format!("{}: a bill of materials ends in one of {allowed}", path.display()));
        }
        if !is_file(&path) {
            return Err(format!("{}: a bill of materials is a regular file, and not a link", path.display()));
        }
    }
    Ok(())
}

/// Bills of materials that belong in the image: path of each now, and path in the image.
pub(super) fn for_launch(
    dirs: &Dirs,
    detected: &Detected,
    contributions: &Contributions,
) -> io::Result<Vec<(PathBuf, PathBuf)>> {
    let mut found = Vec::new();
    for (index, buildpack) in detected.group.iter().enumerate() {
        let layers = dirs.layers_of(&buildpack.about.id);
        for sbom in list(&layers)?.into_iter().filter(|sbom| is_file(&layers.join(&sbom.file_name))) {
            let is_launched = contributions
                .layers
                .iter()
                .any(|layer| layer.buildpack == index && layer.name == sbom.layer && layer.toml.types.launch);
            let target = dirs.layers.join("sbom/launch").join(escaped(&buildpack.about.id));
            let file = format!("sbom.{}", sbom.extension);
            if sbom.layer == "launch" {
                found.push((layers.join(sbom.file_name), target.join(file)));
            } else if is_launched {
                found.push((layers.join(sbom.file_name), target.join(sbom.layer).join(file)));
            }
        }
    }
    Ok(found)
}

/// Copies the bills of materials of these layers from one folder to another: to the cache after a build, and back before the
/// next.
pub(super) fn copy(from: &Path, to: &Path, is_wanted: impl Fn(&str) -> bool) -> io::Result<()> {
    for Sbom { file_name, layer, .. } in list(from)? {
        if files::is_layer_name(&layer) && is_wanted(&layer) && is_file(&from.join(&file_name)) {
            fs::create_dir_all(to)?;
            fs::copy(from.join(&file_name), to.join(file_name))?;
        }
    }
    Ok(())
}

/// Restores bills of materials from the layer of the previous image that has them. `wanted` has the folders to restore to, by
/// names of the buildpack's folder and of the layer.
pub(super) fn restore(image_layer: File, wanted: &BTreeMap<(String, String), PathBuf>) -> io::Result<()> {
    for entry in tar::Archive::new(image_layer).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        let names: Option<Vec<&str>> = path
            .components()
            .filter(|part| *part != Component::RootDir)
            .map(|part| if let Component::Normal(name) = part { name.to_str() } else { None })
            .collect();
        let Some([.., "sbom", "launch", buildpack, layer, file]) = names.as_deref() else { continue };
        let Some(folder) = wanted.get(&((*buildpack).to_owned(), (*layer).to_owned())) else { continue };
        let name = format!("{layer}.{file}");
        if entry.header().entry_type().is_file() && split_name(&name).is_some_and(|(split, _)| split == *layer) {
            io::copy(&mut entry, &mut File::create(folder.join(name))?)?;
        }
    }
    Ok(())
}
