//! Fetching packages of buildpacks from a git repository, an image, a folder or an archive. The files are staged,
//! checked, and stored by digest; nothing of them runs outside build containers.

use std::{
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use futures_util::{TryStreamExt as _, future::BoxFuture};
use tokio::io::AsyncRead;
use tokio_util::io::{StreamReader, SyncIoBridge};

use super::{
    budget::BuildBudget,
    builder::Builder,
    error::{BuildError, BuildpacksError},
    packages::{Package, Packages},
    parts::{self, MAX_OF_PARTS},
    unpacked::{MAX_PACKAGE_BYTES, adopt, from_image, from_path},
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

const OWN_ADDRESSES: &str = "addresses of the server's own machine, of its containers, and of private networks";

/// Maximum number of packages that composite buildpacks name and that are fetched for one that is requested, those of parts
/// included: a package may name itself.
const MAX_FETCHED_PARTS: usize = 20;

/// Maximum size of an image, in bytes.
pub(super) const MAX_IMAGE_BYTES: u64 = 16 << 30;

/// One fetch, with those of the parts that a composite buildpack names.
#[derive(Clone, Copy)]
struct Fetch<'a> {
    repositories: &'a Repositories,
    /// Whether files and addresses of this machine may be named.
    admin: bool,
    budget: BuildBudget,
    progress: &'a Progress,
    /// Number of packages that parts had to be fetched as.
    fetched: &'a AtomicUsize,
    /// Where the package is stored.
    packages: &'a Packages,
}

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
        let (packages, fetched) = (self.packages(), &AtomicUsize::new(0));
        let fetch =
            Box::pin(self.fetch_now(source, Fetch { repositories, admin, budget, progress, fetched, packages }));
        if !admin && matches!(source, BuildpackSource::Image(_)) {
            return fetch.await;
        }
        tokio::time::timeout(FETCH_TIMEOUT, fetch).await.unwrap_or_else(|_| {
            let reason = format!("fetching it took more than {} minutes", FETCH_TIMEOUT.as_secs() / 60);
            Err(BuildError::CannotFetch { from: source.to_string(), reason })
        })
    }

    async fn fetch_now(&self, source: &BuildpackSource, fetch: Fetch<'_>) -> Result<Package, BuildError> {
        let failed = |reason: String| BuildError::CannotFetch { from: source.to_string(), reason };
        let only_admins = |what| BuildError::OnlyAdmins { from: source.to_string(), what };
        let Fetch { repositories, admin, budget, progress, .. } = fetch;
        let packages = fetch.packages.clone();
        match source {
            BuildpackSource::Name { .. } | BuildpackSource::App(_) => Err(failed(
                "name it by the absolute path of a folder, .tgz or .cnb file, a git URL, or docker://IMAGE".to_owned(),
            )),
            BuildpackSource::Path(_) if !admin => Err(only_admins("files of the server")),
            BuildpackSource::Path(path) => {
                let folder = path.clone();
                let taken = tokio::task::spawn_blocking(move || {
                    if parts::is_composite(&folder) { Ok(None) } else { from_path(&packages, &folder).map(Some) }
                });
                match taken.await.map_err(|_| BuildError::ShuttingDown)?.map_err(failed)? {
                    Some(package) => Ok(package),
                    None => self.composite(path, None, fetch).await.map_err(|e| failed(e.to_string())),
                }
            }
            BuildpackSource::Git { url, reference, folder } => {
                progress.step(format!("Fetching the buildpack {source}")).await;
                let from = if admin {
                    Origin::Any
                } else {
                    Origin::At(self.remote_addresses(url.expose()).await?.ok_or_else(|| only_admins(OWN_ADDRESSES))?)
                };
                let commit = repositories.fetch(url, reference.as_deref(), folder.as_deref(), &from).await;
                let mut commit = commit.map_err(|e| failed(e.to_string()))?;
                let reader = std::mem::replace(&mut commit.source.reader, Box::new(tokio::io::empty()));
                self.unpack_source(reader, "", fetch).await.map_err(|e| failed(e.to_string()))
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

    /// Stores the buildpack in a folder of an app's source, with the parts that it names, as it was pushed: whatever the build
    /// leaves out of the app's folder or does to it. `shown` names it in messages.
    pub async fn fetch_from_app(
        &self,
        source: Box<dyn AsyncRead + Send + Unpin>,
        folder: &str,
        shown: &str,
        repositories: &Repositories,
        budget: BuildBudget,
        progress: &Progress,
    ) -> Result<Package, BuildError> {
        let (packages, fetched) = (self.packages(), &AtomicUsize::new(0));
        let fetch = Fetch { repositories, admin: false, budget, progress, fetched, packages };
        let fetch = Box::pin(self.unpack_source(source, folder, fetch));
        fetch.await.map_err(|e| BuildError::CannotFetch { from: shown.to_owned(), reason: e.to_string() })
    }

    /// The package in a folder of a source, which is one tar.
    async fn unpack_source(
        &self,
        source: Box<dyn AsyncRead + Send + Unpin>,
        folder: &str,
        fetch: Fetch<'_>,
    ) -> Result<Package, BuildError> {
        let (packages, reader) = (fetch.packages.clone(), SyncIoBridge::new(source));
        let folder = folder.to_owned();
        let unpacked = tokio::task::spawn_blocking(move || {
            let staged = packages.staging().map_err(|e| e.to_string())?;
            lifecycle::unpack(reader.take(MAX_PACKAGE_BYTES), staged.path())?;
            let folder = if folder.is_empty() { staged.path().to_owned() } else { staged.path().join(folder) };
            if parts::is_composite(&folder) {
                return Ok(Unpacked::Composite { staged, folder });
            }
            let converted = lifecycle::convert_scripts_of_buildpack(&folder).map_err(|e| e.to_string())?;
            Ok(Unpacked::Stored { package: adopt(&packages, &folder)?, converted })
        });
        match unpacked.await.map_err(|_| BuildError::ShuttingDown)?.map_err(BuildpacksError::Unusable)? {
            Unpacked::Stored { package, converted } => {
                for line in converted {
                    fetch.progress.trouble(line).await;
                }
                Ok(package)
            }
            Unpacked::Composite { staged, folder } => self.composite(&folder, Some(staged.path()), fetch).await,
        }
    }

    /// Stores a composite buildpack that is a folder, with its parts. They lie `within` a folder that was fetched, if there is one.
    fn composite<'a>(
        &'a self,
        folder: &Path,
        within: Option<&Path>,
        fetch: Fetch<'a>,
    ) -> BoxFuture<'a, Result<Package, BuildError>> {
        let (folder, within) = (folder.to_owned(), within.map(Path::to_owned));
        let packages = fetch.packages.clone();
        Box::pin(async move {
            let store = packages.clone();
            let found = tokio::task::spawn_blocking(move || {
                let parts = parts::find(&folder, within.as_deref()).map_err(BuildpacksError::Unusable)?;
                // The package has copies of what it needs of its parts.
                Ok::<_, BuildpacksError>((parts, store.temporary()?))
            });
            let (parts, of_parts) = found.await.map_err(|_| BuildError::ShuttingDown)??;
            let fetched = self.fetch_parts(&parts.sources, Fetch { packages: &of_parts, ..fetch }).await;
            let package = tokio::task::spawn_blocking(move || {
                let others = fetched?;
                parts::package(&packages, &of_parts, &parts, &others).map_err(|e| BuildpacksError::Unusable(e).into())
            });
            package.await.map_err(|_| BuildError::ShuttingDown)?
        })
    }

    /// Fetches parts that are elsewhere, one after the other. All of one request are counted, those of parts included.
    async fn fetch_parts(&self, sources: &[BuildpackSource], fetch: Fetch<'_>) -> Result<Vec<Package>, BuildError> {
        let (mut parts, mut bytes) = (Vec::new(), 0);
        for source in sources {
            if fetch.fetched.fetch_add(1, Ordering::Relaxed) >= MAX_FETCHED_PARTS {
                let text = format!(
                    "its parts name more than {MAX_FETCHED_PARTS} others that are to be fetched, or one another: put them into folders \
                     of one repository"
                );
                return Err(BuildpacksError::Unusable(text).into());
            }
            let part = self.fetch_now(source, fetch).await?;
            let (store, digest) = (fetch.packages.clone(), part.digest.clone());
            let size = tokio::task::spawn_blocking(move || store.size(&digest)).await;
            bytes += size.map_err(|_| BuildError::ShuttingDown)??;
            if bytes > MAX_PACKAGE_BYTES {
                return Err(BuildpacksError::Unusable(MAX_OF_PARTS.to_owned()).into());
            }
            parts.push(part);
        }
        Ok(parts)
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

/// A source that was unpacked.
enum Unpacked {
    /// Its buildpacks are stored.
    Stored {
        package: Package,
        /// Lines about scripts with Windows line ends.
        converted: Vec<String>,
    },
    /// Its parts are to be found.
    Composite { staged: tempfile::TempDir, folder: PathBuf },
}

fn without_credentials(reference: &ImageReference) -> Result<&str, BuildError> {
    if reference.has_credentials() {
        return Err(BuildError::ImageCredentials(reference.clone()));
    }
    Ok(reference.expose())
}
