//! Blobs by digest. A blob appears under its name only when it is whole, verified and on disk.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use sha2::Digest as _;

use super::{ImageError, Result};
use crate::model::Digest;

/// Blobs by digest; cheap to clone. Its methods block.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: PathBuf,
}

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
    let path = path.to_owned();
    move |source| ImageError::File { act, path, source }
}

impl BlobStore {
    /// Opens the folder, making it if need be.
    pub fn open(dir: &Path) -> Result<Self> {
        let store = Self { dir: dir.to_owned() };
        for folder in [dir.join("sha256"), store.unfinished()] {
            fs::create_dir_all(&folder).map_err(failed("make", &folder))?;
        }
        Ok(store)
    }

    /// Removes what an earlier process left unfinished: for the only one that writes to the folder, at its start.
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

    /// Whether the blob is here.
    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// The blob's size in bytes, if it is here.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>> {
        let path = self.path(digest);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(failed("read", &path)(e)),
        }
    }

    /// Opens the blob, if it is here; with its size in bytes.
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

    /// A small blob, whole.
    pub fn read_bytes(&self, digest: &Digest) -> Result<Vec<u8>> {
        const MOST: u64 = 16 << 20;
        let (file, _) = self.open_blob(digest)?.ok_or_else(|| ImageError::Missing(digest.clone()))?;
        let mut bytes = Vec::new();
        file.take(MOST).read_to_end(&mut bytes).map_err(failed("read", &self.path(digest)))?;
        Ok(bytes)
    }

    /// Begins a blob.
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

    /// Takes over a file that is known to have this digest: by a hard link where that is possible.
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

    /// Removes what is not to be kept and older than `young`; returns how many went.
    pub fn sweep(&self, keep: &HashSet<Digest>, young: Duration) -> Result<usize> {
        let dir = self.dir.join("sha256");
        let mut removed = 0;
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let entry = entry.map_err(failed("read", &dir))?;
            let name = entry.file_name();
            let digest = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>();
            let kept = digest.is_ok_and(|digest| keep.contains(&digest));
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|t| t.elapsed().ok());
            if !kept && age.is_some_and(|age| age > young) {
                fs::remove_file(entry.path()).map_err(failed("remove", &entry.path()))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A blob on its way in; what is dropped unfinished leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    file: tempfile::NamedTempFile,
    sum: sha2::Sha256,
    size: u64,
}

impl BlobWriter {
    /// Adds bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.write_all(bytes).map_err(failed("write", self.file.path()))
    }

    /// The bytes so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Verifies the blob, brings it to disk and gives it its name.
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
