//! Buildpacks from elsewhere: a git repository, an image, a folder or an archive. What comes is staged, checked, and
//! kept by digest; nothing of it runs outside build containers.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{BuildError, Builder, Package, Packages};
use crate::{
    git::{Origin, Repositories},
    images::ImageArchive,
    lifecycle,
    model::BuildpackSource,
    progress::Progress,
};

/// How long a package may take to come.
const PATIENCE: Duration = Duration::from_mins(10);

const NOT_HERE: &str = "only an admin key may name what is on the server's own machine or in its containers";

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
        let fetched =
            tokio::time::timeout(PATIENCE, Box::pin(self.fetch_now(source, repositories, operator, progress))).await;
        fetched.unwrap_or_else(|_| {
            let reason = format!("it did not come within {} minutes", PATIENCE.as_secs() / 60);
            Err(BuildError::CannotFetch { from: source.to_string(), reason })
        })
    }

    async fn fetch_now(
        &self,
        source: &BuildpackSource,
        repositories: &Repositories,
        operator: bool,
        progress: &Progress,
    ) -> Result<Package, BuildError> {
        let failed = |reason: String| BuildError::CannotFetch { from: source.to_string(), reason };
        let packages = self.packages().clone();
        match source {
            BuildpackSource::Name { .. } | BuildpackSource::App(_) => Err(failed(
                "write the absolute path of a folder, .tgz or .cnb, a git URL, or docker://IMAGE".to_owned(),
            )),
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
                let from = if operator {
                    Origin::Any
                } else {
                    Origin::At(self.elsewhere(url).await?.ok_or_else(|| failed(NOT_HERE.to_owned()))?)
                };
                let fetched = repositories.fetch(url, reference.as_deref(), folder.as_deref(), &from).await;
                let mut fetched = fetched.map_err(|e| failed(e.to_string()))?;
                let reader = std::mem::replace(&mut fetched.source.reader, Box::new(tokio::io::empty()));
                let taken = tokio::task::spawn_blocking(move || from_tar(&packages, SyncIoBridge::new(reader))).await;
                taken.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
            BuildpackSource::Image(image) => {
                progress.step(format!("Fetching the buildpack {source}")).await;
                if !operator && self.elsewhere(&format!("docker://{image}")).await?.is_none() {
                    return Err(failed(NOT_HERE.to_owned()));
                }
                let (spool, archive) = self.public_image(image, operator).await.map_err(|e| failed(e.to_string()))?;
                let taken = tokio::task::spawn_blocking(move || {
                    let taken = from_image(&packages, &archive);
                    drop(spool);
                    taken
                });
                taken.await.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
        }
    }

    /// An image of a registry, or, for an operator, of the engine if no registry has it. What the engine did not have
    /// before, it does not keep.
    pub async fn public_image(
        &self,
        reference: &str,
        operator: bool,
    ) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let engine = &self.inner.engine;
        let had = engine.image_id(reference).await?;
        if let Err(error) = engine.pull_public(reference).await
            && (!operator || had.is_none())
        {
            return Err(error.into());
        }
        let archive = self.image_archive(reference).await;
        if had.is_none() {
            engine.forget_pulled(reference).await?;
        }
        archive
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
        lifecycle::unpack(&mut layer, staged.path()).map_err(|e| format!("it is no image of buildpacks: {e}"))?;
        left = layer.limit();
    }
    adopt(packages, staged.path())
}

/// What is wrong with a package is said of its files, not of where they are for the moment.
fn adopt(packages: &Packages, staged: &Path) -> Result<Package, String> {
    let place = format!("{}/", staged.display());
    packages.adopt(staged).map_err(|e| e.to_string().replace(&place, ""))
}

fn from_path(packages: &Packages, path: &Path) -> Result<Package, String> {
    let wrong = |e: io::Error| format!("{}: {e}", path.display());
    if fs::metadata(path).map_err(wrong)?.is_dir() {
        let staged = packages.staging().map_err(|e| e.to_string())?;
        let mut left = MOST_BYTES;
        copy(path, staged.path(), &mut left).map_err(wrong)?;
        return adopt(packages, staged.path());
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
    adopt(packages, staged.path())
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
