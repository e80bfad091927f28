//! The blob store. A blob appears under its digest only when it is complete, verified and on disk.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::Digest as _;

use super::error::{ImageError, Result, failed};
use crate::model::Digest;

/// Files by digest; cheap to clone. Its methods block.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: PathBuf,
}

impl BlobStore {
    /// Opens the folder; creates it if necessary.
    pub fn open(dir: &Path) -> Result<Self> {
        let store = Self { dir: dir.to_owned() };
        for folder in [dir.join("sha256"), store.unfinished()] {
            fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        }
        Ok(store)
    }

    /// Removes incomplete blobs that a crashed process left. To be called at start, by the only process that writes to the
    /// folder.
    pub fn remove_unfinished(&self) -> Result<()> {
        let dir = self.unfinished();
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let path = entry.map_err(failed("read", &dir))?.path();
            fs::remove_file(&path).map_err(failed("remove", &path))?;
        }
        Ok(())
    }

    fn unfinished(&self) -> PathBuf {
        self.dir.join("unfinished")
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join("sha256").join(digest.hex())
    }

    /// Whether the blob is in the store.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// Size of the blob in bytes; `None` if it is not in the store.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path)(e)),
        }
    }

    /// Opens a blob, with its size in bytes; `None` if it is not in the store.
    pub fn open_blob(&self, digest: &Digest) -> Result<Option<(File, u64)>> {
        let path = self.path(digest);
        match File::open(&path) {
            Ok(file) => {
                let size = file.metadata().map_err(failed("read", &path))?.len();
                Ok(Some((file, size)))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path)(e)),
        }
    }

    /// Contents of a small blob.
    pub fn read_bytes(&self, digest: &Digest) -> Result<Vec<u8>> {
        const MAX_BYTES: u64 = 16 << 20;
        let (file, _) = self.open_blob(digest)?.ok_or_else(|| ImageError::Missing(digest.clone()))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(failed("read", &self.path(digest)))?;
        Ok(bytes)
    }

    /// Starts to write a blob.
    pub fn writer(&self) -> Result<BlobWriter> {
        let file =
            tempfile::NamedTempFile::new_in(self.unfinished()).map_err(failed("write in", &self.unfinished()))?;
        Ok(BlobWriter { store: self.clone(), file, sum: sha2::Sha256::new(), size: 0 })
    }

    /// Stores a small blob.
    pub fn put_bytes(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            let mut writer = self.writer()?;
            writer.write(bytes)?;
            writer.finish(&digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    /// Adds a file that is known to have this digest: as a hard link if possible, else as a copy.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<()> {
        let path = self.path(digest);
        if path.exists() || fs::hard_link(file, &path).is_ok() {
            return self.sync_names();
        }
        let mut source = File::open(file).map_err(failed("read", file))?;
        let mut writer = self.writer()?;
        let size = io::copy(&mut source, &mut writer).map_err(failed("copy", file))?;
        writer.finish(digest, size)
    }

    fn sync_names(&self) -> Result<()> {
        let dir = self.dir.join("sha256");
        File::open(&dir).and_then(|d| d.sync_all()).map_err(failed("sync", &dir))
    }

    /// Removes blobs that are older than `min_age` and not in `keep`; returns their number.
    pub fn sweep(&self, keep: &HashSet<Digest>, min_age: Duration) -> Result<usize> {
        let dir = self.dir.join("sha256");
        let mut removed = 0;
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let entry = entry.map_err(failed("read", &dir))?;
            let name = entry.file_name();
            let digest = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>();
            let kept = digest.is_ok_and(|digest| keep.contains(&digest));
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if !kept && age.is_some_and(|age| age > min_age) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A blob that is being written. It is removed if this is dropped before [`Self::finish`].
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    file: tempfile::NamedTempFile,
    sum: sha2::Sha256,
    size: u64,
}

impl BlobWriter {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(failed("write", self.file.path()))
    }

    /// Number of bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Verifies the blob, syncs it to disk and adds it to the store.
    pub fn finish(self, expected: &Digest, expected_size: u64) -> Result<()> {
        let actual = Digest::from_sha256(&self.sum.finalize().into());
        if actual != *expected || self.size != expected_size {
            let expected = expected.clone();
            return Err(ImageError::Mismatch { expected, expected_size, actual, actual_size: self.size });
        }
        self.file.as_file().sync_all().map_err(failed("sync", self.file.path()))?;
        let path = self.store.path(expected);
        self.file.persist(&path).map_err(|e| failed("write", &path)(e.error))?;
        self.store.sync_names()
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.as_file_mut().write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
