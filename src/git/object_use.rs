//! What the objects of a repository take, and whether that is within its quota.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    error::{Result, failed},
    files::blocking,
    quota::QuotaExceeded,
    reader::Reader,
    repository::Repository,
};

/// Size of an index of a pack without objects, in bytes, and of each object in it: gitformat-pack(5), version 2.
const INDEX_BYTES: u64 = 8 + 256 * 4 + 2 * 20;
const INDEX_BYTES_PER_OBJECT: u64 = 20 + 4 + 4;

/// How deep the folders of objects are: those of a push that is being received have folders of packs, too.
const MAX_DEPTH: usize = 3;

/// What the objects of a repository take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct ObjectUse {
    pub(super) bytes: u64,
    pub(super) objects: u64,
}

impl Repository {
    /// Size of all objects, in bytes, and what is left of the quota.
    pub async fn room(&self) -> Result<(u64, u64)> {
        let used = self.size().await?;
        Ok((used, self.max_bytes.saturating_sub(used)))
    }

    /// Size of all objects, in bytes.
    pub async fn size(&self) -> Result<u64> {
        Ok(self.object_use().await?.bytes)
    }

    /// Nothing if the repository does not exist: its app may be destroyed at this moment.
    pub(super) async fn object_use(&self) -> Result<ObjectUse> {
        let objects = self.path.join("objects");
        let measure = {
            let objects = objects.clone();
            move || match measure(&objects, MAX_DEPTH) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(ObjectUse::default()),
                measured => measured,
            }
        };
        blocking(measure).await.map_err(failed("read", &objects))
    }

    /// Whether the repository, with the objects of a push, exceeds its quota, and with as many new refs. The reader is one of
    /// this repository.
    pub async fn check_quota(&self, reader: &Reader, new_refs: u64) -> Result<Result<(), QuotaExceeded>> {
        let quota = self.repositories.quota();
        let used = self.object_use().await?;
        if used.bytes > self.max_bytes {
            return Ok(Err(QuotaExceeded::Bytes { used: used.bytes, max: self.max_bytes }));
        }
        if used.objects > quota.objects {
            return Ok(Err(QuotaExceeded::Objects { used: used.objects, max: quota.objects }));
        }
        if new_refs > 0 {
            let refs = reader.ref_count().await? + new_refs;
            if refs > quota.refs {
                return Ok(Err(QuotaExceeded::Refs { used: refs, max: quota.refs }));
            }
        }
        Ok(Ok(()))
    }
}

/// Measures a folder of objects. Its files belong to git's user: links are not followed, and files may be gone already.
fn measure(folder: &Path, depth: usize) -> io::Result<ObjectUse> {
    let mut all = ObjectUse::default();
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(data) = entry.metadata() else { continue };
        if data.is_dir() {
            folders.push(entry.path());
            continue;
        }
        let is = |extension: &str| Path::new(&entry.file_name()).extension().is_some_and(|found| found == extension);
        all.bytes += data.len();
        all.objects += if is("idx") {
            data.len().saturating_sub(INDEX_BYTES) / INDEX_BYTES_PER_OBJECT
        } else {
            u64::from(entry.file_name().len() == 38)
        };
    }
    let below = |folder: &PathBuf| {
        if depth > 1 { measure(folder, depth - 1).unwrap_or_default() } else { ObjectUse::default() }
    };
    for used in folders.iter().map(below) {
        all.bytes += used.bytes;
        all.objects += used.objects;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_and_loose_objects_are_measured() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, bytes: usize| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, vec![0; bytes]).unwrap();
        };
        write("pack/pack-1.pack", 5000);
        // 7 objects.
        write("pack/pack-1.idx", 1072 + 7 * 28);
        write(&format!("ab/{}", "c".repeat(38)), 100);
        write("tmp_objdir-incoming-1/pack/pack-2.pack", 10);
        write("a/b/c/too-deep", 1);
        std::os::unix::fs::symlink("/", dir.path().join("link")).unwrap();
        let link = fs::symlink_metadata(dir.path().join("link")).unwrap().len();
        let used = measure(dir.path(), MAX_DEPTH).unwrap();
        assert_eq!(used, ObjectUse { bytes: 5000 + 1072 + 7 * 28 + 100 + 10 + link, objects: 8 });
    }
}
