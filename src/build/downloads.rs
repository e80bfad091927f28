//! What builds have downloaded, by checksum, for all builds to come. Each can add to it, and none can poison it: a file
//! gets its name only if its bytes are those that the name says.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use super::BuildpacksError;
use crate::lifecycle::checksum::Checksum;

/// The folder of downloads, bounded in size; cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloads {
    dir: PathBuf,
    most_bytes: u64,
    /// Held while something is added or removed.
    adding: Arc<Mutex<()>>,
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildpacksError {
    let path = path.to_owned();
    move |source| BuildpacksError::File { act, path, source }
}

impl Downloads {
    /// Opens the folder, making it if need be; what is unfinished in it goes. Blocks.
    pub fn open(dir: PathBuf, most_bytes: u64) -> Result<Self, BuildpacksError> {
        fs::create_dir_all(&dir).map_err(failed("make", &dir))?;
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(failed("open", &dir))?;
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let path = entry.map_err(failed("read", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(Self { dir, most_bytes, adding: Arc::default() })
    }

    /// Where they are.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A file on its way in.
    pub fn writer(&self) -> Result<tempfile::NamedTempFile, BuildpacksError> {
        tempfile::Builder::new().suffix(".new").tempfile_in(&self.dir).map_err(failed("write in", &self.dir))
    }

    /// Gives a file its name, if that is what it is; makes room by removing the oldest. Blocks.
    pub fn keep(&self, file: tempfile::NamedTempFile, checksum: &Checksum) -> Result<(), BuildpacksError> {
        let path = self.dir.join(checksum.to_string());
        let fits = File::open(file.path()).and_then(|file| checksum.fits(file)).map_err(failed("read", file.path()))?;
        if !fits {
            return Err(BuildpacksError::Unusable(format!("a build offered {checksum}, and it is something else")));
        }
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(file.path(), open).map_err(failed("open", file.path()))?;
        let _one_at_a_time = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        file.persist(&path).map_err(|e| failed("write", &path)(e.error))?;
        self.make_room(&path)
    }

    fn make_room(&self, newest: &Path) -> Result<(), BuildpacksError> {
        let mut files: Vec<(SystemTime, u64, PathBuf)> = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let entry = entry.map_err(failed("read", &self.dir))?;
            // It is still on its way in, for another build.
            if entry.path().extension().is_some_and(|extension| extension == "new") {
                continue;
            }
            let metadata = entry.metadata().map_err(failed("read", &entry.path()))?;
            files.push((metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, size, _)| size).sum();
        for (_, size, path) in files.iter().filter(|(.., path)| path != newest) {
            if total <= self.most_bytes {
                break;
            }
            fs::remove_file(path).map_err(failed("remove", path))?;
            total -= size;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn only_what_a_name_says_is_kept_and_the_oldest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let downloads = Downloads::open(dir.path().join("d"), 12).unwrap();
        let of = |text: &str| {
            let digest = crate::model::Digest::of(text.as_bytes());
            digest.hex().parse::<Checksum>().unwrap()
        };
        let keep = |text: &str, checksum: &Checksum| {
            let mut file = downloads.writer().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            downloads.keep(file, checksum)
        };
        assert!(keep("poison", &of("hello")).unwrap_err().to_string().contains("is something else"));
        assert_eq!(fs::read_dir(downloads.dir()).unwrap().count(), 0);
        keep("hello", &of("hello")).unwrap();
        let old = downloads.dir().join(of("hello").to_string());
        File::open(&old).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        keep("world", &of("world")).unwrap();
        assert!(old.exists());
        let coming = downloads.writer().unwrap();
        fs::write(coming.path(), "much more than there is room").unwrap();
        keep("another", &of("another")).unwrap();
        assert!(coming.path().exists());
        assert!(!old.exists() && downloads.dir().join(of("world").to_string()).exists());
    }
}
