//! The blob store. A blob appears under its digest only when it is complete, verified and on disk. What uses a blob again makes
//! it young again, and none that is young is removed: so garbage collection waits for nobody.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::{self, Read as _, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use sha2::Digest as _;

use super::error::{ImageError, Result, failed};
use crate::model::Digest;

/// Files by digest; cheap to clone. Its methods block.
#[derive(Debug, Clone)]
pub struct BlobStore {
    dir: PathBuf,
    /// Held while a blob appears, is used again, or is removed.
    change: Arc<Mutex<()>>,
}

/// A blob that was not in the store before, as it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewBlob {
    digest: Digest,
    inode: u64,
    modified: SystemTime,
}

/// A blob that nothing needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusedBlob {
    /// Its file.
    path: PathBuf,
    /// Size, in bytes.
    pub size: u64,
}

impl BlobStore {
    /// Opens the folder; creates it if necessary.
    pub fn open(dir: &Path) -> Result<Self> {
        let store = Self { dir: dir.to_owned(), change: Arc::default() };
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

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the blob is in the store, for what will name it in an image: it counts as new again.
    pub fn use_again(&self, digest: &Digest) -> Result<bool> {
        let _change = self.lock();
        self.touch(digest)
    }

    /// The same for a caller that holds the lock.
    fn touch(&self, digest: &Digest) -> Result<bool> {
        let path = self.path(digest);
        let touched = File::open(&path).and_then(|file| file.set_modified(SystemTime::now()));
        match touched {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(e) => Err(failed("use", &path)(e)),
        }
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
        if !self.use_again(&digest)? {
            let mut writer = self.writer()?;
            writer.write(bytes)?;
            writer.finish(&digest, bytes.len() as u64)?;
        }
        Ok(digest)
    }

    /// Adds a file that is known to have this digest: as a hard link if possible, else as a copy.
    pub fn adopt(&self, file: &Path, digest: &Digest) -> Result<()> {
        {
            let _change = self.lock();
            // The age of a linked file is that of the original.
            if self.touch(digest)? || fs::hard_link(file, self.path(digest)).is_ok() && self.touch(digest)? {
                return self.sync_names();
            }
        }
        let mut source = File::open(file).map_err(failed("read", file))?;
        let mut writer = self.writer()?;
        let size = io::copy(&mut source, &mut writer).map_err(failed("copy", file))?;
        writer.finish(digest, size).map(drop)
    }

    fn sync_names(&self) -> Result<()> {
        let dir = self.dir.join("sha256");
        File::open(&dir).and_then(|d| d.sync_all()).map_err(failed("sync", &dir))
    }

    /// Blobs that are older than `min_age` and not in `keep`.
    pub fn unused(&self, keep: &HashSet<Digest>, min_age: Duration) -> Result<Vec<UnusedBlob>> {
        let dir = self.dir.join("sha256");
        let mut unused = Vec::new();
        for entry in fs::read_dir(&dir).map_err(failed("read", &dir))? {
            let entry = entry.map_err(failed("read", &dir))?;
            let name = entry.file_name();
            let digest = format!("sha256:{}", name.to_string_lossy()).parse::<Digest>();
            if !digest.is_ok_and(|digest| keep.contains(&digest))
                && let Ok(metadata) = entry.metadata()
                && is_older(&metadata, min_age)
            {
                unused.push(UnusedBlob { path: entry.path(), size: metadata.len() });
            }
        }
        Ok(unused)
    }

    /// Removes an unused blob, unless it was used since; returns whether it is removed.
    pub fn remove_unused(&self, unused: &UnusedBlob, min_age: Duration) -> Result<bool> {
        let _change = self.lock();
        match fs::metadata(&unused.path) {
            Ok(metadata) if is_older(&metadata, min_age) => {
                fs::remove_file(&unused.path).map_err(failed("remove", &unused.path))?;
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Removes new blobs whose build failed; those that something else has used since stay.
    pub fn remove_new(&self, new: &[NewBlob]) -> Result<()> {
        for blob in new {
            let path = self.path(&blob.digest);
            let _change = self.lock();
            if NewBlob::of(&blob.digest, &path).is_ok_and(|now| now == *blob) {
                fs::remove_file(&path).map_err(failed("remove", &path))?;
            }
        }
        Ok(())
    }
}

fn is_older(metadata: &fs::Metadata, min_age: Duration) -> bool {
    metadata.modified().ok().and_then(|time| time.elapsed().ok()).is_some_and(|age| age > min_age)
}

impl NewBlob {
    fn of(digest: &Digest, path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self { digest: digest.clone(), inode: metadata.ino(), modified: metadata.modified()? })
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

    /// Verifies the blob, syncs it to disk and adds it to the store; `None` if the store has it already.
    pub fn finish(self, expected: &Digest, expected_size: u64) -> Result<Option<NewBlob>> {
        let actual = Digest::from_sha256(&self.sum.finalize().into());
        if actual != *expected || self.size != expected_size {
            let expected = expected.clone();
            return Err(ImageError::Mismatch { expected, expected_size, actual, actual_size: self.size });
        }
        self.file.as_file().sync_all().map_err(failed("sync", self.file.path()))?;
        let path = self.store.path(expected);
        let change = self.store.lock();
        // One that is damaged is replaced.
        let has = fs::metadata(&path).is_ok_and(|metadata| metadata.len() == expected_size);
        if has && self.store.touch(expected)? {
            return Ok(None);
        }
        self.file.persist(&path).map_err(|e| failed("write", &path)(e.error))?;
        let new = NewBlob::of(expected, &path).map_err(failed("read", &path))?;
        drop(change);
        self.store.sync_names()?;
        Ok(Some(new))
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
