//! Fetching packages of buildpacks from a git repository, an image, a folder or an archive. The files are staged,
//! checked, and stored by digest; nothing of them runs outside build containers.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
    time::Duration,
};

use futures_util::TryStreamExt as _;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{
    budget::BuildBudget,
    builder::Builder,
    error::BuildError,
    packages::{Package, Packages},
};
use crate::{
    engine::{BuildNetwork, EngineError},
    git::{Origin, Repositories},
    images::ImageArchive,
    lifecycle,
    model::{BuildpackSource, ImageReference},
    progress::Progress,
};

/// Time that fetching a package may take, except in a container, which has a limit of its own and waits for its turn.
const FETCH_TIMEOUT: Duration = Duration::from_mins(10);

/// How a file begins that gzip compressed (RFC 1952, section 2.3.1).
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

const OWN_ADDRESSES: &str = "addresses of the server's own machine, of its containers, and of private networks";

/// Maximum size of a package, unpacked, in bytes.
const MAX_PACKAGE_BYTES: u64 = 2 << 30;

/// Maximum size of an image, in bytes.
pub(super) const MAX_IMAGE_BYTES: u64 = 16 << 30;

impl Builder {
    /// Fetches the package that a source names, and stores it. Only an `admin` may name files and addresses of this
    /// machine. An image is fetched in a container, which takes a turn of the budget's builds.
    pub async fn fetch(
        &self,
        source: &BuildpackSource,
        repositories: &Repositories,
        admin: bool,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<Package, BuildError> {
        let fetch = Box::pin(self.fetch_now(source, repositories, admin, budget, progress));
        if !admin && matches!(source, BuildpackSource::Image(_)) {
            return fetch.await;
        }
        tokio::time::timeout(FETCH_TIMEOUT, fetch).await.unwrap_or_else(|_| {
            let reason = format!("fetching it took more than {} minutes", FETCH_TIMEOUT.as_secs() / 60);
            Err(BuildError::CannotFetch { from: source.to_string(), reason })
        })
    }

    async fn fetch_now(
        &self,
        source: &BuildpackSource,
        repositories: &Repositories,
        admin: bool,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<Package, BuildError> {
        let failed = |reason: String| BuildError::CannotFetch { from: source.to_string(), reason };
        let only_admins = |what| BuildError::OnlyAdmins { from: source.to_string(), what };
        let packages = self.packages().clone();
        match source {
            BuildpackSource::Name { .. } | BuildpackSource::App(_) => Err(failed(
                "name it by the absolute path of a folder, .tgz or .cnb file, a git URL, or docker://IMAGE".to_owned(),
            )),
            BuildpackSource::Path(_) if !admin => Err(only_admins("files of the server")),
            BuildpackSource::Path(path) => {
                let path = path.clone();
                let taken = tokio::task::spawn_blocking(move || from_path(&packages, &path)).await;
                taken.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
            BuildpackSource::Git { url, reference, folder } => {
                progress.step(format!("Fetching the buildpack {source}")).await;
                let from = if admin {
                    Origin::Any
                } else {
                    Origin::At(self.remote_addresses(url.expose()).await?.ok_or_else(|| only_admins(OWN_ADDRESSES))?)
                };
                let fetched = repositories.fetch(url, reference.as_deref(), folder.as_deref(), &from).await;
                let mut fetched = fetched.map_err(|e| failed(e.to_string()))?;
                let reader = std::mem::replace(&mut fetched.source.reader, Box::new(tokio::io::empty()));
                let taken = tokio::task::spawn_blocking(move || from_tar(&packages, SyncIoBridge::new(reader))).await;
                taken.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
            BuildpackSource::Image(image) => {
                progress.step(format!("Fetching the buildpack {source}")).await;
                if !admin && self.remote_addresses(&format!("docker://{}", image.expose())).await?.is_none() {
                    return Err(only_admins(OWN_ADDRESSES));
                }
                let image = if admin {
                    self.image_for_admin(image, budget, progress).await
                } else {
                    without_credentials(image)
                        .map(|name| self.fetched_image(name, BuildNetwork::Builds, budget, progress))?
                        .await
                };
                let (spool, archive) = image.map_err(|e| failed(e.to_string()))?;
                let taken = tokio::task::spawn_blocking(move || {
                    let taken = from_image(&packages, &archive);
                    drop(spool);
                    taken
                });
                taken.await.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)
            }
        }
    }

    /// An image from a registry or, if none has it, from the engine, which can reach registries that builds cannot. The engine
    /// keeps the image only if it had it before.
    pub async fn image_for_admin(
        &self,
        reference: &ImageReference,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let reference = without_credentials(reference)?;
        let images = &self.0.engine_images;
        let had = images.image_id(reference).await?;
        if let Err(error) = images.pull_public(reference).await
            && had.is_none()
        {
            return Err(error.into());
        }
        let archive = self.image_archive(reference).await;
        if had.is_none() {
            images.forget_pulled(reference).await?;
        }
        match archive {
            // With a containerd image store, that is so if apps are based on a version of it.
            Err(BuildError::Engine(EngineError::PartialImage(_))) => {
                self.fetched_image(reference, BuildNetwork::Machine, budget, progress).await
            }
            archive => archive,
        }
    }

    /// An image of the engine, unpacked in a folder that is removed with its handle.
    pub async fn image_archive(&self, reference: &str) -> Result<(tempfile::TempDir, ImageArchive), BuildError> {
        let spool = self.packages().staging()?;
        let (path, tar) = (spool.path().to_owned(), self.0.engine_images.save(reference).await?);
        let reader = SyncIoBridge::new(StreamReader::new(tar.map_err(io::Error::other)));
        let unpacked = tokio::task::spawn_blocking(move || ImageArchive::unpack(reader, &path, MAX_IMAGE_BYTES)).await;
        Ok((spool, unpacked.map_err(|_| BuildError::ShuttingDown)??))
    }
}

fn without_credentials(reference: &ImageReference) -> Result<&str, BuildError> {
    if reference.has_credentials() {
        return Err(BuildError::ImageCredentials(reference.clone()));
    }
    Ok(reference.expose())
}

/// An image of buildpacks: its layers contain them under `/cnb/buildpacks`.
fn from_image(packages: &Packages, archive: &ImageArchive) -> Result<Package, String> {
    let staged = packages.staging().map_err(|e| e.to_string())?;
    let mut left = MAX_PACKAGE_BYTES;
    for layer in archive.layers() {
        let mut layer = layer.map_err(|e| e.to_string())?.take(left);
        lifecycle::unpack(&mut layer, staged.path()).map_err(|e| format!("it is not an image of buildpacks: {e}"))?;
        left = layer.limit();
    }
    adopt(packages, staged.path())
}

/// Stores a staged package. Error messages name its files without the path of the staging folder.
fn adopt(packages: &Packages, staged: &Path) -> Result<Package, String> {
    let staging = format!("{}/", staged.display());
    packages.adopt(staged).map_err(|e| e.to_string().replace(&staging, ""))
}

fn from_path(packages: &Packages, path: &Path) -> Result<Package, String> {
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    if fs::metadata(path).map_err(failed)?.is_dir() {
        let staged = packages.staging().map_err(|e| e.to_string())?;
        let mut left = MAX_PACKAGE_BYTES;
        copy(path, staged.path(), &mut left).map_err(failed)?;
        return adopt(packages, staged.path());
    }
    let is_image = path.extension().is_some_and(|extension| extension == "cnb");
    from_archive(packages, File::open(path).map_err(failed)?, is_image)
}

/// A tar, which may be compressed; otherwise it may be an image.
pub(super) fn from_archive(packages: &Packages, archive: File, is_image: bool) -> Result<Package, String> {
    let mut file = BufReader::new(archive);
    if file.fill_buf().map_err(|e| e.to_string())?.starts_with(&GZIP) {
        return from_tar(packages, flate2::bufread::GzDecoder::new(file));
    }
    if is_image {
        let spool = packages.staging().map_err(|e| e.to_string())?;
        let archive = ImageArchive::unpack(file, spool.path(), MAX_PACKAGE_BYTES).map_err(|e| e.to_string())?;
        return from_image(packages, &archive);
    }
    from_tar(packages, file)
}

fn from_tar(packages: &Packages, tar: impl Read) -> Result<Package, String> {
    let staged = packages.staging().map_err(|e| e.to_string())?;
    lifecycle::unpack(tar.take(MAX_PACKAGE_BYTES), staged.path())?;
    adopt(packages, staged.path())
}

/// Copies files, folders and links as they are, except `.git` folders.
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
