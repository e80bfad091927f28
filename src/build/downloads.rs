//! The shared cache of downloads, by checksum. Any build can add to it, and none can poison it: a file is stored under
//! its checksum only after the checksum has been verified.

use std::{
    fs::{self, File},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use super::error::BuildpacksError;
use crate::{
    data_dir::{self, Room},
    lifecycle::checksum::Checksum,
};

/// Number of downloads that are kept.
const MAX_FILES: usize = 20_000;

/// The folder of downloads, of limited size; cheap to clone.
#[derive(Debug, Clone)]
pub struct Downloads {
    dir: PathBuf,
    max_bytes: u64,
    /// Held while files are added or removed.
    change: Arc<Mutex<()>>,
}

impl Downloads {
    /// Opens a folder in `parent`, or makes it, and removes unfinished files. Every user of a build container must be able to read
    /// it, which `parent` keeps from those of this machine. Blocks.
    pub fn open(parent: &Path, max_bytes: u64) -> Result<Self, BuildpacksError> {
        let dir = parent.join("shared");
        fs::create_dir_all(&dir).map_err(BuildpacksError::file("make", &dir))?;
        data_dir::create_private(parent).map_err(BuildpacksError::file("close", parent))?;
        // Earlier versions had them in the parent.
        for entry in fs::read_dir(parent).map_err(BuildpacksError::file("read", parent))? {
            let path = entry.map_err(BuildpacksError::file("read", parent))?.path();
            if let (true, Some(name)) = (path.is_file(), path.file_name()) {
                fs::rename(&path, dir.join(name)).map_err(BuildpacksError::file("move", &path))?;
            }
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).map_err(BuildpacksError::file("open", &dir))?;
        for entry in fs::read_dir(&dir).map_err(BuildpacksError::file("read", &dir))? {
            let path = entry.map_err(BuildpacksError::file("read", &dir))?.path();
            if path.extension().is_some_and(|extension| extension == "new") {
                fs::remove_file(&path).map_err(BuildpacksError::file("remove", &path))?;
            }
        }
        Ok(Self { dir, max_bytes, change: Arc::default() })
    }

    /// Path of the folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new file for a download that is being received.
    pub fn writer(&self) -> Result<tempfile::NamedTempFile, BuildpacksError> {
        tempfile::Builder::new()
            .suffix(".new")
            .tempfile_in(&self.dir)
            .map_err(BuildpacksError::file("write in", &self.dir))
    }

    /// Stores a file under its checksum, after verifying it; removes the oldest files to make room. Blocks.
    pub fn keep(&self, file: tempfile::NamedTempFile, checksum: &Checksum) -> Result<(), BuildpacksError> {
        let path = self.dir.join(checksum.to_string());
        let fits = File::open(file.path())
            .and_then(|file| checksum.fits(file))
            .map_err(BuildpacksError::file("read", file.path()))?;
        if !fits {
            return Err(BuildpacksError::Unusable(format!("a build offered {checksum}, but the content is different")));
        }
        let open = fs::Permissions::from_mode(0o644);
        fs::set_permissions(file.path(), open).map_err(BuildpacksError::file("open", file.path()))?;
        let _one_at_a_time = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        file.persist(&path).map_err(|e| BuildpacksError::file("write", &path)(e.error))?;
        let room = Room { max_bytes: self.max_bytes, max_files: MAX_FILES };
        room.make(&self.dir, &path).map(drop).map_err(BuildpacksError::file("make room in", &self.dir))
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::SystemTime};

    use super::*;

    #[test]
    fn only_verified_files_are_stored_and_the_oldest_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let downloads = Downloads::open(&dir.path().join("d"), 12).unwrap();
        fs::write(dir.path().join("d/former"), "x").unwrap();
        let downloads = {
            drop(downloads);
            Downloads::open(&dir.path().join("d"), 12).unwrap()
        };
        assert!(downloads.dir().join("former").exists(), "it is moved");
        fs::remove_file(downloads.dir().join("former")).unwrap();
        let of = |text: &str| {
            let digest = crate::model::Digest::of(text.as_bytes());
            digest.hex().parse::<Checksum>().unwrap()
        };
        let keep = |text: &str, checksum: &Checksum| {
            let mut file = downloads.writer().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            downloads.keep(file, checksum)
        };
        assert!(keep("poison", &of("hello")).unwrap_err().to_string().contains("the content is different"));
        assert_eq!(fs::read_dir(downloads.dir()).unwrap().count(), 0);
        keep("hello", &of("hello")).unwrap();
        let old = downloads.dir().join(of("hello").to_string());
        File::open(&old).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        keep("world", &of("world")).unwrap();
        assert!(old.exists());
        let incoming = downloads.writer().unwrap();
        fs::write(incoming.path(), "much more than there is room").unwrap();
        keep("another", &of("another")).unwrap();
        assert!(incoming.path().exists());
        assert!(!old.exists() && downloads.dir().join(of("world").to_string()).exists());
    }
}
