//! The protocol between the server and the lifecycle in a build container, over the container's stdin and stdout.
//!
//! A frame is one byte for its kind, the payload's length as a 32-bit big-endian number, and the payload.
//! A standby container, which was started before its build was known, first gets `Disk`, and answers `Ready` when it sees
//! the disk.
//! The server sends `Request` (what is to be done), the contents of the bindings that it names in `Binding` frames, then the source
//! as one tar in `Source` frames, then `SourceEnd`. It keeps stdin open until
//! it has the result: if stdin ends before that, the server is gone and the lifecycle exits.
//! The lifecycle sends `Line` for each line of progress, then `Blob` and `BlobData` for each layer that the server lacks,
//! and last `Result`. The server trusts none of it: it verifies each digest and each length.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
};

use serde::{Deserialize, Serialize};

use super::checksum::Checksum;
use crate::model::{Digest, Process};

/// Largest payload of a frame, in bytes.
pub const MAX_FRAME: usize = 1 << 20;

/// Kind of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// JSON of the device number of the disk that the build's folders are now on; server to lifecycle.
    Disk = b'M',
    /// Answer to `Disk`, empty; lifecycle to server.
    Ready = b'Y',
    /// JSON of [`Request`]; server to lifecycle.
    Request = b'R',
    /// Bytes of one file of a service binding; the files follow in the order of the request, empty ones have no frame; server to
    /// lifecycle.
    Binding = b'V',
    /// Bytes of the source tar; server to lifecycle.
    Source = b'S',
    /// End of the source tar; server to lifecycle.
    SourceEnd = b'E',
    /// JSON of [`crate::model::Line`]; lifecycle to server.
    Line = b'L',
    /// JSON of [`BlobHeader`]; `size` bytes follow in `BlobData` frames; lifecycle to server.
    Blob = b'B',
    /// Bytes of the blob that was announced last; lifecycle to server.
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
            b'V' => Self::Binding,
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

/// Reads one frame; `None` if the stream ends between frames.
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
    /// Id of the buildpack, as in its `buildpack.toml`.
    pub id: String,
    /// Version of the buildpack.
    pub version: String,
    /// Whether the group passes without it.
    #[serde(default)]
    pub optional: bool,
    /// Location of the buildpack.
    #[serde(default)]
    pub place: Place,
}

/// Location of a buildpack when a build begins.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Place {
    /// The container's folder of buildpacks.
    #[default]
    Installed,
    /// None: this script is its `bin/build` (`[io.buildpacks.group.script]` of a project descriptor).
    Inline {
        /// Buildpack API.
        api: String,
        /// Interpreter of the script, such as `/bin/sh`.
        shell: String,
        /// Text of the script.
        script: String,
    },
}

/// What the lifecycle is to do with the source.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "method")]
pub enum Request {
    /// Have buildpacks build it.
    Buildpacks(Box<BuildRequest>),
    /// Build its Dockerfile.
    Dockerfile(DockerfileRequest),
    /// Add the image that it is, an OCI image layout, to those that Dockerfiles may name without a registry.
    Offer {
        /// Name of the image, with registry and tag.
        name: String,
    },
    /// Fetch an image of a registry, and send it as one blob, the tar of `docker save`; the source is empty.
    Fetch {
        /// Name of the image.
        image: String,
        /// Whether its registry may be without TLS, or have a certificate that is not trusted.
        insecure: bool,
        /// The operator's variables for every process (CA bundle, proxies).
        operator_env: BTreeMap<String, String>,
    },
    /// Remove an image that was offered; the source is empty.
    Withdraw {
        /// Name of the image.
        name: String,
    },
}

/// A Dockerfile that is to be built. Not `Debug`: it has passwords and variables in it.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct DockerfileRequest {
    /// Path of the Dockerfile in the source.
    pub dockerfile: String,
    /// The stage to build; without one, the last.
    pub target: Option<String>,
    /// The user's variables: values of build arguments, and secrets for `RUN --mount=type=secret`.
    pub env: BTreeMap<String, String>,
    /// The operator's variables for every process of the build (CA bundle, proxies).
    pub operator_env: BTreeMap<String, String>,
    /// Logins of registries.
    pub logins: Vec<Login>,
    /// Layers that the server already has: they are named in the result but not sent.
    pub known_layers: Vec<KnownLayer>,
    /// Whether base images are pulled again, and every step runs.
    pub no_cache: bool,
}

/// Login of a registry, from which base images are pulled.
#[derive(Clone, Serialize, Deserialize)]
pub struct Login {
    /// Host, with a port if it is not the usual one.
    pub host: String,
    /// Name of the user.
    pub username: String,
    /// Password or token.
    pub password: String,
}

/// A layer that the server has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownLayer {
    /// SHA-256 of the uncompressed tar.
    pub digest: Digest,
    /// Size of the uncompressed tar, in bytes.
    pub size: u64,
}

/// A build by buildpacks that the lifecycle is to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildRequest {
    /// Groups, tried in this order.
    pub order: Vec<Vec<GroupEntry>>,
    /// The user's variables for the build: files of `<platform>/env`.
    pub env: BTreeMap<String, String>,
    /// Description of the source, for the label `io.buildpacks.project.metadata`.
    pub project: serde_json::Value,
    /// The operator's variables for every process of the build (CA bundle, proxies).
    pub operator_env: BTreeMap<String, String>,
    /// Id of the stack, for `CNB_STACK_ID`.
    pub stack_id: String,
    /// Platform of the image, for `CNB_TARGET_*`.
    pub target: Target,
    /// Label `io.buildpacks.lifecycle.metadata` of the app's previous image, unchanged.
    pub previous: Option<serde_json::Value>,
    /// Layers that the server already has: they are named in the result but not sent.
    pub known_blobs: Vec<Digest>,
    /// Whether buildpacks get nothing of earlier builds but `store.toml` (platform.md, `<skip-restore>`).
    pub skip_restore: bool,
    /// Size in bytes of the previous image's layer of bills of materials, which precedes the source in its frames; 0 if there
    /// is none.
    pub previous_sbom_bytes: u64,
    /// Files of service bindings, below `<platform>/bindings`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<BindingFile>,
}

/// A file of a service binding, whose content follows the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingFile {
    /// Path below the folder of bindings: `NAME/KEY`.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
}

/// Platform of the image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// Operating system: `linux`.
    pub os: String,
    /// Architecture: `amd64`, `arm64` …
    pub arch: String,
    /// Variant of the architecture; may be empty.
    pub arch_variant: String,
    /// Distribution: `debian`, `ubuntu` …
    pub distro_name: String,
    /// Version of the distribution: `13` …
    pub distro_version: String,
}

/// Announces a layer, or a download that other builds may share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobHeader {
    /// SHA-256 of the uncompressed tar, or of the downloaded file.
    pub digest: Digest,
    /// Size in bytes.
    pub size: u64,
    /// Checksum of a download, which is its name; `None` for a layer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub download: Option<Checksum>,
}

/// Result of a build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum BuildResult {
    /// The build succeeded: an image can be made of this.
    Built(Box<Built>),
    /// The Dockerfile was built.
    Image(Box<BuiltImage>),
    /// An image was offered or withdrawn.
    Done,
    /// An image was fetched, and sent as a blob.
    Fetched {
        /// Digest of the blob.
        tar: Digest,
    },
    /// The build failed.
    Failed {
        /// Phase in which it failed.
        phase: Phase,
        /// One line: what is wrong and what to do.
        message: String,
    },
}

/// The phases of a build, as the specification names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Reads request and source.
    Prepare,
    /// Chooses the buildpacks.
    Detect,
    /// Restores cached layers.
    Restore,
    /// Runs the buildpacks.
    Build,
    /// Makes image layers.
    Export,
}

/// What a build adds to the run image.
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
    /// Buildpacks that took part, in order.
    pub buildpacks: Vec<BuiltWith>,
    /// Duration of each phase, in milliseconds.
    pub timings: Vec<(Phase, u64)>,
}

/// The image of a Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltImage {
    /// Its configuration, as Docker writes it: that of the OCI image specification, and the `HEALTHCHECK`.
    pub config: serde_json::Value,
    /// Layers, lowest first, one for each of the configuration's `diff_ids`.
    pub layers: Vec<KnownLayer>,
    /// Duration of each phase, in milliseconds.
    pub timings: Vec<(Phase, u64)>,
}

/// A buildpack that took part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltWith {
    /// Id.
    pub id: String,
    /// Version.
    pub version: String,
    /// Buildpack API.
    pub api: String,
    /// URL of its documentation.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub homepage: String,
}

/// One layer of the image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuiltLayer {
    /// SHA-256 of the uncompressed tar.
    pub digest: Digest,
    /// Size of the uncompressed tar, in bytes.
    pub size: u64,
    /// What made the layer, for the image's history.
    pub created_by: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_requests_arrive_as_they_were_sent() {
        let image = BuiltImage { config: serde_json::json!({}), layers: Vec::new(), timings: vec![(Phase::Build, 1)] };
        for result in [
            BuildResult::Image(Box::new(image)),
            BuildResult::Done,
            BuildResult::Fetched { tar: Digest::of(b"tar") },
            BuildResult::Failed { phase: Phase::Export, message: "why".to_owned() },
        ] {
            let sent = serde_json::to_vec(&result).unwrap();
            assert_eq!(serde_json::from_slice::<BuildResult>(&sent).unwrap(), result);
        }
        for request in [
            Request::Offer { name: "a:1".to_owned() },
            Request::Fetch { image: "a:1".to_owned(), insecure: true, operator_env: BTreeMap::new() },
            Request::Withdraw { name: "a:1".to_owned() },
        ] {
            let sent = serde_json::to_vec(&request).unwrap();
            assert!(serde_json::from_slice::<Request>(&sent).is_ok());
        }
    }
}
