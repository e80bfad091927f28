//! What garbage collection removes, and why.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::model::AppName;

/// What is younger than this may belong to something that is being made.
pub(super) const MIN_AGE: Duration = Duration::from_hours(6);

/// Kind of what is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GarbageKind {
    /// Images of old releases on the engine.
    Images,
    /// Rows of old releases.
    Releases,
    /// Blobs: layers, configurations and manifests.
    Blobs,
    /// Packages of buildpacks.
    Buildpacks,
    /// Logs of apps.
    Logs,
    /// Logs of builds.
    BuildLogs,
    /// Output of tasks.
    TaskOutput,
    /// Build disks.
    BuildDisks,
    /// Build caches of apps.
    BuildCaches,
}

impl GarbageKind {
    /// Name for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Images => "images",
            Self::Releases => "releases",
            Self::Blobs => "blobs",
            Self::Buildpacks => "buildpacks",
            Self::Logs => "logs",
            Self::BuildLogs => "build logs",
            Self::TaskOutput => "task output",
            Self::BuildDisks => "build disks",
            Self::BuildCaches => "build caches",
        }
    }

    /// Why it is removed.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Images => "neither current nor one of the last 10 releases",
            Self::Releases => "neither current, nor one of the last 10 that failed or the last 1000 that were released",
            Self::Blobs => "no kept release, stack or offered image has it, and nothing used it for 6 hours",
            Self::Buildpacks => "neither installed nor chosen by an app",
            Self::BuildCaches => "its owner's take more than allowed (quota: build-cache), and others were used since",
            Self::Logs | Self::BuildLogs | Self::TaskOutput | Self::BuildDisks => "its app does not exist any more",
        }
    }
}

/// Something that is removed, or would be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Garbage {
    /// App that it was made for, if that exists.
    pub app: Option<AppName>,
    /// Kind.
    pub kind: GarbageKind,
    /// How many of them.
    pub count: u64,
    /// What they take on the disk, in bytes; `None` if they share it with others.
    pub bytes: Option<u64>,
}

/// Whether garbage is removed or only looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collect {
    /// It is removed.
    Remove,
    /// It stays.
    DryRun,
}
