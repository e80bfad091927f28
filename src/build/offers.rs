//! Images that the operator offers as bases of Dockerfiles: from the engine, or from an archive that the caller sends.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Read},
    sync::Arc,
};

use tempfile::TempDir;
use tokio::io::AsyncRead;
use tokio_util::{io::SyncIoBridge, sync::CancellationToken};

use super::{
    builder::{Builder, BuilderShared},
    error::BuildError,
    fetch::MAX_IMAGE_BYTES,
    offered_store::DISK_MIB,
    session::SentBlobs,
    unpacked::GZIP,
};
use crate::{
    engine::{BuildNetwork, label},
    images::{ImageArchive, ImageError},
    lifecycle::{INIT_LABEL, protocol::Request},
    model::{Digest, ImageName},
    progress::Progress,
};

impl Builder {
    /// The image of this name that the engine has, unpacked in a folder that is removed with its handle.
    pub async fn image_of_engine(&self, name: &ImageName) -> Result<(TempDir, ImageArchive), BuildError> {
        let images = &self.0.engine_images;
        if images.image_id(name.full()).await?.is_none() {
            return Err(BuildError::NotOnEngine(name.clone()));
        }
        if images.is_private(name.full()).await? {
            return Err(BuildError::OwnImage(name.clone()));
        }
        self.image_archive(name.full()).await
    }

    /// Receives an image: the output of `docker save`, or a tar of an OCI image layout, either of which gzip may have
    /// compressed. It is unpacked in a folder that is removed with its handle.
    pub async fn receive_image(
        &self,
        input: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<(TempDir, ImageArchive), BuildError> {
        let spool = self.packages().staging()?;
        let reader = SyncIoBridge::new(input);
        // The thread has the folder: if the caller goes away, it writes on until its input ends.
        let unpacked = tokio::task::spawn_blocking(move || {
            let archive = unpack(reader, spool.path())?;
            Ok((spool, archive))
        });
        unpacked.await.map_err(|_| BuildError::ShuttingDown)?
    }

    /// Makes an image available to the builds of all Dockerfiles under this name, in place of an earlier one. Returns the
    /// digest of its manifest in the image store.
    pub async fn offer_image(
        &self,
        name: &ImageName,
        archive: ImageArchive,
        spool: TempDir,
        progress: &Progress,
    ) -> Result<Digest, BuildError> {
        let labels = archive.labels();
        if [label::SERVER, INIT_LABEL.0].iter().any(|label| labels.contains_key(*label)) {
            return Err(BuildError::OwnImage(name.clone()));
        }
        progress.detail("Storing its layers").await;
        let imported = self.0.blocking(move |this| {
            let image = this.images.import(&archive)?;
            drop(spool);
            Ok(image.manifest)
        });
        let manifest = imported.await?;
        self.0.add_offered(name.full(), manifest.clone(), progress).await?;
        Ok(manifest)
    }

    /// Withdraws an image from the builds of Dockerfiles; no effect if it is not offered.
    pub async fn withdraw_image(&self, name: &ImageName, progress: &Progress) -> Result<(), BuildError> {
        self.0.remove_offered(name.full(), progress).await
    }

    /// Those of the images that the builds of Dockerfiles lack: their disk was lost, or made again.
    pub async fn not_offered(
        &self,
        images: Vec<(ImageName, Digest)>,
        progress: &Progress,
    ) -> Result<Vec<(ImageName, Digest)>, BuildError> {
        let offered = self.0.offered.read(progress).await?;
        let missing = self.0.blocking(move |_| {
            let names = offered.names();
            Ok(images.into_iter().filter(|(name, _)| !names.contains(name.full())).collect())
        });
        missing.await
    }

    /// Makes an image that the image store has available again.
    pub async fn offer_again(&self, name: &ImageName, image: Digest, progress: &Progress) -> Result<(), BuildError> {
        self.0.add_offered(name.full(), image, progress).await
    }
}

impl BuilderShared {
    /// Adds an image of the image store under a name, in place of an earlier one.
    async fn add_offered(
        self: &Arc<Self>,
        name: &str,
        manifest: Digest,
        progress: &Progress,
    ) -> Result<(), BuildError> {
        let (source, sink) = tokio::io::duplex(1 << 20);
        let this = Arc::clone(self);
        // If the container stops reading, writing fails; the container's result tells why.
        let writing = self.tasks.spawn_blocking(move || this.images.write_layout(&manifest, SyncIoBridge::new(sink)));
        let changed = self.change_offered(Request::Offer { name: name.to_owned() }, Box::new(source), progress).await;
        let written = writing.await.map_err(|_| BuildError::ShuttingDown)?;
        changed?;
        Ok(written?)
    }

    /// Removes an image; no effect if there is none of the name.
    async fn remove_offered(self: &Arc<Self>, name: &str, progress: &Progress) -> Result<(), BuildError> {
        if !self.offered.exists() {
            return Ok(());
        }
        self.change_offered(Request::Withdraw { name: name.to_owned() }, Box::new(tokio::io::empty()), progress).await
    }

    /// To be called in a task that runs to its end: a container that still writes to the store must not meet a build.
    async fn change_offered(
        self: &Arc<Self>,
        request: Request,
        source: Box<dyn AsyncRead + Send + Unpin>,
        progress: &Progress,
    ) -> Result<(), BuildError> {
        let disk = self.offered.mounted(progress).await?;
        let Some(disk) = disk.as_ref() else { return Err(BuildError::ShuttingDown) };
        let (known, never) = (HashSet::new(), CancellationToken::new());
        let sent = SentBlobs::default();
        let session = self.session(&known, &sent, progress);
        match self.run_alone(disk, BuildNetwork::Builds, &session, &request, source, &never).await {
            Ok(_) => Ok(()),
            Err(BuildError::DiskFull(_)) => Err(BuildError::OfferedStoreFull(DISK_MIB)),
            Err(error) => Err(error),
        }
    }
}

/// Unpacks an archive into an empty folder. Blocks.
fn unpack(input: impl Read, folder: &std::path::Path) -> Result<ImageArchive, BuildError> {
    let mut input = BufReader::with_capacity(256 * 1024, input);
    let broken = |why: String| BuildError::Images(ImageError::Archive(why));
    let begin = input.fill_buf().map_err(|error| broken(error.to_string()))?;
    if begin.is_empty() {
        return Err(broken("it is empty; send the output of docker save, or a tar of an OCI image layout".to_owned()));
    }
    let unpacked = if begin.starts_with(&GZIP) {
        ImageArchive::unpack(flate2::bufread::GzDecoder::new(input), folder, MAX_IMAGE_BYTES)
    } else {
        ImageArchive::unpack(input, folder, MAX_IMAGE_BYTES)
    };
    Ok(unpacked?)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use serde_json::json;

    use super::*;

    fn saved() -> Vec<u8> {
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": [] } });
        let manifest = json!([{ "Config": "c.json", "Layers": [] }]);
        let mut tar = tar::Builder::new(Vec::new());
        for (name, document) in [("manifest.json", manifest), ("c.json", config)] {
            let text = document.to_string();
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap()
    }

    #[test]
    fn an_archive_may_be_compressed_and_anything_else_is_refused() {
        let unpack = |bytes: &[u8]| {
            let folder = tempfile::tempdir().unwrap();
            unpack(bytes, folder.path()).map(drop).map_err(|error| error.to_string())
        };
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&saved()).unwrap();
        let gzip = gzip.finish().unwrap();
        assert_eq!(unpack(&saved()), Ok(()));
        assert_eq!(unpack(&gzip), Ok(()));
        assert!(unpack(&[]).unwrap_err().starts_with("invalid image archive: it is empty; send"));
        assert!(unpack(&gzip[..gzip.len() / 2]).is_err());
        assert!(unpack(b"not a tar").unwrap_err().starts_with("invalid image archive: "));
    }
}
