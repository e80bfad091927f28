//! Buildpacks: folders with a `buildpack.toml`, and the digests of their contents.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use sha2::Digest as _;

use super::error::BuildpacksError;
use crate::{
    images::architecture,
    lifecycle::descriptor::Descriptor,
    model::{Digest, HashWriter},
};

/// A buildpack on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpack {
    /// Content of its `buildpack.toml`.
    pub about: Descriptor,
    /// Absolute path of its folder.
    pub folder: PathBuf,
    /// Digest of all its files.
    pub digest: Digest,
}

impl Buildpack {
    /// Reads a folder with a `buildpack.toml`. Blocks.
    pub fn read(folder: &Path) -> Result<Self, BuildpacksError> {
        let file = folder.join("buildpack.toml");
        let invalid = |message: String| BuildpacksError::Invalid { path: file.clone(), message };
        let about = Descriptor::read(&file).map_err(invalid)?;
        if about.order.is_empty() {
            for program in ["bin/detect", "bin/build"] {
                let path = folder.join(program);
                // The same whether there is a file elsewhere on this machine or not.
                if !is_within(folder, &path) {
                    let text =
                        format!("there is no {}, or it is a link that leads out of the buildpack", path.display());
                    return Err(BuildpacksError::Unusable(text));
                }
                let metadata = fs::metadata(&path).map_err(BuildpacksError::file("find", &path))?;
                if metadata.permissions().mode() & 0o111 == 0 {
                    return Err(BuildpacksError::Unusable(format!(
                        "{} is not executable; chmod +x it",
                        path.display()
                    )));
                }
            }
        }
        let mut hash = sha2::Sha256::new();
        hash_folder(folder, &mut hash)?;
        // The engine mounts absolute paths only.
        let folder = fs::canonicalize(folder).map_err(BuildpacksError::file("find", folder))?;
        Ok(Self { about, folder, digest: Digest::from_sha256(&hash.finalize().into()) })
    }

    /// Where the platform specification puts it in a build image.
    pub fn target(&self) -> String {
        format!("/cnb/buildpacks/{}/{}", folder_name(&self.about.id), self.about.version)
    }
}

/// The name of the folder of a buildpack with this id, as the platform specification escapes it.
pub(super) fn folder_name(id: &str) -> String {
    id.replace('/', "_")
}

/// The folders with a `buildpack.toml` in this one, sorted; symbolic links are left out.
pub(super) fn buildpack_folders(folder: &Path) -> Result<Vec<PathBuf>, BuildpacksError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(BuildpacksError::file("read", folder))? {
        let path = entry.map_err(BuildpacksError::file("read", folder))?.path();
        if is_folder(&path) && has_descriptor(&path) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The part of a buildpack for several platforms that is for this machine's: its folder `linux/amd64` (or `linux/arm64`), which
/// then is the buildpack, with the same `buildpack.toml`, as `pack` packages it. Otherwise the folder itself. Blocks.
pub(super) fn for_this_platform(folder: &Path) -> Result<PathBuf, BuildpacksError> {
    let platform = Path::new("linux").join(architecture());
    let own = folder.join(&platform);
    let is_one = |platform: &Path| is_folder(platform) && is_within(folder, &platform.join("bin/build"));
    let others =
        || fs::read_dir(folder.join("linux")).into_iter().flatten().flatten().any(|entry| is_one(&entry.path()));
    if is_folder(&folder.join("linux")) && is_one(&own) {
        let file = "buildpack.toml";
        fs::rename(folder.join(file), own.join(file)).map_err(BuildpacksError::file("move", &own))?;
        return Ok(own);
    }
    if !is_within(folder, &folder.join("bin/build")) && is_folder(&folder.join("linux")) && others() {
        let platform = platform.display();
        return Err(BuildpacksError::Unusable(format!("it has no folder {platform}: it is not made for this machine")));
    }
    Ok(folder.to_owned())
}

/// What the path leads to, also through links, if that is in the folder.
pub(super) fn real_within(folder: &Path, path: &Path) -> Option<PathBuf> {
    let folder = fs::canonicalize(folder).ok()?;
    fs::canonicalize(path).ok().filter(|real| real.starts_with(folder))
}

fn is_within(folder: &Path, path: &Path) -> bool {
    real_within(folder, path).is_some()
}

/// Whether there is a `buildpack.toml` in the folder, and not a link.
pub(super) fn has_descriptor(folder: &Path) -> bool {
    fs::symlink_metadata(folder.join("buildpack.toml")).is_ok_and(|metadata| metadata.is_file())
}

/// Whether this is a folder, and not a link to one: a fetched package must not lead to files of this machine.
pub(super) fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// Hashes names, modes and contents of everything in a folder, in a fixed order, without following links. Each entry is
/// tagged with its kind and delimited, so that two different trees never give the same bytes.
fn hash_folder(folder: &Path, hash: &mut sha2::Sha256) -> Result<(), BuildpacksError> {
    let entries = fs::read_dir(folder).map_err(BuildpacksError::file("read", folder))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, io::Error>>()
        .map_err(BuildpacksError::file("read", folder))?;
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).map_err(BuildpacksError::file("read", &path))?;
        hash.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        // Of the mode only this counts: the rest depends on the umask with which the file was written here.
        let is_executable = metadata.permissions().mode() & 0o111 != 0;
        if metadata.is_dir() {
            hash.update([0, b'd']);
            hash_folder(&path, hash)?;
            hash.update([0, b'.']);
        } else if metadata.is_symlink() {
            hash.update([0, b'l']);
            let target = fs::read_link(&path).map_err(BuildpacksError::file("read", &path))?;
            hash.update(target.as_os_str().as_encoded_bytes());
            hash.update([0]);
        } else if metadata.is_file() {
            hash.update([0, if is_executable { b'x' } else { b'f' }]);
            hash.update(metadata.len().to_be_bytes());
            let mut file = fs::File::open(&path).map_err(BuildpacksError::file("read", &path))?;
            io::copy(&mut file, &mut HashWriter(hash)).map_err(BuildpacksError::file("read", &path))?;
        } else {
            return Err(BuildpacksError::Unusable(format!("{} is neither a file nor a folder", path.display())));
        }
    }
    Ok(())
}

/// Writes a buildpack into `folder`.
#[cfg(test)]
pub(super) fn write_example(folder: &Path, id: &str, more: &str) {
    fs::create_dir_all(folder.join("bin")).unwrap();
    let text = format!("api = \"0.12\"\n[buildpack]\nid = {id:?}\nversion = \"1.0\"\n{more}");
    fs::write(folder.join("buildpack.toml"), text).unwrap();
    for name in ["detect", "build"] {
        let path = folder.join("bin").join(name);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_depends_on_where_a_file_is() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str, file: &str| {
            let folder = dir.path().join(name);
            write_example(&folder, "a/deep", "");
            fs::create_dir(folder.join("dir")).unwrap();
            fs::write(folder.join("dir/x"), "").unwrap();
            fs::write(folder.join(file), "").unwrap();
            Buildpack::read(&folder).unwrap()
        };
        assert_ne!(read("one", "y").digest, read("two", "dir/y").digest);
        assert_eq!(read("three", "y").digest, read("four", "y").digest);
    }

    #[test]
    fn links_tell_nothing_about_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("bp");
        write_example(&folder, "a/z", "");
        let program = folder.join("bin/detect");
        let linked_to = |target: &str| {
            fs::remove_file(&program).unwrap();
            std::os::unix::fs::symlink(target, &program).unwrap();
            Buildpack::read(&folder).map(drop).map_err(|e| e.to_string())
        };
        assert_eq!(linked_to("build"), Ok(()));
        let errors =
            ["/etc/shadow", "/usr/bin/env", "/root/none", "../../none"].map(|target| linked_to(target).unwrap_err());
        assert!(errors[0].ends_with("bin/detect, or it is a link that leads out of the buildpack"), "{}", errors[0]);
        assert!(errors.iter().all(|error| *error == errors[0]), "{errors:?}");
        fs::rename(folder.join("bin"), folder.join("others")).unwrap();
        for target in ["/etc/passwd", "/etc/none", "/usr/bin"] {
            std::os::unix::fs::symlink(target, folder.join("bin")).unwrap();
            assert_eq!(Buildpack::read(&folder).map_err(|e| e.to_string()).unwrap_err(), errors[0]);
            fs::remove_file(folder.join("bin")).unwrap();
        }
    }

    #[test]
    fn of_a_buildpack_for_several_platforms_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("bp");
        write_example(&folder, "a/z", "");
        assert_eq!(for_this_platform(&folder).unwrap(), folder);
        let move_to = |platform: &str| {
            fs::create_dir_all(folder.join(platform)).unwrap();
            fs::rename(folder.join("bin"), folder.join(platform).join("bin")).unwrap();
        };
        move_to("linux/riscv64");
        let error = for_this_platform(&folder).unwrap_err().to_string();
        assert!(
            error.starts_with("it has no folder linux/") && error.ends_with("not made for this machine"),
            "{error}"
        );
        let own = format!("linux/{}", architecture());
        fs::create_dir_all(folder.join(&own)).unwrap();
        fs::rename(folder.join("linux/riscv64/bin"), folder.join(&own).join("bin")).unwrap();
        let found = for_this_platform(&folder).unwrap();
        assert_eq!(found, folder.join(own));
        assert_eq!(Buildpack::read(&found).unwrap().about.id, "a/z");
    }

    #[test]
    fn a_script_must_be_executable() {
        let dir = tempfile::tempdir().unwrap();
        write_example(dir.path(), "a/z", "");
        fs::set_permissions(dir.path().join("bin/build"), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Buildpack::read(dir.path()).unwrap_err().to_string().contains("bin/build is not executable"));
    }
}
