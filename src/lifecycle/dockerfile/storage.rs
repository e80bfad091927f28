//! Where buildah keeps images (containers-storage(5)): on the app's disk, and those that the operator offers.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Deserialize;

use crate::{
    lifecycle::{dirs::Dirs, failure::Failure, protocol::Phase},
    model::Digest,
};

/// Names without a registry are those of Docker Hub, as in every Dockerfile (containers-registries.conf(5)).
const REGISTRIES: &str = "unqualified-search-registries = [\"docker.io\"]\nshort-name-mode = \"permissive\"\n";
/// Where the container has the store of offered images, if there are any.
const OFFERED: &str = "/cnb/offered/storage";
/// Largest configuration of an image, in bytes.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// An image in a store's list.
#[derive(Deserialize)]
struct StoredImage {
    id: String,
    #[serde(default)]
    names: Option<Vec<String>>,
}

/// The stores of images.
pub(super) struct Storage {
    /// The app's own.
    own: PathBuf,
    /// What the kernel must forget with the container.
    running: PathBuf,
    offered: Option<PathBuf>,
    /// Folder for temporary files, which also has the caches of `RUN --mount=type=cache`.
    pub(super) tmp: PathBuf,
    /// Folder for the image that is exported.
    pub(super) exported: PathBuf,
    /// Ids of the images of steps that the last build took from the cache.
    in_use: PathBuf,
    /// Changed when the last build began.
    begun: PathBuf,
    /// Configuration of registries.
    pub(super) registries: PathBuf,
}

impl Storage {
    /// The stores of a container.
    pub(super) fn open(dirs: &Dirs) -> Result<Self, Failure> {
        Self::prepare(dirs).map_err(Failure::io(Phase::Prepare, "prepare", &dirs.layers))
    }

    fn prepare(dirs: &Dirs) -> io::Result<Self> {
        let at = |name: &str| dirs.layers.join(name);
        let storage = Self {
            own: at("storage"),
            running: "/run/storage".into(),
            offered: Some(PathBuf::from(OFFERED)).filter(|path| path.is_dir()),
            tmp: at("tmp"),
            exported: at("exported"),
            in_use: at("in-use.json"),
            begun: at("begun"),
            registries: dirs.tmp.join("registries.conf"),
        };
        fs::write(&storage.registries, REGISTRIES)?;
        for folder in [&storage.tmp, &dirs.tmp.join("home")] {
            fs::create_dir_all(folder)?;
        }
        // Of a build that was killed; what belongs to other users cannot be removed, and is little.
        for entry in fs::read_dir(&storage.tmp)?.flatten() {
            if !entry.file_name().to_string_lossy().starts_with("buildah-cache-") {
                let _ = fs::remove_dir_all(entry.path()).or_else(|_| fs::remove_file(entry.path()));
            }
        }
        Ok(storage)
    }

    /// Options of buildah.
    pub(super) fn options(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let mut options: Vec<String> = vec!["--root".into(), path(&self.own), "--runroot".into(), path(&self.running)];
        options.extend(["--storage-driver".into(), "overlay".into()]);
        if let Some(offered) = &self.offered {
            options.extend(["--storage-opt".into(), format!("overlay.imagestore={}", offered.display())]);
        }
        options
    }

    /// The store in the reference of an image (containers-transports(5)).
    pub(super) fn reference(&self) -> String {
        let offered = self.offered.iter().map(|path| format!(":overlay.imagestore={}", path.display()));
        let offered: String = offered.collect();
        format!("containers-storage:[overlay@{}+{}{offered}]", self.own.display(), self.running.display())
    }

    /// The configuration of an image, whose digest is the image's id. (An export in the OCI format lacks what only Docker
    /// knows, such as `HEALTHCHECK`.)
    pub(super) fn config(&self, id: &Digest) -> Option<Vec<u8>> {
        [Some(&self.own), self.offered.as_ref()].into_iter().flatten().find_map(|store| {
            let files = fs::read_dir(store.join("overlay-images").join(id.hex())).ok()?;
            files.flatten().find_map(|entry| {
                let size = entry.metadata().ok()?.len();
                let bytes = (size <= MAX_CONFIG_BYTES).then(|| fs::read(entry.path()).ok())??;
                (Digest::of(&bytes) == *id).then_some(bytes)
            })
        })
    }

    /// Notes that a build begins.
    pub(super) fn build_begins(&self) {
        let _ = fs::write(&self.begun, "");
    }

    /// Notes which images a build took from the cache.
    pub(super) fn build_ended(&self, cached: &[String]) {
        let _ = fs::write(&self.in_use, serde_json::json!(cached).to_string());
    }

    /// Whether a build that was killed left containers behind.
    pub(super) fn has_containers(&self) -> bool {
        let containers = fs::read_to_string(self.own.join("overlay-containers/containers.json")).unwrap_or_default();
        containers.trim().len() > "[]".len()
    }

    /// Whether less than half of the disk is free.
    pub(super) fn is_half_full(&self) -> bool {
        rustix::fs::statvfs(&self.tmp).is_ok_and(|disk| disk.f_bavail.saturating_mul(2) < disk.f_blocks)
    }

    /// Names of the app's images that have one: those that were pulled.
    pub(super) fn named_images(&self) -> Vec<String> {
        self.own_images().into_iter().flat_map(|image| image.names.unwrap_or_default()).collect()
    }

    fn own_images(&self) -> Vec<StoredImage> {
        let list = fs::read(self.own.join("overlay-images/images.json")).unwrap_or_default();
        serde_json::from_slice(&list).unwrap_or_default()
    }

    /// Ids of the images without a name that the last build neither made nor took from the cache.
    pub(super) fn unused_images(&self) -> Vec<String> {
        let folder = self.own.join("overlay-images");
        let in_use = fs::read(&self.in_use).unwrap_or_default();
        let in_use: HashSet<String> = serde_json::from_slice(&in_use).unwrap_or_default();
        let changed = |path: &Path| fs::metadata(path).and_then(|data| data.modified());
        let begun = changed(&self.begun).unwrap_or(SystemTime::UNIX_EPOCH);
        let is_new = |id: &str| changed(&folder.join(id)).is_ok_and(|changed| changed >= begun);
        let unused = self.own_images().into_iter().filter(|image| {
            image.names.as_ref().is_none_or(Vec::is_empty) && !in_use.contains(&image.id) && !is_new(&image.id)
        });
        unused.map(|image| image.id).collect()
    }
}
