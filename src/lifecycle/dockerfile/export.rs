//! The image that was built, as configuration and uncompressed layers. Layers that the server has are not even read.

use std::{
    fs::{self, File},
    io::{self, Seek as _},
    path::Path,
};

use serde::Deserialize;
use sha2::Digest as _;

use super::commands::Buildah;
use crate::{
    lifecycle::{
        failure::Failure,
        files,
        output::Output,
        protocol::{BlobHeader, BuiltImage, KnownLayer, Phase},
    },
    model::{Digest, HashWriter},
};

/// `index.json` of an OCI image layout, as far as it matters.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<KnownDigest>,
}

#[derive(Deserialize)]
struct KnownDigest {
    digest: Digest,
}

/// An OCI image manifest, as far as it matters.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<KnownLayer>,
}

/// Writes the image into a folder, sends what the server lacks, and removes the folder.
pub(super) fn export(
    buildah: &Buildah<'_>,
    id: &Digest,
    known: &[KnownLayer],
    output: &Output,
) -> Result<BuiltImage, Failure> {
    let folder = &buildah.storage.exported;
    let failed = |message: String| Failure::new(Phase::Export, message);
    let config =
        buildah.storage.config(id).ok_or_else(|| failed("the configuration of the image is missing".into()))?;
    let config = serde_json::from_slice(&config).map_err(|e| failed(format!("the image is invalid: {e}")))?;
    if folder.exists() {
        files::remove_tree(folder).map_err(Failure::io(Phase::Export, "empty", folder))?;
    }
    stand_in_for(known, folder).map_err(Failure::io(Phase::Export, "prepare", folder))?;
    output.step("Exporting layers");
    buildah.export(id, folder).map_err(|reason| failed(format!("cannot export the image: {reason}")))?;

    let document = |path: &Path| files::read_text(path).map_err(failed).map(Option::unwrap_or_default);
    let parse_failed = |e: serde_json::Error| failed(format!("the exported image is invalid: {e}"));
    let index: Index = serde_json::from_str(&document(&folder.join("index.json"))?).map_err(parse_failed)?;
    let manifest = index.manifests.first().ok_or_else(|| failed("nothing was exported".to_owned()))?;
    let manifest = document(&blob(folder, &manifest.digest))?;
    let manifest: Manifest = serde_json::from_str(&manifest).map_err(parse_failed)?;
    let mut sent = 0;
    for layer in manifest.layers.iter().filter(|layer| !known.contains(layer)) {
        let path = blob(folder, &layer.digest);
        let header = BlobHeader { digest: layer.digest.clone(), size: layer.size, download: None };
        let file = File::open(&path).map_err(Failure::io(Phase::Export, "read", &path))?;
        output.blob(&header, file).map_err(Failure::io(Phase::Export, "send", &path))?;
        sent += layer.size;
    }
    output.detail(format!(
        "{} layers, {}.{} MB of them new",
        manifest.layers.len(),
        sent / 1_000_000,
        sent / 100_000 % 10
    ));
    let _ = files::remove_tree(folder);
    Ok(BuiltImage { config, layers: manifest.layers, timings: Vec::new() })
}

/// Sends a file. Returns its digest.
pub(super) fn send(path: &Path, output: &Output) -> Result<Digest, Failure> {
    let read_failed = || Failure::io(Phase::Export, "read", path);
    let mut sum = sha2::Sha256::new();
    let mut file = File::open(path).map_err(read_failed())?;
    let size = io::copy(&mut file, &mut HashWriter(&mut sum)).map_err(read_failed())?;
    let digest = Digest::from_sha256(&sum.finalize().into());
    file.rewind().map_err(read_failed())?;
    let header = BlobHeader { digest: digest.clone(), size, download: None };
    output.blob(&header, file).map_err(Failure::io(Phase::Export, "send", path))?;
    Ok(digest)
}

/// Puts empty files in the places of layers that the server has: skopeo takes the files of the right size for them.
fn stand_in_for(known: &[KnownLayer], folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder.join("blobs/sha256"))?;
    for layer in known {
        File::create(blob(folder, &layer.digest))?.set_len(layer.size)?;
    }
    Ok(())
}

fn blob(folder: &Path, digest: &Digest) -> std::path::PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}
