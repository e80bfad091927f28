//! What takes the server's disk, by app and kind.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
};

use schemars::JsonSchema;
use serde::Serialize;

use super::{deployer::Deployer, error::DeployError, gc::KEPT_IMAGES};
use crate::{
    data_dir::disk_usage,
    model::{AppName, Digest},
    store::{App, AppId},
};

/// Kind of what takes disk space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// The repository.
    Repository,
    /// Blobs of the kept images that no other app has.
    Images,
    /// Disks of builds, with their caches.
    BuildDisks,
    /// Files that its instances and tasks had written besides their volumes when these were last counted.
    Written,
    /// Disks of volumes.
    Volumes,
    /// Logs of the app.
    Logs,
    /// Logs of builds.
    BuildLogs,
    /// Output of tasks.
    TaskOutput,
    /// Blobs that several apps have, or that are of a stack or an offered image, once.
    SharedImages,
    /// Blobs that nothing needs; garbage collection removes them.
    UnusedImages,
    /// Disk of the offered images.
    OfferedImages,
    /// Packages of buildpacks.
    Buildpacks,
    /// Downloads that all builds share.
    Downloads,
    /// The database.
    Database,
}

impl DiskKind {
    /// Name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Repository => "repository",
            Self::Images => "images",
            Self::BuildDisks => "build disks",
            Self::Written => "written files",
            Self::Volumes => "volumes",
            Self::Logs => "logs",
            Self::BuildLogs => "build logs",
            Self::TaskOutput => "task output",
            Self::SharedImages => "shared images",
            Self::UnusedImages => "unused images",
            Self::OfferedImages => "offered images",
            Self::Buildpacks => "buildpacks",
            Self::Downloads => "downloads",
            Self::Database => "database",
        }
    }
}

/// What an app, or the server, has of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskUse {
    /// App; `None` for the server.
    pub app: Option<AppName>,
    /// Kind.
    pub kind: DiskKind,
    /// Size, in bytes.
    pub bytes: u64,
}

/// Who has a blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holder {
    Nobody,
    App(AppId),
    Several,
}

impl Deployer {
    /// What these apps take of the disk and, if `server`, what belongs to no app or to several.
    pub async fn disk_use(&self, apps: Vec<App>, server: bool) -> Result<Vec<DiskUse>, DeployError> {
        let this = &self.0;
        let in_use = this.store.releases_in_use(KEPT_IMAGES).await?;
        let all: Vec<_> = in_use.iter().map(|(.., image)| image.clone()).collect();
        let of_server = self.images_of_server(&all).await?;
        let mut with_volumes = Vec::new();
        for app in apps {
            let volumes = this.store.volumes(app.id).await?;
            let images = volumes.iter().map(|volume| this.volumes.image(volume.id)).collect();
            with_volumes.push((app, images));
        }
        let apps: Vec<(App, Vec<PathBuf>)> = with_volumes;
        let deployer = self.clone();
        let measured = tokio::task::spawn_blocking(move || {
            let holders = deployer.holders(in_use.into_iter().map(|(app, _, image)| (app, image)), of_server)?;
            let mut used = Vec::new();
            for (app, volumes) in &apps {
                used.extend(deployer.use_of_app(app, volumes, &holders)?);
            }
            if server {
                used.extend(deployer.use_of_server(&holders)?);
            }
            Ok(used)
        });
        measured.await.map_err(|_| DeployError::Cancelled)?
    }

    /// Who has each blob that is needed, with its size.
    fn holders(
        &self,
        of_apps: impl Iterator<Item = (AppId, Digest)>,
        of_server: Vec<Digest>,
    ) -> Result<HashMap<Digest, (Holder, u64)>, DeployError> {
        let images: HashSet<(Option<AppId>, Digest)> = of_apps
            .map(|(app, image)| (Some(app), image))
            .chain(of_server.into_iter().map(|image| (None, image)))
            .collect();
        let mut holders = HashMap::new();
        for (app, image) in images {
            for (digest, size) in self.0.images.parts(&image)? {
                let (holder, _) = holders.entry(digest).or_insert((Holder::Nobody, size));
                *holder = match (*holder, app) {
                    (Holder::Nobody, Some(app)) => Holder::App(app),
                    (Holder::App(one), Some(other)) if one == other => Holder::App(one),
                    (Holder::Nobody | Holder::App(_) | Holder::Several, _) => Holder::Several,
                };
            }
        }
        Ok(holders)
    }

    fn use_of_app(
        &self,
        app: &App,
        volumes: &[PathBuf],
        holders: &HashMap<Digest, (Holder, u64)>,
    ) -> Result<Vec<DiskUse>, DeployError> {
        let this = &self.0;
        let images = holders.values().filter(|(holder, _)| *holder == Holder::App(app.id)).map(|(_, size)| size).sum();
        let id = app.id.0;
        let written = this.disk_watch.written(app.id);
        let mut used = BTreeMap::from([(DiskKind::Images, images), (DiskKind::Written, written)]);
        let mut measure = |kind, path: &Path| {
            let bytes = disk_usage(path);
            let bytes = bytes.map_err(|source| DeployError::File { act: "read", path: path.to_owned(), source })?;
            *used.entry(kind).or_default() += bytes;
            Ok::<_, DeployError>(())
        };
        measure(DiskKind::Repository, this.repositories.get(&app.name).path())?;
        for disk in this.builder.disks(&id.to_string()) {
            measure(DiskKind::BuildDisks, &disk)?;
        }
        for image in volumes {
            measure(DiskKind::Volumes, image)?;
        }
        let data_dir = &this.config.data_dir;
        for (folder, kind) in
            [("logs", DiskKind::Logs), ("builds", DiskKind::BuildLogs), ("tasks", DiskKind::TaskOutput)]
        {
            measure(kind, &data_dir.join(folder).join(id.to_string()))?;
        }
        Ok(used.into_iter().map(|(kind, bytes)| DiskUse { app: Some(app.name.clone()), kind, bytes }).collect())
    }

    fn use_of_server(&self, holders: &HashMap<Digest, (Holder, u64)>) -> Result<Vec<DiskUse>, DeployError> {
        let this = &self.0;
        let shared = holders.values().filter(|(holder, _)| *holder == Holder::Several).map(|(_, size)| size).sum();
        let needed = holders.keys().cloned().collect();
        let unused = this.images.blobs().unused(&needed, std::time::Duration::ZERO)?;
        let mut used = BTreeMap::from([
            (DiskKind::SharedImages, shared),
            (DiskKind::UnusedImages, unused.iter().map(|blob| blob.size).sum()),
        ]);
        for (kind, name) in [
            (DiskKind::OfferedImages, "disks/offered-images.ext4"),
            (DiskKind::Buildpacks, "buildpacks"),
            (DiskKind::Downloads, "downloads"),
            (DiskKind::Database, "paas.db"),
            (DiskKind::Database, "paas.db-wal"),
        ] {
            let path = this.config.data_dir.join(name);
            let bytes = disk_usage(&path);
            let bytes = bytes.map_err(|source| DeployError::File { act: "read", path, source })?;
            *used.entry(kind).or_default() += bytes;
        }
        Ok(used.into_iter().map(|(kind, bytes)| DiskUse { app: None, kind, bytes }).collect())
    }
}
