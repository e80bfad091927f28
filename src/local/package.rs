//! Packaging a buildpack for others: with the helper inside, as a folder, or as one file that is also an image
//! (distribution.md, "Buildpackage"; besides the OCI layout it contains the manifest that `docker load` reads).

use std::{
    collections::{BTreeMap, HashSet},
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::error::{LocalError, Result};
use crate::{
    build::{Buildpack, LocalParts, Package, Packages, local_parts},
    lifecycle::descriptor::{Descriptor, Group, Reference},
    model::{BuildpackSource, Digest},
};

/// Modification time of every file.
const MTIME: u64 = 315_532_801;

/// Packages the buildpack in `folder`, together with those that its `package.toml` and `others` name. `output` is a `.cnb` file, or
/// else a new folder. `helper` is the static binary that scripts call as `bp`.
pub fn package(folder: &Path, others: &[PathBuf], helper: &Path, output: &Path) -> Result<Package> {
    if output.exists() {
        return Err(LocalError::Wrong(format!(
            "{} already exists; remove it, or choose another name",
            output.display()
        )));
    }
    if output.extension().is_some_and(|extension| extension == "tgz" || extension == "gz" || extension == "zip") {
        let text = format!(
            "{} is not a format for packages: give a name that ends in .cnb, or a new folder",
            output.display()
        );
        return Err(LocalError::Wrong(text));
    }
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let work = tempfile::tempdir_in(parent).map_err(LocalError::file("make a folder in", parent))?;
    // The output may be in the buildpack's own folder.
    let excluded = fs::canonicalize(work.path()).map_err(LocalError::file("find", work.path()))?;
    let packages = Packages::open(work.path().join("packages"))?;
    let staged = packages.staging()?;
    let named = local_parts(folder)?;
    // Those of `others` come first: of two with one name, theirs is packaged.
    let mut seen = HashSet::new();
    let name_of = |part: &Path| Descriptor::read(&part.join("buildpack.toml")).map(|about| about.full_name());
    let is_new = |part: &&PathBuf| name_of(part).map_or(true, |name| seen.insert(name));
    let parts: Vec<_> = others.iter().chain(&named.folders).filter(is_new).collect();
    for (index, folder) in std::iter::once(folder).chain(parts.into_iter().map(PathBuf::as_path)).enumerate() {
        let target = staged.path().join(index.to_string());
        copy(folder, &target, &excluded)?;
        add_helper(&target, helper)?;
    }
    let package = packages.adopt(staged.path())?;
    let root = package.root()?;
    check_complete(&package, &named)?;
    if output.extension().is_some_and(|extension| extension == "cnb") {
        let file = work.path().join("image");
        write_image(&package, root, &file)?;
        fs::rename(&file, output).map_err(LocalError::file("make", output))?;
    } else if package.all.len() == 1 {
        fs::rename(&root.folder, output).map_err(LocalError::file("make", output))?;
    } else {
        let text = "a composite buildpack becomes a .cnb file: give the output a name that ends in .cnb".to_owned();
        return Err(LocalError::Wrong(text));
    }
    Ok(package)
}

/// Refuses a composite buildpack that names one that is neither in the package nor to be installed where it is used.
fn check_complete(package: &Package, named: &LocalParts) -> Result<()> {
    let references = |b: &Buildpack| b.about.order.iter().flat_map(|group| group.group.clone()).collect::<Vec<_>>();
    for (buildpack, reference) in package.all.iter().flat_map(|b| references(b).into_iter().map(move |r| (b, r))) {
        let fits = |version: &str| reference.version.as_ref().is_none_or(|wanted| wanted == version);
        let is_packaged = package.all.iter().any(|b| b.about.id == reference.id && fits(&b.about.version));
        let is_installed = named.installed.iter().any(|source| {
            matches!(source, BuildpackSource::Name { id, version } if *id == reference.id && version.as_deref().is_none_or(fits))
        });
        if !is_packaged && !is_installed {
            let version = reference.version.as_ref().map_or_else(String::new, |version| format!("@{version}"));
            let other = named
                .others
                .first()
                .map_or_else(String::new, |other| format!(" (package.toml names {other}, which is no folder)"));
            let text = format!(
                "{} names {id}{version}, which is not packaged with it{other}: give its folder with --with or in package.toml, or name it \
                 there as urn:cnb:registry:{id}{version} if it is installed where the package is used",
                buildpack.about.full_name(),
                id = reference.id,
            );
            return Err(LocalError::Wrong(text));
        }
    }
    Ok(())
}

/// Copies the helper beside the scripts that call it, unless there is a file of that name.
fn add_helper(folder: &Path, helper: &Path) -> Result<()> {
    let target = folder.join("bin/bp");
    let is_called = ["detect", "build"].iter().any(|name| {
        let text = fs::read_to_string(folder.join("bin").join(name)).unwrap_or_default();
        text.lines().any(|line| {
            line.split_whitespace().any(|word| word == "bp" || word.ends_with("$(bp") || word.ends_with("`bp"))
        })
    });
    if is_called && !target.exists() {
        fs::copy(helper, &target).map_err(LocalError::file("copy", helper))?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(LocalError::file("write", &target))?;
    }
    Ok(())
}

/// Copies a folder, except `.git` folders and the folder `excluded`.
fn copy(from: &Path, to: &Path, excluded: &Path) -> Result<()> {
    fs::create_dir_all(to).map_err(LocalError::file("make", to))?;
    for entry in fs::read_dir(from).map_err(LocalError::file("read", from))? {
        let entry = entry.map_err(LocalError::file("read", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(LocalError::file("read", &source))?;
        if kind.is_dir() {
            let is_excluded = fs::canonicalize(&source).is_ok_and(|path| path == excluded);
            if entry.file_name() != ".git" && !is_excluded {
                copy(&source, &target, excluded)?;
            }
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).map_err(LocalError::file("read", &source))?;
            std::os::unix::fs::symlink(link, &target).map_err(LocalError::file("write", &target))?;
        } else {
            fs::copy(&source, &target).map_err(LocalError::file("copy", &source))?;
        }
    }
    Ok(())
}

fn header(kind: tar::EntryType, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_size(size);
    header.set_mtime(MTIME);
    header
}

/// The layer of one buildpack.
fn layer(buildpack: &Buildpack) -> Result<Vec<u8>> {
    let mut tar = tar::Builder::new(Vec::new());
    let target = buildpack.target();
    let target = Path::new(target.trim_start_matches('/'));
    let mut ancestors: Vec<_> = target.ancestors().filter(|path| path.file_name().is_some()).collect();
    ancestors.reverse();
    let add = || -> io::Result<()> {
        for folder in ancestors {
            tar.append_data(&mut header(tar::EntryType::Directory, 0o755, 0), folder, io::empty())?;
        }
        let mut paths = Vec::new();
        list(&buildpack.folder, &mut paths)?;
        paths.sort();
        for path in paths {
            let name = target.join(path.strip_prefix(&buildpack.folder).unwrap_or(&path));
            let metadata = fs::symlink_metadata(&path)?;
            let mode = if metadata.is_dir() || metadata.permissions().mode() & 0o100 != 0 { 0o755 } else { 0o644 };
            if metadata.is_dir() {
                tar.append_data(&mut header(tar::EntryType::Directory, mode, 0), name, io::empty())?;
            } else if metadata.is_symlink() {
                tar.append_link(&mut header(tar::EntryType::Symlink, 0o777, 0), name, fs::read_link(&path)?)?;
            } else {
                let bytes = fs::read(&path)?;
                tar.append_data(&mut header(tar::EntryType::Regular, mode, bytes.len() as u64), name, &bytes[..])?;
            }
        }
        Ok(())
    };
    add().map_err(LocalError::file("package", &buildpack.folder))?;
    tar.into_inner().map_err(LocalError::file("package", &buildpack.folder))
}

/// Lists everything below a folder.
fn list(folder: &Path, paths: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), paths)?;
        }
        paths.push(entry.path());
    }
    Ok(())
}

fn order_row(group: &Group) -> serde_json::Value {
    let entry = |Reference { id, version, optional, .. }: &Reference| {
        let mut entry = json!({ "id": id, "optional": optional });
        if let Some(version) = version {
            entry["version"] = json!(version);
        }
        entry
    };
    json!({ "group": group.group.iter().map(entry).collect::<Vec<_>>() })
}

/// An OCI layout, and a manifest for `docker load`, in one tar.
fn write_image(package: &Package, root: &Buildpack, path: &Path) -> Result<()> {
    let mut blobs: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut put = |bytes: Vec<u8>| {
        let (digest, size) = (Digest::of(&bytes), bytes.len());
        blobs.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        (digest, size)
    };
    let mut layers = Vec::new();
    let mut by_id: BTreeMap<&str, BTreeMap<&str, serde_json::Value>> = BTreeMap::new();
    for buildpack in &package.all {
        let (digest, size) = put(layer(buildpack)?);
        let about = &buildpack.about;
        let mut row = json!({
            "api": about.api.to_string(), "layerDiffID": digest, "name": about.name, "homepage": about.homepage,
        });
        // Other platforms read from it which buildpacks a composite one names.
        if !about.order.is_empty() {
            row["order"] = about.order.iter().map(order_row).collect();
        }
        by_id.entry(&about.id).or_default().insert(&about.version, row);
        layers.push((digest, size));
    }
    let target = root.about.targets.first().cloned().unwrap_or_default();
    let or_default = |text: String, default: &str| if text.is_empty() { default.to_owned() } else { text };
    let metadata = json!({
        "id": root.about.id, "version": root.about.version, "homepage": root.about.homepage, "name": root.about.name,
        "stacks": [{ "id": "*" }],
    });
    let config = json!({
        "created": "1980-01-01T00:00:01Z",
        "architecture": or_default(target.arch, "amd64"), "os": or_default(target.os, "linux"),
        "config": { "Labels": {
            "io.buildpacks.buildpackage.metadata": metadata.to_string(),
            "io.buildpacks.buildpack.layers": json!(by_id).to_string(),
        } },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|(digest, _)| digest).collect::<Vec<_>>() },
    });
    let (config, config_size) = put(config.to_string().into_bytes());
    let media = |kind: &str| format!("application/vnd.oci.image.{kind}");
    let rows = layers
        .iter()
        .map(|(digest, size)| json!({ "mediaType": media("layer.v1.tar"), "digest": digest, "size": size }));
    let manifest = json!({
        "schemaVersion": 2, "mediaType": media("manifest.v1+json"),
        "config": { "mediaType": media("config.v1+json"), "digest": config, "size": config_size },
        "layers": rows.collect::<Vec<_>>(),
    });
    let (manifest, manifest_size) = put(manifest.to_string().into_bytes());
    let index = json!({
        "schemaVersion": 2, "mediaType": media("index.v1+json"),
        "manifests": [{ "mediaType": media("manifest.v1+json"), "digest": manifest, "size": manifest_size }],
    });
    let name = format!("{}:{}", root.about.id.to_lowercase().replace('/', "-"), root.about.version);
    let load = json!([{
        "Config": format!("blobs/sha256/{}", config.hex()), "RepoTags": [name],
        "Layers": layers.iter().map(|(digest, _)| format!("blobs/sha256/{}", digest.hex())).collect::<Vec<_>>(),
    }]);
    for (name, text) in
        [("oci-layout", json!({ "imageLayoutVersion": "1.0.0" })), ("index.json", index), ("manifest.json", load)]
    {
        blobs.insert(name.to_owned(), text.to_string().into_bytes());
    }
    let mut tar = tar::Builder::new(File::create(path).map_err(LocalError::file("make", path))?);
    for (name, bytes) in blobs {
        let mut header = header(tar::EntryType::Regular, 0o644, bytes.len() as u64);
        tar.append_data(&mut header, name, &bytes[..]).map_err(LocalError::file("write", path))?;
    }
    let mut file = tar.into_inner().map_err(LocalError::file("write", path))?;
    file.flush().and_then(|()| file.sync_all()).map_err(LocalError::file("write", path))
}
