//! Distribution and packages of an image, read from the tars of its layers without unpacking them.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    io::{self, Read as _},
    path::{Component, Path, PathBuf},
};

use super::{
    error::{ImageError, Result},
    store::ImageStore,
};
use crate::model::{Digest, Distribution};

/// Maximum size of a file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Files with the name and version of the distribution.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Database of installed packages of dpkg.
const DPKG: &str = "var/lib/dpkg/status";
/// Folder of such databases, one per package, in images without dpkg.
const DPKG_FOLDER: &str = "var/lib/dpkg/status.d";
/// Database of installed packages of apk.
const APK: [&str; 2] = ["lib/apk/db/installed", "usr/lib/apk/db/installed"];

fn is_wanted(path: &str) -> bool {
    OS_RELEASE.contains(&path)
        || path == DPKG
        || APK.contains(&path)
        || path.strip_prefix(DPKG_FOLDER).is_some_and(|rest| rest.starts_with('/') && !rest.ends_with(".md5sums"))
}

impl ImageStore {
    /// Database of installed packages of an image's dpkg; `None` if the image has no dpkg. Blocks.
    pub fn dpkg_status(&self, manifest: &Digest) -> Result<Option<Vec<u8>>> {
        Ok(self.files(manifest, &is_wanted)?.remove(DPKG))
    }

    /// Those files of an image whose paths are wanted. Blocks.
    pub(super) fn files(
        &self,
        manifest: &Digest,
        is_wanted: &dyn Fn(&str) -> bool,
    ) -> Result<BTreeMap<String, Vec<u8>>> {
        let mut files = BTreeMap::new();
        for layer in self.layers(manifest)? {
            let (file, _) = self.blobs().open_blob(&layer)?.ok_or_else(|| ImageError::Missing(layer.clone()))?;
            read_layer(file, &mut files, is_wanted).map_err(|source| ImageError::Layer { layer, source })?;
        }
        Ok(files)
    }

    /// Distribution of an image; fields that the image does not specify are empty. Blocks.
    pub fn distribution(&self, manifest: &Digest) -> Result<Distribution> {
        let files = self.files(manifest, &is_wanted)?;
        let text = |name: &str| files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let release = OS_RELEASE.iter().find_map(|name| text(name)).unwrap_or_default();
        let mut packages = InstalledPackages::default();
        for (name, bytes) in files.iter().filter(|(name, _)| *name == DPKG || name.starts_with(DPKG_FOLDER)) {
            packages.read_dpkg(&String::from_utf8_lossy(bytes), name == DPKG);
        }
        for name in APK {
            packages.read_apk(&text(name).unwrap_or_default());
        }
        let value = |key: &str| {
            let line = release.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
        };
        Ok(Distribution { name: value("ID"), version: value("VERSION_ID"), packages: packages.by_name() })
    }
}

/// Adds the wanted files of a layer to those of lower layers, and removes the files that the layer hides.
fn read_layer(
    tar: impl io::Read + io::Seek,
    files: &mut BTreeMap<String, Vec<u8>>,
    is_wanted: &dyn Fn(&str) -> bool,
) -> io::Result<()> {
    let mut archive = tar::Archive::new(tar);
    let mut hidden = HashSet::new();
    let mut found = BTreeMap::new();
    for entry in archive.entries_with_seek()? {
        let mut entry = entry?;
        let Some(path) = normalized(&entry.path()?) else { continue };
        let (folder, name) = path.rsplit_once('/').map_or((Path::new(""), &*path), |(f, n)| (Path::new(f), n));
        if name == ".wh..wh..opq" {
            hidden.insert(folder.to_owned());
        } else if let Some(removed) = name.strip_prefix(".wh.") {
            hidden.insert(folder.join(removed));
        } else if is_wanted(&path) && entry.header().entry_type().is_file() && entry.size() <= MAX_FILE_BYTES {
            let mut bytes = Vec::new();
            entry.by_ref().take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
            found.insert(path, bytes);
        }
    }
    // A hidden folder hides the files in it.
    let is_hidden = |path: &str| Path::new(path).ancestors().any(|path| hidden.contains(path));
    files.retain(|path, _| !is_hidden(path));
    files.extend(found);
    Ok(())
}

/// A path without `.` components; `None` if it contains `..`.
fn normalized(path: &Path) -> Option<String> {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => normalized.push(part),
            Component::CurDir | Component::RootDir => {}
            Component::ParentDir | Component::Prefix(_) => return None,
        }
    }
    normalized.to_str().map(str::to_owned)
}

/// Versions of packages, by name and architecture.
#[derive(Default)]
struct InstalledPackages(BTreeMap<(String, String), String>);

impl InstalledPackages {
    /// Reads a database of dpkg. With `with_status`, only packages with the status "installed" count.
    fn read_dpkg(&mut self, text: &str, with_status: bool) {
        for paragraph in text.split("\n\n") {
            let value = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "));
            let installed = !with_status || value("Status") == Some("install ok installed");
            if let (Some(name), Some(version), true) = (value("Package"), value("Version"), installed) {
                let architecture = value("Architecture").unwrap_or_default();
                self.0.insert((name.to_owned(), architecture.to_owned()), version.to_owned());
            }
        }
    }

    /// Reads a database of apk.
    fn read_apk(&mut self, text: &str) {
        for paragraph in text.split("\n\n") {
            let value = |key: &str| paragraph.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            if let (Some(name), Some(version)) = (value("P"), value("V")) {
                self.0.insert((name.to_owned(), String::new()), version.to_owned());
            }
        }
    }

    /// Versions by name; the name includes the architecture if the package is installed for several.
    fn by_name(self) -> BTreeMap<String, String> {
        let mut counts = HashMap::<String, usize>::new();
        for (name, _) in self.0.keys() {
            *counts.entry(name.clone()).or_default() += 1;
        }
        let named = self.0.into_iter().map(|((name, architecture), version)| {
            (if counts[&name] > 1 { format!("{name}:{architecture}") } else { name }, version)
        });
        named.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn layer(files: &[(&str, &str)]) -> Cursor<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        Cursor::new(tar.into_inner().unwrap())
    }

    #[test]
    fn upper_layers_hide_files_of_lower_layers() {
        let mut files = BTreeMap::new();
        let lower = [
            ("./etc/os-release", "ID=a"),
            (DPKG, "1"),
            ("var/lib/dpkg/status.d/x", "2"),
            ("lib/apk/db/installed", "3"),
        ];
        read_layer(layer(&lower), &mut files, &is_wanted).unwrap();
        assert_eq!(files.len(), 4);
        let upper = [(".wh.lib", ""), ("var/lib/dpkg/.wh..wh..opq", ""), (DPKG, "new"), ("etc/other", "x")];
        read_layer(layer(&upper), &mut files, &is_wanted).unwrap();
        assert_eq!(files.keys().collect::<Vec<_>>(), ["etc/os-release", DPKG]);
        assert_eq!(files[DPKG], b"new");
    }

    #[test]
    fn only_installed_packages_count() {
        let mut packages = InstalledPackages::default();
        let text = "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nDescription: x\n y\n\n\
                    Package: b\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: amd64\n\n\
                    Package: c\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n\n\
                    Package: c\nStatus: install ok installed\nVersion: 2\nArchitecture: i386\n";
        packages.read_dpkg(text, true);
        packages.read_apk("P:musl\nV:1.2\n\nP:x\nV:3\n");
        let named = packages.by_name();
        let listed: Vec<_> = named.iter().map(|(name, version)| format!("{name}={version}")).collect();
        assert_eq!(listed, ["a=1:2-3", "c:amd64=1", "c:i386=2", "musl=1.2", "x=3"]);
    }
}

#[cfg(test)]
mod properties {
    use std::io::Cursor;

    use super::*;
    use crate::properties::{bytes_near, check, check_one_in, text_near};

    #[test]
    fn lists_of_packages_are_read() {
        let samples = [
            "Package: a\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nDescription: x\n y\n\nPackage: b\n",
            "P:musl\nV:1.2\n\nP:x\nV:3\n",
        ];
        check(text_near(&samples), |text| {
            let mut packages = InstalledPackages::default();
            packages.read_dpkg(&text, true);
            packages.read_dpkg(&text, false);
            packages.read_apk(&text);
            packages.by_name();
        });
    }

    #[test]
    fn layers_are_read_or_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        for name in ["etc/os-release", "var/lib/dpkg/.wh..wh..opq", ".wh.lib", DPKG] {
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            tar.append_data(&mut header, name, &b"x"[..]).unwrap();
        }
        check_one_in(4, bytes_near(&[tar.into_inner().unwrap()]), |bytes| {
            let mut files = BTreeMap::new();
            let _ = read_layer(Cursor::new(bytes), &mut files, &is_wanted);
            assert!(files.keys().all(|path| is_wanted(path)));
        });
    }
}
