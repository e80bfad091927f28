//! Images as OCI image layouts (image-layout.md of the OCI image specification).

use std::io::{self, Write};

use serde_json::json;

use super::{
    error::{ImageError, Result},
    manifest::MANIFEST_TYPE,
    store::ImageStore,
};
use crate::model::Digest;

impl ImageStore {
    /// Writes an image as the tar of a layout. Blocks.
    pub fn write_layout(&self, manifest: &Digest, to: impl Write) -> Result<()> {
        let mut tar = tar::Builder::new(to);
        let size = |digest: &Digest| self.blobs().size(digest)?.ok_or_else(|| ImageError::Missing(digest.clone()));
        let entry = json!({ "mediaType": MANIFEST_TYPE, "digest": manifest, "size": size(manifest)? });
        let index = json!({ "schemaVersion": 2, "manifests": [entry] }).to_string();
        let version = json!({ "imageLayoutVersion": "1.0.0" }).to_string();
        let failed = |e: io::Error| ImageError::Archive(format!("it cannot be written: {e}"));
        for (name, text) in [("oci-layout", version), ("index.json", index)] {
            tar.append_data(&mut header(text.len() as u64), name, text.as_bytes()).map_err(failed)?;
        }
        let mut blobs = self.layers(manifest)?;
        blobs.extend([manifest.clone(), self.config_digest(manifest)?]);
        blobs.sort();
        blobs.dedup();
        for digest in blobs {
            let (file, size) = self.blobs().open_blob(&digest)?.ok_or_else(|| ImageError::Missing(digest.clone()))?;
            tar.append_data(&mut header(size), format!("blobs/sha256/{}", digest.hex()), file).map_err(failed)?;
        }
        tar.finish().map_err(failed)
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(0o644);
    header
}
