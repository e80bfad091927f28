//! Packages of buildpacks that were fetched, stored by digest.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    buildpack::{Buildpack, buildpack_folders, folder_name, for_this_platform, has_descriptor, is_folder},
    error::BuildpacksError,
};
use crate::{data_dir::disk_usage, model::Digest};

type Result<T, E = BuildpacksError> = std::result::Result<T, E>;

/// Buildpacks that came together: a single one, or a composite one with those that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Digest of all its buildpacks.
    pub digest: Digest,
    /// Its buildpacks, sorted by name.
    pub all: Vec<Buildpack>,
}

impl Package {
    fn of(mut all: Vec<Buildpack>) -> Self {
        all.sort_by_key(|buildpack| buildpack.about.full_name());
        let names: Vec<_> = all.iter().map(|b| format!("{} {}", b.about.full_name(), b.digest)).collect();
        Self { digest: Digest::of(names.join("\n").as_bytes()), all }
    }

    /// The buildpack that the package stands for: the one that none of the others names.
    pub fn root(&self) -> Result<&Buildpack> {
        let is_named = |buildpack: &Buildpack| {
            let mut references = self.all.iter().flat_map(|b| &b.about.order).flat_map(|group| &group.group);
            references.any(|reference| reference.id == buildpack.about.id)
        };
        let roots: Vec<_> = self.all.iter().filter(|buildpack| !is_named(buildpack)).collect();
        if let [root] = roots[..] {
            return Ok(root);
        }
        let all: Vec<_> = self.all.iter().map(|b| b.about.full_name()).collect();
        let text = format!("it has several buildpacks: {}; name the folder of one, or install it", all.join(", "));
        Err(BuildpacksError::Unusable(text))
    }
}

/// The store of fetched packages: one folder for each, laid out as the platform specification says. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Packages {
    dir: PathBuf,
    /// Of a store for a while: its folder, which the last clone removes.
    _temporary: Option<Arc<tempfile::TempDir>>,
}

impl Packages {
    /// Opens the folder, or makes it, and removes what an earlier process left unfinished. Blocks.
    pub fn open(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(BuildpacksError::file("make", &dir))?;
        for entry in fs::read_dir(&dir).map_err(BuildpacksError::file("read", &dir))? {
            let path = entry.map_err(BuildpacksError::file("read", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_dir_all(&path).map_err(BuildpacksError::file("remove", &path))?;
            }
        }
        Ok(Self { dir, _temporary: None })
    }

    /// A store for a while in a folder of this one, which goes with its last clone. Blocks.
    pub fn temporary(&self) -> Result<Self> {
        let folder = Arc::new(self.staging()?);
        Ok(Self { dir: folder.path().to_owned(), _temporary: Some(folder) })
    }

    /// A new folder for files that are being fetched; it is removed with its handle.
    pub fn staging(&self) -> Result<tempfile::TempDir> {
        let made = tempfile::Builder::new().suffix(".new").tempdir_in(&self.dir);
        made.map_err(BuildpacksError::file("make a folder in", &self.dir))
    }

    /// Moves the buildpacks of a staged folder into the store. The folder is a buildpack, contains some, or is laid out
    /// like an image of buildpacks. Blocks.
    pub fn adopt(&self, staged: &Path) -> Result<Package> {
        let mut found = Vec::new();
        if has_descriptor(staged) {
            found.push(staged.to_owned());
        } else {
            found.extend(buildpack_folders(staged)?);
            let image = staged.join("cnb/buildpacks");
            if is_folder(&staged.join("cnb")) && is_folder(&image) {
                for entry in fs::read_dir(&image).map_err(BuildpacksError::file("read", &image))? {
                    let path = entry.map_err(BuildpacksError::file("read", &image))?.path();
                    if is_folder(&path) {
                        found.extend(buildpack_folders(&path)?);
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(BuildpacksError::Unusable("it contains no buildpack.toml".to_owned()));
        }
        let found = found.iter().map(|folder| for_this_platform(folder)).collect::<Result<Vec<_>>>()?;
        let all = found.iter().map(|folder| Buildpack::read(folder)).collect::<Result<Vec<_>>>()?;
        let package = Package::of(all);
        let stored = self.dir.join(package.digest.hex());
        if stored.exists() {
            return self.read(&package.digest);
        }
        let whole = self.staging()?;
        for Buildpack { about, folder, .. } in &package.all {
            let parent = whole.path().join(folder_name(&about.id));
            fs::create_dir_all(&parent).map_err(BuildpacksError::file("make", &parent))?;
            let target = parent.join(&about.version);
            if target.exists() {
                return Err(BuildpacksError::Unusable(format!("it contains {} twice", about.full_name())));
            }
            fs::rename(folder, &target).map_err(BuildpacksError::file("move", folder))?;
        }
        make_readable(whole.path()).map_err(BuildpacksError::file("open", whole.path()))?;
        fs::rename(whole.path(), &stored).map_err(BuildpacksError::file("make", &stored))?;
        self.read(&package.digest)
    }

    /// Reads a package of the store. Blocks.
    pub fn read(&self, digest: &Digest) -> Result<Package> {
        let stored = self.dir.join(digest.hex());
        let mut all = Vec::new();
        for entry in fs::read_dir(&stored).map_err(BuildpacksError::file("read", &stored))? {
            let versions = entry.map_err(BuildpacksError::file("read", &stored))?.path();
            for folder in buildpack_folders(&versions)? {
                all.push(Buildpack::read(&folder)?);
            }
        }
        // The digest stays, even if a later version of paas would compute another.
        Ok(Package { digest: digest.clone(), ..Package::of(all) })
    }

    /// Removes all packages except these. Blocks.
    pub fn retain(&self, keep: &[Digest]) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(BuildpacksError::file("read", &self.dir))? {
            let name = entry.map_err(BuildpacksError::file("read", &self.dir))?.file_name();
            let digest = name.to_str().and_then(|name| format!("sha256:{name}").parse::<Digest>().ok());
            if let Some(digest) = digest.filter(|digest| !keep.contains(digest)) {
                self.remove(&digest)?;
            }
        }
        Ok(())
    }

    /// What a package takes on the disk, in bytes. Blocks.
    pub fn size(&self, digest: &Digest) -> Result<u64> {
        let stored = self.dir.join(digest.hex());
        disk_usage(&stored).map_err(BuildpacksError::file("read", &stored))
    }

    /// Removes a package, if the store has it. Blocks.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let (stored, removed) = (self.dir.join(digest.hex()), self.dir.join(format!("{}.gone.new", digest.hex())));
        match fs::rename(&stored, &removed) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(BuildpacksError::file("remove", &stored)(e)),
            Ok(()) => fs::remove_dir_all(&removed).map_err(BuildpacksError::file("remove", &removed)),
        }
    }
}

/// Lets builds, which run as another user, read a folder and all in it.
fn make_readable(path: &Path) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    let mode = metadata.permissions().mode();
    if metadata.is_dir() {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        fs::read_dir(path)?.try_for_each(|entry| make_readable(&entry?.path()))
    } else if metadata.is_file() {
        let readable = if mode & 0o111 == 0 { 0o644 } else { 0o755 };
        fs::set_permissions(path, fs::Permissions::from_mode(readable))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::buildpack::write_example, *};

    #[test]
    fn links_do_not_make_buildpacks_of_this_machine_available() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().join("kept")).unwrap();
        let mine = dir.path().join("mine/a_mine/1.0");
        write_example(&mine, "a/mine", "");
        let link = |target: &Path, name: &str| {
            let staged = packages.staging().unwrap();
            let path = staged.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
            packages.adopt(staged.path()).unwrap_err().to_string()
        };
        let above = mine.parent().unwrap();
        for (target, name) in [
            (mine.as_path(), "x"),
            (&mine, "cnb/buildpacks/a_mine/1.0"),
            (above, "cnb/buildpacks/a_mine"),
            (above.parent().unwrap(), "cnb/buildpacks"),
        ] {
            let error = link(target, name);
            assert!(error.contains("no buildpack.toml"), "{name}: {error}");
        }
        write_example(&dir.path().join("image/buildpacks/a_mine/1.0"), "a/mine", "");
        assert!(link(&dir.path().join("image"), "cnb").contains("no buildpack.toml"));
        assert!(mine.join("bin/build").exists(), "the folder has not been moved");
    }

    #[test]
    fn packages_are_stored_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().join("kept")).unwrap();
        let stage = |mut make: Box<dyn FnMut(&Path)>| {
            let staged = packages.staging().unwrap();
            make(staged.path());
            packages.adopt(staged.path())
        };
        let closed = |path: &Path| {
            write_example(path, "a/one", "");
            for (name, mode) in [("bin", 0o700), ("bin/build", 0o700), ("buildpack.toml", 0o600)] {
                fs::set_permissions(path.join(name), fs::Permissions::from_mode(mode)).unwrap();
            }
        };
        let one = || stage(Box::new(closed)).unwrap();
        let package = one();
        assert_eq!(package.root().unwrap().about.id, "a/one");
        let mode = |name: &str| fs::metadata(package.all[0].folder.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("bin"), mode("bin/build"), mode("buildpack.toml")), (0o755, 0o755, 0o644));
        assert_eq!(one(), package, "the same files are the same package");
        assert!(package.all[0].folder.ends_with("a_one/1.0"));
        let made = stage(Box::new(move |path| {
            write_example(&path.join("cnb/buildpacks/a_one/1.0"), "a/one", "");
            let order = "[[order]]\n[[order.group]]\nid = \"a/one\"\nversion = \"1.0\"\n";
            write_example(&path.join("cnb/buildpacks/a_all/1.0"), "a/all", order);
        }));
        let made = made.unwrap();
        assert_eq!(made.root().unwrap().about.id, "a/all");
        assert_eq!(packages.read(&made.digest).unwrap(), made);
        let two = stage(Box::new(|path| {
            write_example(&path.join("x"), "a/x", "");
            write_example(&path.join("y"), "a/y", "");
        }));
        assert!(two.unwrap().root().unwrap_err().to_string().contains("a/x@1.0, a/y@1.0"));
        assert!(stage(Box::new(|_| ())).unwrap_err().to_string().contains("no buildpack.toml"));
        packages.remove(&package.digest).unwrap();
        packages.remove(&package.digest).unwrap();
        assert!(packages.read(&package.digest).is_err());
    }
}
