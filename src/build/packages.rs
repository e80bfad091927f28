//! Buildpacks from elsewhere: a git repository, an image, a folder or an archive. What comes is staged, checked, and
//! kept by digest; nothing of it runs outside build containers.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
};

use futures_util::TryStreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{BuildError, Builder, Package, Packages};
use crate::{git::Repositories, images::ImageArchive, lifecycle, model::BuildpackSource, progress::Progress};

/// The most that a package may be, unpacked, in bytes.
const MOST_BYTES: u64 = 2 << 30;

/// The most that an image may be, in bytes.
const MOST_IMAGE_BYTES: u64 = 16 << 30;

impl Builder {
    /// Gets what a source names, and keeps it. `operator` may name files of this machine, and any repository.
    pub async fn fetch(
        &self,
        source: &BuildpackSource,
        repositories: &Repositories,
        operator: bool,
        progress: &Progress,
    ) -> Result<Package, BuildError> {
        let failed = |reason: String| BuildError::CannotFetch { from: source.to_string(), reason };
        let packages = self.packages().clone();
        match source {
            BuildpackSource::Name { .. } | BuildpackSource::App(_) => {
                Err(failed("it is not something that can be fetched".to_owned()))
            }
            BuildpackSource::Path(_) if !operator => {
                Err(failed("only an admin key may name files of the server".to_owned()))
            }
            BuildpackSource::Path(path) => {
                let path = path.clone();
                let taken = tokio::task::spawn_blocking(move || from_path(&packages, &path)).await;
                taken.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
            BuildpackSource::Git { url, reference, folder } => {
                progress.step(format!("Fetching the buildpack {source}")).await;
                let fetched = repositories.fetch(url, reference.as_deref(), folder.as_deref(), operator).await;
                let mut fetched = fetched.map_err(|e| failed(e.to_string()))?;
                let reader = std::mem::replace(&mut fetched.source.reader, Box::new(tokio::io::empty()));
                let taken = tokio::task::spawn_blocking(move || from_tar(&packages, SyncIoBridge::new(reader))).await;
                taken.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
            BuildpackSource::Image(image) => {
                progress.step(format!("Fetching the buildpack {source}")).await;
                if let Err(error) = self.inner.engine.pull_public(image).await
                    && (!operator || self.inner.engine.image_id(image).await?.is_none())
                {
                    return Err(failed(error.to_string()));
                }
                let (spool, archive) = self.image_archive(image).await.map_err(|e| failed(e.to_string()))?;
                let taken = tokio::task::spawn_blocking(move || {
                    let taken = from_image(&packages, &archive);
                    drop(spool);
                    taken
                });
                taken.await.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
        }
    }

    /// An image of the engine, unpacked in a folder that goes with its handle.
    pub async fn image_archive(&self, reference: &str) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let spool = self.packages().staging()?;
        let (path, tar) = (spool.path().to_owned(), self.inner.engine.save(reference));
        let reader = SyncIoBridge::new(StreamReader::new(tar.map_err(io::Error::other)));
        let unpacked = tokio::task::spawn_blocking(move || ImageArchive::unpack(reader, &path, MOST_IMAGE_BYTES)).await;
        Ok((spool, unpacked.map_err(|_| BuildError::ShuttingDown)??))
    }
}

/// An image of buildpacks: each layer holds some under `/cnb/buildpacks`.
fn from_image(packages: &Packages, archive: &ImageArchive) -> Result<Package, String> {
    let staged = packages.staging().map_err(|e| e.to_string())?;
    let mut left = MOST_BYTES;
    for layer in archive.layers() {
        let mut layer = layer.map_err(|e| e.to_string())?.take(left);
        lifecycle::unpack(&mut layer, staged.path())?;
        left = layer.limit();
    }
    packages.adopt(staged.path()).map_err(|e| e.to_string())
}

fn from_path(packages: &Packages, path: &Path) -> Result<Package, String> {
    let wrong = |e: io::Error| format!("{}: {e}", path.display());
    if fs::metadata(path).map_err(wrong)?.is_dir() {
        let staged = packages.staging().map_err(|e| e.to_string())?;
        let mut left = MOST_BYTES;
        copy(path, staged.path(), &mut left).map_err(wrong)?;
        return packages.adopt(staged.path()).map_err(|e| e.to_string());
    }
    let mut file = BufReader::new(File::open(path).map_err(wrong)?);
    if file.fill_buf().map_err(wrong)?.starts_with(&[0x1f, 0x8b]) {
        return from_tar(packages, flate2::bufread::GzDecoder::new(file));
    }
    if path.extension().is_some_and(|extension| extension == "cnb") {
        let spool = packages.staging().map_err(|e| e.to_string())?;
        let archive = ImageArchive::unpack(file, spool.path(), MOST_BYTES).map_err(|e| e.to_string())?;
        return from_image(packages, &archive);
    }
    from_tar(packages, file)
}

fn from_tar(packages: &Packages, tar: impl Read) -> Result<Package, String> {
    let staged = packages.staging().map_err(|e| e.to_string())?;
    lifecycle::unpack(tar.take(MOST_BYTES), staged.path())?;
    packages.adopt(staged.path()).map_err(|e| e.to_string())
}

/// Copies files, folders and links as they are; git's own folder is left out.
fn copy(from: &Path, to: &Path, left: &mut u64) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if entry.file_name() != ".git" {
                fs::create_dir(&target)?;
                copy(&source, &target, left)?;
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            let bytes = fs::copy(source, target)?;
            *left = left.checked_sub(bytes).ok_or_else(|| io::Error::other("it is larger than 2 GiB"))?;
        }
    }
    Ok(())
}
