//! Paths in a build container and in an app image.

use std::path::PathBuf;

/// Folders and files of the lifecycle; the same in every container, others in tests.
#[derive(Debug, Clone)]
pub(super) struct Dirs {
    pub(super) layers: PathBuf,
    pub(super) workspace: PathBuf,
    pub(super) platform: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) buildpacks: PathBuf,
    /// The lifecycle's own binary.
    pub(super) lifecycle: PathBuf,
}

impl Default for Dirs {
    fn default() -> Self {
        Self {
            layers: "/layers".into(),
            workspace: "/workspace".into(),
            platform: "/platform".into(),
            tmp: "/tmp".into(),
            buildpacks: "/cnb/buildpacks".into(),
            lifecycle: "/cnb/lifecycle/lifecycle".into(),
        }
    }
}

impl Dirs {
    /// Folder of a buildpack's layers.
    pub(super) fn layers_of(&self, id: &str) -> PathBuf {
        self.layers.join(escaped(id))
    }

    /// Configuration that the launcher of an image reads (platform.md, `metadata.toml`).
    pub(super) fn launch_config(&self) -> PathBuf {
        self.layers.join("config/metadata.toml")
    }

    /// Folder of a buildpack's installed versions.
    pub(super) fn versions_of(&self, id: &str) -> PathBuf {
        self.buildpacks.join(escaped(id))
    }
}

/// The id of a buildpack as the name of a folder.
pub(super) fn escaped(id: &str) -> String {
    id.replace('/', "_")
}
