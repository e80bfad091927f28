//! Image archives: the output of `docker save`, or an OCI image layout, such as a `.cnb` file (distribution.md of the
//! buildpacks specification). Their contents are not trusted.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    path::{Component, Path, PathBuf},
};

use serde::Deserialize;
use sha2::Digest as _;

use super::{
    error::{ImageError, Result},
    manifest::{Descriptor, History, ImageConfig, Manifest, architecture},
    store::{CREATED, Image, ImageStore},
};
use crate::model::{Digest, Line};

/// Maximum number of entries of an archive.
const MAX_ENTRIES: usize = 100_000;
/// Maximum size of a manifest or configuration, in bytes.
const MAX_DOCUMENT_BYTES: u64 = 16 << 20;

fn invalid(reason: impl Into<String>) -> ImageError {
    ImageError::Archive(reason.into())
}

/// An image archive that is unpacked into a folder; the folder must exist as long as this is used.
#[derive(Debug)]
pub struct ImageArchive {
    config: ImageConfig,
    layers: Vec<PathBuf>,
}

/// An image in the `manifest.json` of `docker save`.
#[derive(Deserialize)]
struct SavedImage {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

/// An image index: the `index.json` of an OCI layout, or an index to which it refers.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<IndexEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct IndexEntry {
    media_type: Option<String>,
    digest: Digest,
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    architecture: String,
    os: String,
}

impl ImageArchive {
    /// Unpacks a tar with at most `max_bytes` of files into the empty folder `spool`, and reads its manifest. Blocks.
    pub fn unpack(tar: impl Read, spool: &Path, max_bytes: u64) -> Result<Self> {
        let broken = |e: io::Error| {
            // It may repeat bytes of the archive.
            invalid(format!("it is not a complete tar: {}", Line::beginning(&e.to_string(), 200)))
        };
        let mut archive = tar::Archive::new(tar);
        let mut left = max_bytes;
        let mut links = Vec::new();
        for (count, entry) in archive.entries().map_err(broken)?.enumerate() {
            let mut entry = entry.map_err(broken)?;
            if count > MAX_ENTRIES {
                return Err(invalid(format!("it has more than {MAX_ENTRIES} entries")));
            }
            let name = entry.path().map_err(broken)?.into_owned();
            let leaves_folder = name.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir));
            let kind = entry.header().entry_type();
            let skipped = kind.is_dir() || kind.is_pax_global_extensions();
            if leaves_folder || !(kind.is_file() || kind.is_symlink() || skipped) {
                return Err(invalid(format!("the entry {} is not allowed", shown(&name))));
            }
            // `docker save` of old engines writes links for identical layers.
            if let (true, Some(target)) = (kind.is_symlink(), entry.link_name().map_err(broken)?) {
                links.push((name.clone(), name.parent().unwrap_or(Path::new("")).join(target)));
                continue;
            }
            if skipped {
                continue;
            }
            left =
                left.checked_sub(entry.size()).ok_or_else(|| invalid(format!("it has more than {max_bytes} bytes")))?;
            let path = spool.join(&name);
            let failed = |source| ImageError::File { act: "write", path: path.clone(), source };
            path.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
            let mut file = File::create(&path).map_err(failed)?;
            io::copy(&mut entry, &mut file).map_err(failed)?;
        }
        for (name, target) in links {
            let target = normalized(&target)
                .ok_or_else(|| invalid(format!("the link {} leads out of the archive", shown(&name))))?;
            let (from, to) = (spool.join(target), spool.join(&name));
            let failed = |source| ImageError::File { act: "link", path: to.clone(), source };
            to.parent().map_or(Ok(()), fs::create_dir_all).map_err(failed)?;
            fs::hard_link(from, &to).map_err(failed)?;
        }
        if spool.join("manifest.json").is_file() { Self::saved(spool) } else { Self::layout(spool) }
    }

    fn saved(spool: &Path) -> Result<Self> {
        let manifests: Vec<SavedImage> = document(&spool.join("manifest.json"), "manifest.json")?;
        let [SavedImage { config, layers }] = &manifests[..] else {
            return Err(invalid(format!("manifest.json lists {} images instead of one", manifests.len())));
        };
        let config = document(&inside(spool, config)?, config)?;
        let layers = layers.iter().map(|layer| inside(spool, layer)).collect::<Result<_>>()?;
        Ok(Self { config, layers })
    }

    fn layout(spool: &Path) -> Result<Self> {
        let mut index: Index = document(&spool.join("index.json"), "index.json")?;
        for _ in 0..2 {
            let fits = |entry: &&IndexEntry| {
                entry.platform.as_ref().is_none_or(|p| p.os == "linux" && p.architecture == architecture())
            };
            let entry = index
                .manifests
                .iter()
                .find(fits)
                .ok_or_else(|| invalid("it has no image for this machine's architecture"))?;
            if entry
                .media_type
                .as_ref()
                .is_some_and(|kind| kind.ends_with("index.v1+json") || kind.ends_with("list.v2+json"))
            {
                index = blob(spool, &entry.digest)?;
                continue;
            }
            let manifest: Manifest = blob(spool, &entry.digest)?;
            let config = blob(spool, &manifest.config.digest)?;
            let layers = manifest.layers.iter().map(|layer| spool.join("blobs/sha256").join(layer.digest.hex()));
            return Ok(Self { config, layers: layers.collect() });
        }
        Err(invalid("its indexes are nested too deeply"))
    }

    /// Labels of the configuration.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.config.config.labels.clone()
    }

    /// Layers, lowest first, as uncompressed tars.
    pub fn layers(&self) -> impl Iterator<Item = Result<Box<dyn Read>>> {
        self.layers.iter().map(|path| open(path))
    }
}

/// A path of the archive in a message.
fn shown(path: &Path) -> String {
    Line::beginning(&path.to_string_lossy(), 200)
}

/// A relative path without `..`; `None` if it leads out of its start folder.
fn normalized(path: &Path) -> Option<PathBuf> {
    let mut normalized = PathBuf::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => normalized.push(part),
            Component::CurDir => {}
            Component::ParentDir => normalized.pop().then_some(())?,
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normalized)
}

/// The unpacked file to which a document of the archive refers.
fn inside(spool: &Path, name: &str) -> Result<PathBuf> {
    let is_inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    if is_inside { Ok(spool.join(name)) } else { Err(invalid(format!("it refers to {name:?}"))) }
}

/// Reads a document.
fn document<T: serde::de::DeserializeOwned>(path: &Path, name: &str) -> Result<T> {
    let file = File::open(path).map_err(|e| invalid(format!("{name} cannot be read: {e}")))?;
    let mut text = Vec::new();
    file.take(MAX_DOCUMENT_BYTES).read_to_end(&mut text).map_err(|e| invalid(format!("{name} cannot be read: {e}")))?;
    parsed(&text, name)
}

/// Reads a document by its digest, which is verified.
fn blob<T: serde::de::DeserializeOwned>(spool: &Path, digest: &Digest) -> Result<T> {
    let path = spool.join("blobs/sha256").join(digest.hex());
    let failed = |e: io::Error| invalid(format!("blob {digest} cannot be read: {e}"));
    let mut bytes = Vec::new();
    File::open(&path).map_err(failed)?.take(MAX_DOCUMENT_BYTES).read_to_end(&mut bytes).map_err(failed)?;
    if Digest::of(&bytes) != *digest {
        return Err(invalid(format!("the contents of blob {digest} do not match its digest")));
    }
    parsed(&bytes, digest.as_str())
}

fn parsed<T: serde::de::DeserializeOwned>(text: &[u8], name: &str) -> Result<T> {
    serde_json::from_slice(text).map_err(|e| invalid(format!("{name} is invalid: {e}")))
}

/// Opens a layer and decompresses it if necessary.
fn open(path: &Path) -> Result<Box<dyn Read>> {
    let failed = |source| ImageError::File { act: "read", path: path.to_owned(), source };
    let mut file = BufReader::with_capacity(256 * 1024, File::open(path).map_err(failed)?);
    let begin = file.fill_buf().map_err(failed)?;
    if begin.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(file)));
    }
    if begin.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let decoder = ruzstd::decoding::StreamingDecoder::new(file);
        return Ok(Box::new(decoder.map_err(|e| invalid(format!("a layer is not valid zstd data: {e}")))?));
    }
    Ok(Box::new(file))
}

impl ImageStore {
    /// Adds the image of an archive to the store: its layers uncompressed, its configuration unchanged. Blocks.
    pub fn import(&self, archive: &ImageArchive) -> Result<Image> {
        let ImageArchive { config, .. } = archive;
        if config.rootfs.diff_ids.len() != archive.layers.len() {
            return Err(invalid("its configuration and its manifest have different numbers of layers"));
        }
        let mut layers = Vec::new();
        for (layer, expected) in archive.layers().zip(&config.rootfs.diff_ids) {
            let mut layer = layer?;
            let mut writer = self.blobs().writer()?;
            let mut sum = sha2::Sha256::new();
            let mut buffer = vec![0; 256 * 1024];
            loop {
                let length =
                    layer.read(&mut buffer).map_err(|e| invalid(format!("layer {expected} cannot be read: {e}")))?;
                if length == 0 {
                    break;
                }
                sum.update(&buffer[..length]);
                writer.write(&buffer[..length])?;
            }
            let (digest, size) = (Digest::from_sha256(&sum.finalize().into()), writer.size());
            if digest != *expected {
                return Err(invalid(format!("layer {expected} has the digest {digest}")));
            }
            writer.finish(&digest, size)?;
            layers.push(Descriptor::layer(digest, size));
        }
        let diff_ids = config.rootfs.diff_ids.clone();
        let history = config.steps_of_layers().map(|created_by| History::of(CREATED, created_by)).collect();
        self.put_image(&config.architecture, layers, diff_ids, history, config.config.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    fn tar(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *bytes).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn unpack(bytes: &[u8]) -> Result<(tempfile::TempDir, ImageArchive), String> {
        let spool = tempfile::tempdir().unwrap();
        let archive = ImageArchive::unpack(bytes, spool.path(), 1 << 20).map_err(|e| e.to_string())?;
        Ok((spool, archive))
    }

    fn config(layer: &[u8]) -> Vec<u8> {
        json!({ "architecture": "amd64", "os": "linux", "config": { "Env": null, "Labels": { "a": "b" }, "User": "x" },
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(layer)] },
            "history": [{ "created_by": "FROM", "empty_layer": true }, { "created_by": "COPY" }] })
        .to_string()
        .into_bytes()
    }

    fn saved(config: &[u8], layer: &[u8]) -> Vec<u8> {
        let manifest = json!([{ "Config": "c.json", "RepoTags": null, "Layers": ["l/layer.tar"] }]).to_string();
        tar(&[("manifest.json", manifest.as_bytes()), ("c.json", config), ("l/layer.tar", layer)])
    }

    #[test]
    fn both_formats_give_the_same_image() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let layer = tar(&[("etc/x", b"y")]);
        let (_one, archive) = unpack(&saved(&config(&layer), &layer)).unwrap();
        let image = store.import(&archive).unwrap();
        assert_eq!(store.describe(&image.manifest).unwrap()[0].created_by, "COPY");
        assert_eq!(store.labels(&image.manifest).unwrap()["a"], "b");

        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&layer).unwrap();
        let gzip = gzip.finish().unwrap();
        let config = config(&layer);
        let row = |bytes: &[u8]| json!({ "mediaType": "x", "digest": Digest::of(bytes), "size": bytes.len() });
        let manifest = json!({ "schemaVersion": 2, "config": row(&config), "layers": [row(&gzip)] }).to_string();
        let index = json!({ "manifests": [
            { "digest": Digest::of(b"other"), "platform": { "os": "linux", "architecture": "s390x" } },
            { "digest": Digest::of(manifest.as_bytes()) }] })
        .to_string();
        let name = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
        let whole = tar(&[
            ("index.json", index.as_bytes()),
            (&name(manifest.as_bytes()), manifest.as_bytes()),
            (&name(&config), &config),
            (&name(&gzip), &gzip),
        ]);
        let (_two, archive) = unpack(&whole).unwrap();
        assert_eq!(store.import(&archive).unwrap(), image);
        let torn = tar(&[("index.json", index.as_bytes()), (&name(manifest.as_bytes()), b"{}")]);
        assert!(unpack(&torn).unwrap_err().contains("do not match its digest"));
    }

    #[test]
    fn links_to_layers_are_resolved() {
        assert_eq!(normalized(Path::new("b/../a/layer.tar")), Some("a/layer.tar".into()));
        assert_eq!(normalized(Path::new("b/../../a")), None);
        assert_eq!(normalized(Path::new("/a")), None);
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "b/layer.tar", "../a/layer.tar").unwrap();
        let manifest = br#"[{"Config":"c","Layers":["b/layer.tar"]}]"#;
        for (name, bytes) in [("a/layer.tar", &b"x"[..]), ("c", &config(b"x")), ("manifest.json", manifest)] {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, name, bytes).unwrap();
        }
        let (_spool, archive) = unpack(&tar.into_inner().unwrap()).unwrap();
        let mut text = String::new();
        archive.layers().next().unwrap().unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "x");
    }

    #[test]
    fn hostile_archives_are_refused() {
        for (bytes, says) in [
            (tar(&[("../x", b"")]), "the entry ../x is not allowed"),
            (tar(&[("a", &vec![0; 2 << 20])]), "more than 1048576 bytes"),
            (tar(&[("a", b"")]), "index.json cannot be read"),
            (
                tar(&[("manifest.json", br#"[{"Config":"../../etc/passwd","Layers":[]}]"#)]),
                "it refers to \"../../etc/passwd\"",
            ),
            (tar(&[("manifest.json", b"[]")]), "lists 0 images"),
            (b"nonsense".to_vec(), "it is not a complete tar"),
        ] {
            let error = unpack(&bytes).unwrap_err();
            assert!(error.contains(says) && !error.contains('\n'), "{error}");
        }
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        let (_spool, archive) = unpack(&saved(&config(b"one"), b"other")).unwrap();
        let error = store.import(&archive).unwrap_err().to_string();
        assert!(
            error.contains(&format!("layer {} has the digest {}", Digest::of(b"one"), Digest::of(b"other"))),
            "{error}"
        );
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_message, bytes_near, check_one_in};

    #[test]
    fn archives_are_unpacked_into_their_folder_alone() {
        let digest = Digest::of(b"{}");
        let config =
            format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{digest}"]}}}}"#);
        let archive = |files: &[(&str, &str)]| {
            let mut tar = tar::Builder::new(Vec::new());
            for (name, text) in files {
                let mut header = tar::Header::new_gnu();
                header.set_size(text.len() as u64);
                tar.append_data(&mut header, name, text.as_bytes()).unwrap();
            }
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(tar::EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, "b/layer.tar", "../layer.tar").unwrap();
            tar.into_inner().unwrap()
        };
        let saved = r#"[{"Config":"config.json","Layers":["layer.tar","b/layer.tar"]}]"#;
        let samples = [
            archive(&[("layer.tar", "x"), ("config.json", &config), ("manifest.json", saved)]),
            archive(&[("layer.tar", "x"), ("index.json", &format!(r#"{{"manifests":[{{"digest":"{digest}"}}]}}"#))]),
        ];
        check_one_in(16, bytes_near(&samples), |bytes| {
            let around = tempfile::tempdir().unwrap();
            let spool = around.path().join("spool");
            fs::create_dir(&spool).unwrap();
            match ImageArchive::unpack(&bytes[..], &spool, 1 << 20) {
                Ok(archive) => assert!(archive.layers.iter().all(|layer| layer.starts_with(&spool))),
                Err(error) => assert_message(&error),
            }
            let names: Vec<_> = fs::read_dir(around.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["spool"]);
        });
    }
}
