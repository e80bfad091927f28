//! The buildpacks on this machine, and the order in which they are tried (`order.toml`, as in the distribution
//! specification of Cloud Native Buildpacks).

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::Digest as _;

use crate::{
    lifecycle::protocol::{GroupEntry, Place},
    model::Digest,
};

/// Why the buildpacks cannot be used: the operator's, not the user's.
#[derive(Debug, thiserror::Error)]
pub enum BuildpacksError {
    /// A file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    CannotRead {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}: {message}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

/// A buildpack's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpack {
    /// Its id, such as `paas/nodejs`.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Its folder on the host.
    pub folder: PathBuf,
}

impl Buildpack {
    /// Where the platform specification puts it in a build image.
    pub fn target(&self) -> String {
        format!("/cnb/buildpacks/{}/{}", self.id.replace('/', "_"), self.version)
    }
}

/// Buildpacks and their order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpacks {
    /// Those that there are.
    pub all: Vec<Buildpack>,
    /// Groups, tried in this order.
    pub order: Vec<Vec<GroupEntry>>,
    /// Of all their files.
    pub digest: Digest,
}

#[derive(Deserialize)]
struct Descriptor {
    buildpack: Identity,
}

#[derive(Deserialize)]
struct Identity {
    id: String,
    version: String,
}

#[derive(Deserialize)]
struct OrderFile {
    order: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    group: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    id: String,
    version: Option<String>,
    #[serde(default)]
    optional: bool,
}

impl Buildpacks {
    /// Reads the folders with a `buildpack.toml` in `folder`, and `order.toml` beside them. Blocks.
    pub fn read(folder: &Path) -> Result<Self, BuildpacksError> {
        let cannot_read = |path: &Path| {
            let path = path.to_owned();
            move |source| BuildpacksError::CannotRead { path, source }
        };
        let mut all = Vec::new();
        for entry in fs::read_dir(folder).map_err(cannot_read(folder))? {
            let path = entry.map_err(cannot_read(folder))?.path();
            let descriptor = path.join("buildpack.toml");
            if descriptor.is_file() {
                let text = fs::read_to_string(&descriptor).map_err(cannot_read(&descriptor))?;
                let Descriptor { buildpack } = parse(&descriptor, &text)?;
                check(&descriptor, &buildpack)?;
                // Docker wants absolute paths.
                let path = fs::canonicalize(&path).map_err(cannot_read(&path))?;
                all.push(Buildpack { id: buildpack.id, version: buildpack.version, folder: path });
            }
        }
        all.sort_by(|a, b| (&a.id, &a.version).cmp(&(&b.id, &b.version)));
        let path = folder.join("order.toml");
        let text = fs::read_to_string(&path).map_err(cannot_read(&path))?;
        let file: OrderFile = parse(&path, &text)?;
        let order = file.order.into_iter().map(|group| {
            group.group.into_iter().map(|entry| resolve(&path, entry, &all)).collect::<Result<Vec<_>, _>>()
        });
        let order = order.collect::<Result<Vec<_>, _>>()?;
        let mut sum = sha2::Sha256::new();
        sum.update(&text);
        for buildpack in &all {
            digest_of(&buildpack.folder, &mut sum)?;
        }
        Ok(Self { all, order, digest: Digest::from_sha256(&sum.finalize().into()) })
    }
}

/// The static binary that runs in build containers, as Docker must be told of it, and its digest. Blocks.
pub fn lifecycle(path: &Path) -> Result<(PathBuf, Digest), BuildpacksError> {
    let cannot_read = |source| BuildpacksError::CannotRead { path: path.to_owned(), source };
    let real = fs::canonicalize(path).map_err(cannot_read)?;
    let bytes = fs::read(&real).map_err(cannot_read)?;
    Ok((real, Digest::of(&bytes)))
}

/// Names, modes and contents of all that is in a folder, in a fixed order.
fn digest_of(folder: &Path, sum: &mut sha2::Sha256) -> Result<(), BuildpacksError> {
    let cannot_read = |source| BuildpacksError::CannotRead { path: folder.to_owned(), source };
    let entries = fs::read_dir(folder).map_err(cannot_read)?;
    let mut paths =
        entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, io::Error>>().map_err(cannot_read)?;
    paths.sort();
    for path in paths {
        let cannot_read = |source| BuildpacksError::CannotRead { path: path.clone(), source };
        let metadata = fs::symlink_metadata(&path).map_err(cannot_read)?;
        sum.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        sum.update([0]);
        sum.update(metadata.permissions().mode().to_be_bytes());
        if metadata.is_dir() {
            digest_of(&path, sum)?;
        } else if metadata.is_symlink() {
            sum.update(fs::read_link(&path).map_err(cannot_read)?.as_os_str().as_encoded_bytes());
        } else {
            sum.update(metadata.len().to_be_bytes());
            sum.update(fs::read(&path).map_err(cannot_read)?);
        }
    }
    Ok(())
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, BuildpacksError> {
    toml::from_str(text).map_err(|e| BuildpacksError::Invalid {
        path: path.to_owned(),
        message: e.message().split_whitespace().collect::<Vec<_>>().join(" "),
    })
}

/// Id and version become part of a path.
fn check(path: &Path, buildpack: &Identity) -> Result<(), BuildpacksError> {
    let plain = |text: &str, also: &[u8]| {
        !text.is_empty()
            && !text.contains("..")
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._+-".contains(&b) || also.contains(&b))
    };
    if plain(&buildpack.id, b"/") && plain(&buildpack.version, b"") {
        return Ok(());
    }
    let message = format!("id {:?} or version {:?} is not allowed", buildpack.id, buildpack.version);
    Err(BuildpacksError::Invalid { path: path.to_owned(), message })
}

fn resolve(path: &Path, entry: Entry, all: &[Buildpack]) -> Result<GroupEntry, BuildpacksError> {
    let mut fitting = all.iter().filter(|b| b.id == entry.id && entry.version.as_ref().is_none_or(|v| *v == b.version));
    let invalid = |message| Err(BuildpacksError::Invalid { path: path.to_owned(), message });
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(GroupEntry {
            id: entry.id,
            version: only.version.clone(),
            optional: entry.optional,
            place: Place::Installed,
        }),
        (Some(_), Some(_)) => invalid(format!("there are several versions of {}: name one", entry.id)),
        (None, _) => invalid(format!("there is no buildpack {} {}", entry.id, entry.version.unwrap_or_default())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn buildpacks(order: &str) -> Result<Buildpacks, String> {
        let dir = tempfile::tempdir().unwrap();
        for (name, version) in [("a", "1.0"), ("b", "2.0")] {
            fs::create_dir(dir.path().join(name)).unwrap();
            let text = format!("api = \"0.12\"\n[buildpack]\nid = \"paas/{name}\"\nversion = \"{version}\"\n");
            fs::write(dir.path().join(name).join("buildpack.toml"), text).unwrap();
        }
        fs::create_dir(dir.path().join("no-buildpack")).unwrap();
        fs::write(dir.path().join("order.toml"), order).unwrap();
        Buildpacks::read(dir.path()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_order_is_resolved() {
        let order = "[[order]]\n[[order.group]]\nid = \"paas/b\"\nversion = \"2.0\"\n\
                     [[order.group]]\nid = \"paas/a\"\noptional = true\n";
        let read = buildpacks(order).unwrap();
        let entry = |id: &str, version: &str, optional| GroupEntry {
            id: id.into(),
            version: version.into(),
            optional,
            place: Place::Installed,
        };
        assert_eq!(read.order, [[entry("paas/b", "2.0", false), entry("paas/a", "1.0", true)]]);
        assert_eq!(read.all[0].target(), "/cnb/buildpacks/paas_a/1.0");
    }

    #[test]
    fn a_wrong_order_is_named() {
        let error = buildpacks("[[order]]\n[[order.group]]\nid = \"paas/c\"\n").unwrap_err();
        assert!(error.contains("order.toml: there is no buildpack paas/c"), "{error}");
        assert!(buildpacks("x = 1").unwrap_err().contains("order.toml: "));
        let bad = Identity { id: "paas/../x".into(), version: "1".into() };
        assert!(check(Path::new("x"), &bad).is_err());
    }
}
