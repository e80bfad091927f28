//! What the server and the lifecycle in a build container say to each other, over the container's stdin and stdout.
//!
//! A frame is one byte of kind, the payload's length as a 32-bit big-endian number, and the payload.
//! A container that was started before its build was known is first told `Disk`, and answers `Ready` when it sees it.
//! The server sends `Request`, then the source as one tar in `Source` frames, then `SourceEnd`; and keeps stdin
//! open until it has the result: when stdin ends before that, the server is gone and the lifecycle exits.
//! The lifecycle sends `Line` as things happen, then `Blob`, `BlobData` … for each layer that the server lacks,
//! and last `Result`. Nothing in it is trusted: the server verifies each digest and each length.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use crate::model::{Digest, Process};

/// The largest payload of one frame, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// Kinds of frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON of the device number of the disk that the build's folders are on by now; server to lifecycle.
    Disk = b'M',
    /// The answer to it, empty; lifecycle to server.
    Ready = b'Y',
    /// JSON of [`BuildRequest`]; server to lifecycle.
    Request = b'R',
    /// Bytes of the source tar; server to lifecycle.
    Source = b'S',
    /// The end of the source tar; server to lifecycle.
    SourceEnd = b'E',
    /// JSON of [`crate::model::Line`]; lifecycle to server.
    Line = b'L',
    /// JSON of [`BlobHeader`]; `size` bytes follow in `BlobData` frames; lifecycle to server.
    Blob = b'B',
    /// Bytes of the blob begun last; lifecycle to server.
    BlobData = b'D',
    /// JSON of [`BuildResult`], the last frame; lifecycle to server.
    Result = b'Z',
}

impl TryFrom<u8> for Kind {
    type Error = io::Error;

    fn try_from(byte: u8) -> io::Result<Self> {
        Ok(match byte {
            b'M' => Self::Disk,
            b'Y' => Self::Ready,
            b'R' => Self::Request,
            b'S' => Self::Source,
            b'E' => Self::SourceEnd,
            b'L' => Self::Line,
            b'B' => Self::Blob,
            b'D' => Self::BlobData,
            b'Z' => Self::Result,
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("unknown frame kind {other}"))),
        })
    }
}

/// Writes one frame.
pub fn write_frame(to: &mut impl Write, kind: Kind, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).ok().filter(|l| *l as usize <= MAX_FRAME);
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "frame is too long"))?;
    to.write_all(&[kind as u8])?;
    to.write_all(&length.to_be_bytes())?;
    to.write_all(payload)
}

/// Reads one frame; `None` at a clean end.
pub fn read_frame(from: &mut impl Read) -> io::Result<Option<(Kind, Vec<u8>)>> {
    let mut kind = [0; 1];
    if from.read(&mut kind)? == 0 {
        return Ok(None);
    }
    let mut length = [0; 4];
    from.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_FRAME {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "frame is too long"));
    }
    let mut payload = vec![0; length];
    from.read_exact(&mut payload)?;
    Ok(Some((Kind::try_from(kind[0])?, payload)))
}

/// One entry of an order group (`[[order.group]]` of the buildpack specification).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupEntry {
    /// The buildpack's id, as its `buildpack.toml` says.
    pub id: String,
    /// Its version.
    pub version: String,
    /// Whether the group passes without it.
    #[serde(default)]
    pub optional: bool,
    /// Where it is.
    #[serde(default)]
    pub place: Place,
}

/// Where a buildpack is when a build begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// In the container's folder of buildpacks.
    #[default]
    Installed,
    /// In this folder of the app.
    Source(String),
    /// It is this script (`[io.buildpacks.group.script]` of a project descriptor), for `bin/build`.
    Inline {
        /// The Buildpack API that it keeps to.
        api: String,
        /// What runs it, such as `/bin/sh`.
        shell: String,
        /// Its text.
        script: String,
    },
}

/// What the lifecycle is to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// Groups, tried in this order.
    pub order: Vec<Vec<GroupEntry>>,
    /// The environment that the user gives to the build: files of `<platform>/env`.
    pub env: BTreeMap<String, String>,
    /// What the image says of its source, for the label `io.buildpacks.project.metadata`.
    pub project: serde_json::Value,
    /// The environment that the operator gives to every process of the build (CA bundle, proxies).
    pub operator_env: BTreeMap<String, String>,
    /// The stack's id, for `CNB_STACK_ID`.
    pub stack_id: String,
    /// `CNB_TARGET_*`: os, arch, `arch_variant`, `distro_name`, `distro_version`.
    pub target: Target,
    /// The label `io.buildpacks.lifecycle.metadata` of the app's previous image, as it stands there.
    pub previous: Option<serde_json::Value>,
    /// Layers that the server has already: they are named in the result but not sent.
    pub known_blobs: Vec<Digest>,
}

/// The platform that is built for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// `linux`.
    pub os: String,
    /// `amd64`, `arm64` …
    pub arch: String,
    /// Variant of the architecture, or empty.
    pub arch_variant: String,
    /// `debian`, `ubuntu` …
    pub distro_name: String,
    /// `13` …
    pub distro_version: String,
}

/// Announces a layer, or a file that other builds may share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHeader {
    /// SHA-256 of the uncompressed tar, or of the file.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// It is no layer but a download, which is called so: see [`Checksum`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Checksum>,
}

/// How the build ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum BuildResult {
    /// An image can be made of this.
    Built(Box<Built>),
    /// It cannot, and why.
    Failed {
        /// In which phase.
        phase: Phase,
        /// One line: what is wrong and what to do.
        message: String,
    },
}

/// The phases of a build, as the specification names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reading request and source.
    Prepare,
    /// Which buildpacks take part.
    Detect,
    /// Cached layers come back.
    Restore,
    /// Buildpacks run.
    Build,
    /// Layers are made.
    Export,
}

/// What goes on top of the run image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Built {
    /// Layers, lowest first.
    pub layers: Vec<BuiltLayer>,
    /// Environment of the image's config, `NAME=value`, added to the run image's.
    pub env: Vec<String>,
    /// Folders that come first in the image's `PATH`.
    pub path: Vec<String>,
    /// Entrypoint of the image's config.
    pub entrypoint: Vec<String>,
    /// Working directory of the image's config.
    pub working_dir: String,
    /// Labels of the image's config; `io.buildpacks.lifecycle.metadata` lacks the keys `runImage` and `stack`, which the
    /// server adds.
    pub labels: BTreeMap<String, String>,
    /// Processes of the image.
    pub processes: Vec<Process>,
    /// Which buildpacks took part, in order.
    pub buildpacks: Vec<BuiltWith>,
    /// How long each phase took, in milliseconds.
    pub timings: Vec<(Phase, u64)>,
}

/// A buildpack that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltWith {
    /// Its id.
    pub id: String,
    /// Its version.
    pub version: String,
    /// The Buildpack API that it keeps to.
    pub api: String,
    /// Where to read about it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

/// One layer of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltLayer {
    /// SHA-256 of the uncompressed tar.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// What it is, for the image's history.
    pub created_by: String,
}
