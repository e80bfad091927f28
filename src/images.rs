//! The image store: blobs by digest, images put together from them, the registry that serves them to the engine, and
//! the stacks that they stand on. It is the truth; the engine's images are a cache of it.

mod archive;
mod blobs;
mod contents;
mod launched;
mod manifest;
mod rebase;
mod registry;
mod stack;

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    time::Duration,
};

pub use archive::ImageArchive;
pub use blobs::{BlobStore, BlobWriter};
pub use launched::Conduct;
pub use registry::Registry;
pub use stack::{Definition, Stack, StackImage};

use crate::{
    lifecycle::protocol::{Built, BuiltLayer},
    model::{Digest, Process},
};
use manifest::{Descriptor, History, ImageConfig, Manifest, RootFs, RunConfig};

/// Why the image store fails.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file of the store, or of a stack.
    #[error("cannot {act} {path}: {source}")]
    File {
        /// What was tried.
        act: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// What came is not what was announced.
    #[error(
        "a layer was announced as {expected} with {expected_size} bytes, but {actual} with {actual_size} bytes came"
    )]
    Mismatch {
        /// The announced digest.
        expected: Digest,
        /// The announced size.
        expected_size: u64,
        /// The digest of what came.
        actual: Digest,
        /// Its size.
        actual_size: u64,
    },
    /// A layer that an image needs is not in the store.
    #[error("the image store lacks the blob {0}")]
    Missing(Digest),
    /// A blob that should be a manifest or a configuration is none.
    #[error("the blob {digest} is no image {what}: {source}")]
    NotAnImage {
        /// Which.
        digest: Digest,
        /// Which part of an image it should be.
        what: &'static str,
        /// Why not.
        source: serde_json::Error,
    },
    /// An image archive is none, or is hostile.
    #[error("the image archive cannot be used: {0}")]
    Archive(String),
    /// A layer of an image is not a tar.
    #[error("the layer {layer} is not a whole tar: {source}")]
    Layer {
        /// Which.
        layer: Digest,
        /// Why.
        source: std::io::Error,
    },
    /// An image does not stand on what it should.
    #[error("the image does not stand on the run image {0}: push again, or ps:rebuild")]
    NotOnBase(Digest),
    /// What a stack is to be made of is wrong.
    #[error("the definition of the stack cannot be used: {0}")]
    Definition(String),
    /// The stack cannot be made.
    #[error("cannot make the stack {stack}: {reason}")]
    Stack {
        /// Which.
        stack: String,
        /// Why, and what to do.
        reason: String,
    },
}

type Result<T, E = ImageError> = std::result::Result<T, E>;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The manifest: what a release keeps, and what the engine pulls by.
    pub manifest: Digest,
    /// The configuration: what engines call the image's id.
    pub config: Digest,
}

/// Constant, so that the same input gives the same image; the buildpack specification names this moment.
const CREATED: &str = "1980-01-01T00:00:01Z";

const LIFECYCLE_METADATA: &str = "io.buildpacks.lifecycle.metadata";
const BUILD_METADATA: &str = "io.buildpacks.build.metadata";

/// Images by the digest of their manifest; cheap to clone. Its methods block briefly, on small files.
#[derive(Debug, Clone)]
pub struct ImageStore {
    blobs: BlobStore,
}

impl ImageStore {
    /// Opens `<data_dir>/blobs`, making it if need be.
    pub fn open(data_dir: &Path) -> Result<Self> {
        Ok(Self { blobs: BlobStore::open(&data_dir.join("blobs"))? })
    }

    /// The blobs themselves.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// Puts what a build made on top of the stack's run image.
    pub fn assemble(&self, stack: &Stack, built: &Built) -> Result<Image> {
        let base = self.manifest(&stack.run.manifest)?;
        let base_config: ImageConfig = self.read(&base.config.digest, "configuration")?;
        let mut layers = base.layers;
        let mut diff_ids = base_config.rootfs.diff_ids;
        let mut history = base_config.history;
        for layer in &built.layers {
            let size = self.blobs.size(&layer.digest)?.ok_or_else(|| ImageError::Missing(layer.digest.clone()))?;
            layers.push(Descriptor::layer(layer.digest.clone(), size));
            diff_ids.push(layer.digest.clone());
            history.push(History::of(CREATED, layer.created_by.as_str()));
        }
        // What marks things as ours is not a buildpack's to say; what the base is called, a rebase takes over as well.
        let said = built.labels.iter().filter(|(name, _)| !name.starts_with("paas."));
        let mut labels: BTreeMap<_, _> = base_labels(&base_config.config.labels).chain(said).map(owned).collect();
        complete_metadata(&mut labels, stack);
        let run = RunConfig {
            user: Some("1000:1000".to_owned()),
            env: merged_env(&base_config.config.env, &built.env, &built.path),
            entrypoint: built.entrypoint.clone(),
            cmd: Vec::new(),
            working_dir: built.working_dir.clone(),
            labels,
            ..RunConfig::default()
        };
        self.put_image(&stack.target.arch, layers, diff_ids, history, run)
    }

    /// An image of one layer, as a stack's images are.
    fn put_base(&self, arch: &str, layer: Digest, labels: BTreeMap<String, String>) -> Result<Image> {
        let size = self.blobs.size(&layer)?.ok_or_else(|| ImageError::Missing(layer.clone()))?;
        let run = RunConfig {
            user: Some("1000:1000".to_owned()),
            env: vec![format!("PATH={DEFAULT_PATH}"), "LANG=C.UTF-8".to_owned()],
            entrypoint: Vec::new(),
            cmd: vec!["/bin/bash".to_owned()],
            working_dir: "/".to_owned(),
            labels,
            ..RunConfig::default()
        };
        let history = vec![History::of(CREATED, "mmdebstrap")];
        self.put_image(arch, vec![Descriptor::layer(layer.clone(), size)], vec![layer], history, run)
    }

    fn put_image(
        &self,
        arch: &str,
        layers: Vec<Descriptor>,
        diff_ids: Vec<Digest>,
        history: Vec<History>,
        run: RunConfig,
    ) -> Result<Image> {
        let config = ImageConfig {
            created: CREATED.to_owned(),
            architecture: arch.to_owned(),
            os: "linux".to_owned(),
            config: run,
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
            history,
        };
        let config = self.put_json(&config)?;
        let manifest = Manifest::new(Descriptor::config(config.0.clone(), config.1), layers);
        Ok(Image { manifest: self.put_json(&manifest)?.0, config: config.0 })
    }

    fn put_json(&self, value: &impl serde::Serialize) -> Result<(Digest, u64)> {
        let bytes = serde_json::to_vec(value).map_err(|source| ImageError::NotAnImage {
            digest: Digest::of(b""),
            what: "document",
            source,
        })?;
        Ok((self.blobs.put_bytes(&bytes)?, bytes.len() as u64))
    }

    fn manifest(&self, digest: &Digest) -> Result<Manifest> {
        self.read(digest, "manifest")
    }

    fn read<T: serde::de::DeserializeOwned>(&self, digest: &Digest, what: &'static str) -> Result<T> {
        let bytes = self.blobs.read_bytes(digest)?;
        serde_json::from_slice(&bytes).map_err(|source| ImageError::NotAnImage { digest: digest.clone(), what, source })
    }

    /// The id of an image's configuration: what the engine calls it once it has pulled it.
    pub fn config_digest(&self, manifest: &Digest) -> Result<Digest> {
        Ok(self.manifest(manifest)?.config.digest)
    }

    /// The labels of an image.
    pub fn labels(&self, manifest: &Digest) -> Result<BTreeMap<String, String>> {
        Ok(self.read::<ImageConfig>(&self.config_digest(manifest)?, "configuration")?.config.labels)
    }

    /// The layers of an image, lowest first.
    pub fn layers(&self, manifest: &Digest) -> Result<Vec<Digest>> {
        Ok(self.manifest(manifest)?.layers.into_iter().map(|layer| layer.digest).collect())
    }

    /// The layers of an image, lowest first, and what each is.
    pub fn describe(&self, manifest: &Digest) -> Result<Vec<BuiltLayer>> {
        let manifest = self.manifest(manifest)?;
        let config: ImageConfig = self.read(&manifest.config.digest, "configuration")?;
        let created_by =
            config.history.into_iter().map(|entry| entry.created_by).chain(std::iter::repeat(String::new()));
        let layers = manifest.layers.into_iter().zip(created_by);
        Ok(layers
            .map(|(layer, created_by)| BuiltLayer { digest: layer.digest, size: layer.size, created_by })
            .collect())
    }

    /// The manifest of the run image that an image was put on.
    pub fn run_image(&self, manifest: &Digest) -> Result<Option<Digest>> {
        if !self.blobs.has(manifest) {
            return Ok(None);
        }
        let labels = self.labels(manifest)?;
        let metadata =
            labels.get(LIFECYCLE_METADATA).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let reference = metadata.as_ref().and_then(|metadata| metadata["runImage"]["reference"].as_str());
        Ok(reference.and_then(|reference| reference.parse().ok()))
    }

    /// Whether every blob of an image is here.
    pub fn complete(&self, manifest: &Digest) -> Result<bool> {
        if !self.blobs.has(manifest) {
            return Ok(false);
        }
        let manifest = self.manifest(manifest)?;
        let mut needed = manifest.layers.iter().chain([&manifest.config]);
        Ok(needed.all(|blob| self.blobs.has(&blob.digest)))
    }

    /// The processes that an image's buildpacks declared, from its label.
    pub fn processes(&self, manifest: &Digest) -> Result<Vec<Process>> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            #[serde(default)]
            processes: Vec<Process>,
        }
        let labels = self.labels(manifest)?;
        let Some(text) = labels.get(BUILD_METADATA) else { return Ok(Vec::new()) };
        let metadata: Metadata = serde_json::from_str(text).map_err(|source| ImageError::NotAnImage {
            digest: manifest.clone(),
            what: "with build metadata",
            source,
        })?;
        Ok(metadata.processes)
    }

    /// Removes blobs that no image of `keep` needs and that are older than `young`.
    pub fn sweep(&self, keep: &[Digest], young: Duration) -> Result<usize> {
        let mut needed = HashSet::new();
        for image in keep {
            needed.insert(image.clone());
            if self.blobs.has(image) {
                let manifest = self.manifest(image)?;
                needed.insert(manifest.config.digest);
                needed.extend(manifest.layers.into_iter().map(|layer| layer.digest));
            }
        }
        self.blobs.sweep(&needed, young)
    }

    /// The layers that are named but not here.
    pub fn missing<'a>(&self, layers: &'a [BuiltLayer]) -> Option<&'a BuiltLayer> {
        layers.iter().find(|layer| !self.blobs.has(&layer.digest))
    }
}

/// Adds what only the server knows to the lifecycle's metadata (platform specification, "Labels").
fn complete_metadata(labels: &mut BTreeMap<String, String>, stack: &Stack) {
    let text = labels.get(LIFECYCLE_METADATA).map_or("{}", String::as_str);
    let Ok(serde_json::Value::Object(mut metadata)) = serde_json::from_str(text) else { return };
    name_run_image(&mut metadata, &stack.run.layer, &stack.run.manifest);
    metadata.insert("stack".to_owned(), serde_json::json!({ "runImage": { "image": stack.id } }));
    labels.insert(LIFECYCLE_METADATA.to_owned(), serde_json::Value::Object(metadata).to_string());
    labels.insert("io.buildpacks.stack.id".to_owned(), stack.id.clone());
    labels.insert("io.buildpacks.base.distro.name".to_owned(), stack.target.distro_name.clone());
    labels.insert("io.buildpacks.base.distro.version".to_owned(), stack.target.distro_version.clone());
}

fn name_run_image(metadata: &mut serde_json::Map<String, serde_json::Value>, top: &Digest, manifest: &Digest) {
    metadata.insert("runImage".to_owned(), serde_json::json!({ "topLayer": top, "reference": manifest }));
}

/// The labels that tell about a run image, and go with every image on it.
fn base_labels(labels: &BTreeMap<String, String>) -> impl Iterator<Item = (&String, &String)> {
    labels.iter().filter(|(name, _)| name.starts_with("io.buildpacks.base."))
}

fn owned((name, value): (&String, &String)) -> (String, String) {
    (name.clone(), value.clone())
}

fn env_name(entry: &str) -> &str {
    entry.split('=').next().unwrap_or_default()
}

/// The search path of an environment.
fn split_path(env: &[String]) -> &str {
    env.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or(DEFAULT_PATH)
}

/// The base's environment, where the upper one does not say otherwise, with `path` first in its search path.
fn merged_env(base: &[String], upper: &[String], path: &[String]) -> Vec<String> {
    let taken: HashSet<_> = upper.iter().map(|entry| env_name(entry)).chain(["PATH"]).collect();
    let path = path.iter().map(String::as_str).chain([split_path(base)]).collect::<Vec<_>>().join(":");
    let rest = base.iter().filter(|entry| !taken.contains(env_name(entry))).chain(upper).cloned();
    std::iter::once(format!("PATH={path}")).chain(rest).collect()
}

/// What the engine assumes where an image says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[cfg(test)]
mod tests;
