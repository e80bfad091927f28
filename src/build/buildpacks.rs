//! The buildpacks on this machine: the built-in ones with their order, and packages that were fetched, by digest.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use sha2::Digest as _;

use crate::{
    lifecycle::descriptor::{Descriptor, Group},
    model::Digest,
};

/// Why buildpacks cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildpacksError {
    /// A file or folder cannot be read or written.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{path}, {message}")]
    Invalid {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// A source holds no buildpack, or not just what is needed.
    #[error("{0}")]
    Unusable(String),
}

type Result<T, E = BuildpacksError> = std::result::Result<T, E>;

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildpacksError {
    let path = path.to_owned();
    move |source| BuildpacksError::File { act, path, source }
}

/// A buildpack's folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Buildpack {
    /// What it says of itself.
    pub about: Descriptor,
    /// Its folder on the host.
    pub folder: PathBuf,
    /// Of all its files.
    pub digest: Digest,
}

impl Buildpack {
    /// Reads a folder with a `buildpack.toml`. Blocks.
    pub fn read(folder: &Path) -> Result<Self> {
        let file = folder.join("buildpack.toml");
        let invalid = |message: String| BuildpacksError::Invalid { path: file.clone(), message };
        let about = Descriptor::read(&file).map_err(invalid)?;
        if about.order.is_empty() {
            for program in ["bin/detect", "bin/build"] {
                let path = folder.join(program);
                let mode = fs::metadata(&path).map_err(failed("find", &path))?.permissions().mode();
                if mode & 0o111 == 0 {
                    return Err(BuildpacksError::Unusable(format!(
                        "{} is not executable; chmod +x it",
                        path.display()
                    )));
                }
            }
        }
        let mut sum = sha2::Sha256::new();
        digest_of(folder, &mut sum)?;
        // Docker wants absolute paths.
        let folder = fs::canonicalize(folder).map_err(failed("find", folder))?;
        Ok(Self { about, folder, digest: Digest::from_sha256(&sum.finalize().into()) })
    }

    /// Where the platform specification puts it in a build image.
    pub fn target(&self) -> String {
        format!("/cnb/buildpacks/{}/{}", escaped(&self.about.id), self.about.version)
    }
}

/// An id as a folder's name.
fn escaped(id: &str) -> String {
    id.replace('/', "_")
}

/// The buildpacks that come with paas, and their order (`order.toml`, as in the distribution specification).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Builtin {
    /// Those that there are.
    pub all: Vec<Buildpack>,
    /// Groups, tried in this order.
    pub order: Vec<Group>,
}

#[derive(Deserialize)]
struct OrderFile {
    order: Vec<Group>,
}

impl Builtin {
    /// Reads the folders with a `buildpack.toml` in `folder`, and `order.toml` beside them. Blocks.
    pub fn read(folder: &Path) -> Result<Self> {
        let all = folders(folder)?.iter().map(|path| Buildpack::read(path)).collect::<Result<Vec<_>>>()?;
        let path = folder.join("order.toml");
        let text = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let invalid = |message| BuildpacksError::Invalid { path: path.clone(), message };
        let OrderFile { order } =
            toml::from_str(&text).map_err(|e| invalid(e.message().split_whitespace().collect::<Vec<_>>().join(" ")))?;
        for reference in order.iter().flat_map(|group| &group.group) {
            if all.iter().all(|buildpack| buildpack.about.id != reference.id) {
                return Err(invalid(format!("there is no buildpack {}", reference.id)));
            }
        }
        Ok(Self { all, order })
    }
}

/// Whether it is a folder itself, not a link to one: what came from elsewhere must not lead to what is here.
fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir())
}

/// The folders with a `buildpack.toml` in this one, sorted; links to folders are none.
fn folders(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(folder).map_err(failed("read", folder))?;
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed("read", folder))?.path();
        if is_folder(&path) && path.join("buildpack.toml").is_file() {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// Buildpacks that came together: one, or a composite one with those that it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// Of all its buildpacks.
    pub digest: Digest,
    /// Its buildpacks.
    pub all: Vec<Buildpack>,
}

impl Package {
    fn of(mut all: Vec<Buildpack>) -> Self {
        all.sort_by_key(|buildpack| buildpack.about.full_name());
        let names: Vec<_> = all.iter().map(|b| format!("{} {}", b.about.full_name(), b.digest)).collect();
        Self { digest: Digest::of(names.join("\n").as_bytes()), all }
    }

    /// The one that none of the others names: what is meant by the package.
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

/// Fetched packages, in folders by digest, each as the platform specification lays out a folder of buildpacks.
#[derive(Debug, Clone)]
pub struct Packages {
    dir: PathBuf,
}

impl Packages {
    /// Opens the folder, making it if need be, and removes what an earlier process left unfinished. Blocks.
    pub fn open(dir: PathBuf) -> Result<Self> {
        fs::create_dir_all(&dir).map_err(failed("make", &dir))?;
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let path = entry.map_err(failed("read", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_dir_all(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(Self { dir })
    }

    /// A new folder for something that is being fetched; it goes with its handle.
    pub fn staging(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new().suffix(".new").tempdir_in(&self.dir).map_err(failed("make a folder in", &self.dir))
    }

    /// Takes over the buildpacks in a staged folder: it is one itself, it holds some, or it is laid out as an image of
    /// buildpacks is. Blocks.
    pub fn adopt(&self, staged: &Path) -> Result<Package> {
        let mut found = Vec::new();
        if staged.join("buildpack.toml").is_file() {
            found.push(staged.to_owned());
        } else {
            found.extend(folders(staged)?);
            let image = staged.join("cnb/buildpacks");
            if is_folder(&staged.join("cnb")) && is_folder(&image) {
                for entry in fs::read_dir(&image).map_err(failed("read", &image))? {
                    let path = entry.map_err(failed("read", &image))?.path();
                    if is_folder(&path) {
                        found.extend(folders(&path)?);
                    }
                }
            }
        }
        if found.is_empty() {
            return Err(BuildpacksError::Unusable("there is no buildpack.toml in it".to_owned()));
        }
        let all = found.iter().map(|folder| Buildpack::read(folder)).collect::<Result<Vec<_>>>()?;
        let package = Package::of(all);
        let place = self.dir.join(package.digest.hex());
        if place.exists() {
            return self.read(&package.digest);
        }
        let whole = self.staging()?;
        for Buildpack { about, folder, .. } in &package.all {
            let parent = whole.path().join(escaped(&about.id));
            fs::create_dir_all(&parent).map_err(failed("make", &parent))?;
            let place = parent.join(&about.version);
            if place.exists() {
                return Err(BuildpacksError::Unusable(format!("it has {} twice", about.full_name())));
            }
            fs::rename(folder, &place).map_err(failed("move", folder))?;
        }
        // Builds run as another user.
        let open = fs::Permissions::from_mode(0o755);
        fs::set_permissions(whole.path(), open).map_err(failed("open", whole.path()))?;
        fs::rename(whole.path(), &place).map_err(failed("make", &place))?;
        self.read(&package.digest)
    }

    /// A package that was adopted. Blocks.
    pub fn read(&self, digest: &Digest) -> Result<Package> {
        let place = self.dir.join(digest.hex());
        let mut all = Vec::new();
        for entry in fs::read_dir(&place).map_err(failed("read", &place))? {
            let folder = entry.map_err(failed("read", &place))?.path();
            for folder in folders(&folder)? {
                all.push(Buildpack::read(&folder)?);
            }
        }
        // It keeps the name that it has, also when a later version of paas would give it another.
        Ok(Package { digest: digest.clone(), ..Package::of(all) })
    }

    /// Removes all packages but these. Blocks.
    pub fn retain(&self, known: &[Digest]) -> Result<()> {
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let name = entry.map_err(failed("read", &self.dir))?.file_name();
            let digest = name.to_str().and_then(|name| format!("sha256:{name}").parse::<Digest>().ok());
            if let Some(digest) = digest.filter(|digest| !known.contains(digest)) {
                self.remove(&digest)?;
            }
        }
        Ok(())
    }

    /// Removes a package, if it is there. Blocks.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        let (place, gone) = (self.dir.join(digest.hex()), self.dir.join(format!("{}.gone.new", digest.hex())));
        match fs::rename(&place, &gone) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(e) => Err(failed("remove", &place)(e)),
            Ok(()) => fs::remove_dir_all(&gone).map_err(failed("remove", &gone)),
        }
    }
}

/// The static binary that runs in build containers, as Docker must be told of it, and its digest. Blocks.
pub fn lifecycle(path: &Path) -> Result<(PathBuf, Digest)> {
    let real = fs::canonicalize(path).map_err(failed("find", path))?;
    let bytes = fs::read(&real).map_err(failed("read", path))?;
    Ok((real, Digest::of(&bytes)))
}

/// Names, modes and contents of all that is in a folder, in a fixed order; no link is followed. Each entry says its kind
/// and ends where it says, so that no two trees read the same.
fn digest_of(folder: &Path, sum: &mut sha2::Sha256) -> Result<()> {
    let entries = fs::read_dir(folder).map_err(failed("read", folder))?;
    let mut paths = entries
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>, io::Error>>()
        .map_err(failed("read", folder))?;
    paths.sort();
    for path in paths {
        let metadata = fs::symlink_metadata(&path).map_err(failed("read", &path))?;
        sum.update(path.file_name().unwrap_or_default().as_encoded_bytes());
        // Only who owns it may write to it, whatever the umask was when it came here.
        let program = metadata.permissions().mode() & 0o111 != 0;
        if metadata.is_dir() {
            sum.update([0, b'd']);
            digest_of(&path, sum)?;
            sum.update([0, b'.']);
        } else if metadata.is_symlink() {
            sum.update([0, b'l']);
            sum.update(fs::read_link(&path).map_err(failed("read", &path))?.as_os_str().as_encoded_bytes());
            sum.update([0]);
        } else if metadata.is_file() {
            sum.update([0, if program { b'x' } else { b'f' }]);
            sum.update(metadata.len().to_be_bytes());
            let mut file = fs::File::open(&path).map_err(failed("read", &path))?;
            io::copy(&mut file, &mut Hashing(sum)).map_err(failed("read", &path))?;
        } else {
            return Err(BuildpacksError::Unusable(format!("{} is neither a file nor a folder", path.display())));
        }
    }
    Ok(())
}

struct Hashing<'a>(&'a mut sha2::Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, toml: &str) {
        fs::create_dir_all(folder.join("bin")).unwrap();
        fs::write(folder.join("buildpack.toml"), format!("api = \"0.12\"\n{toml}")).unwrap();
        for name in ["detect", "build"] {
            let path = folder.join("bin").join(name);
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
    }

    fn named(id: &str) -> String {
        format!("[buildpack]\nid = {id:?}\nversion = \"1.0\"\n")
    }

    #[test]
    fn the_builtin_ones_have_an_order() {
        let dir = tempfile::tempdir().unwrap();
        for id in ["paas/a", "paas/b"] {
            write(&dir.path().join(escaped(id)), &named(id));
        }
        let read = |order: &str| {
            fs::write(dir.path().join("order.toml"), order).unwrap();
            Builtin::read(dir.path()).map_err(|e| e.to_string())
        };
        let read_well = read("[[order]]\n[[order.group]]\nid = \"paas/b\"\noptional = true\n").unwrap();
        assert_eq!((read_well.all.len(), read_well.order[0].group[0].optional), (2, true));
        assert_eq!(read_well.all[0].target(), "/cnb/buildpacks/paas_a/1.0");
        let error = read("[[order]]\n[[order.group]]\nid = \"paas/c\"\n").unwrap_err();
        assert!(error.ends_with("order.toml, there is no buildpack paas/c"), "{error}");
        assert!(read("x = 1").unwrap_err().contains("order.toml, "));
    }

    #[test]
    fn links_lead_to_no_buildpack_of_this_machine() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().join("kept")).unwrap();
        let mine = dir.path().join("mine/a_mine/1.0");
        write(&mine, &named("a/mine"));
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
        write(&dir.path().join("image/buildpacks/a_mine/1.0"), &named("a/mine"));
        assert!(link(&dir.path().join("image"), "cnb").contains("no buildpack.toml"));
        assert!(mine.join("bin/build").exists(), "it is where it was");
    }

    #[test]
    fn packages_are_kept_by_digest() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().join("kept")).unwrap();
        let stage = |mut make: Box<dyn FnMut(&Path)>| {
            let staged = packages.staging().unwrap();
            make(staged.path());
            packages.adopt(staged.path())
        };
        let one = || stage(Box::new(|path| write(path, &named("a/one")))).unwrap();
        let package = one();
        assert_eq!(package.root().unwrap().about.id, "a/one");
        assert_eq!(one(), package, "the same files are the same package");
        assert!(package.all[0].folder.ends_with("a_one/1.0"));
        let composite = format!("{}[[order]]\n[[order.group]]\nid = \"a/one\"\nversion = \"1.0\"\n", named("a/all"));
        let made = stage(Box::new(move |path| {
            write(&path.join("cnb/buildpacks/a_one/1.0"), &named("a/one"));
            write(&path.join("cnb/buildpacks/a_all/1.0"), &composite);
        }));
        let made = made.unwrap();
        assert_eq!(made.root().unwrap().about.id, "a/all");
        assert_eq!(packages.read(&made.digest).unwrap(), made);
        let two = stage(Box::new(|path| {
            write(&path.join("x"), &named("a/x"));
            write(&path.join("y"), &named("a/y"));
        }));
        assert!(two.unwrap().root().unwrap_err().to_string().contains("a/x@1.0, a/y@1.0"));
        let inner = |path: &Path, at: &str| {
            write(path, &named("a/deep"));
            fs::create_dir(path.join("dir")).unwrap();
            fs::write(path.join("dir/x"), "").unwrap();
            fs::write(path.join(at), "").unwrap();
        };
        let above = stage(Box::new(move |path| inner(path, "y"))).unwrap();
        let below = stage(Box::new(move |path| inner(path, "dir/y"))).unwrap();
        assert_ne!(above.digest, below.digest, "where a file is decides, too");
        assert!(stage(Box::new(|_| ())).unwrap_err().to_string().contains("no buildpack.toml"));
        let plain = stage(Box::new(|path| {
            write(path, &named("a/z"));
            fs::set_permissions(path.join("bin/build"), fs::Permissions::from_mode(0o644)).unwrap();
        }));
        assert!(plain.unwrap_err().to_string().contains("bin/build is not executable"));
        packages.remove(&package.digest).unwrap();
        packages.remove(&package.digest).unwrap();
        assert!(packages.read(&package.digest).is_err());
    }
}
