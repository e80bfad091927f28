//! Packages of buildpacks that a caller sends, instead of naming a source: they are spooled to a file, then read like one
//! of this machine.

use std::{
    fs::File,
    io::{self, Seek as _},
};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};

use super::{
    builder::Builder,
    error::BuildError,
    packages::{Package, Packages},
    unpacked::from_archive,
};

/// Maximum size of a package that a caller sends, in bytes.
const MAX_SENT_BYTES: u64 = 512 << 20;

/// A package that was received whole. Its file is removed when it is dropped, or at the next start of a server that died.
#[derive(Debug)]
pub struct SpooledPackage {
    file: File,
    _folder: tempfile::TempDir,
}

impl Builder {
    /// Where a package that a caller sends comes from, as lists show it.
    pub const SENT: &'static str = "standard input";

    /// Receives a package, a `.cnb` or `.tgz` file, to the end of `input`.
    pub async fn receive_package(&self, input: impl AsyncRead + Send + Unpin) -> Result<SpooledPackage, BuildError> {
        receive(self.packages(), input, MAX_SENT_BYTES).await.map_err(not_received)
    }

    /// Stores a package that was received.
    pub async fn store_package(&self, spooled: SpooledPackage) -> Result<Package, BuildError> {
        let packages = self.packages().clone();
        let stored = tokio::task::spawn_blocking(move || store(&packages, spooled)).await;
        stored.map_err(|_| BuildError::ShuttingDown)?.map_err(not_received)
    }
}

fn not_received(reason: String) -> BuildError {
    BuildError::CannotFetch { from: Builder::SENT.to_owned(), reason }
}

async fn receive(
    packages: &Packages,
    mut input: impl AsyncRead + Send + Unpin,
    max_bytes: u64,
) -> Result<SpooledPackage, String> {
    let failed = |error: io::Error| error.to_string();
    // Packages are below the server's data folder, which is on a disk; the system's temporary folder may be in memory.
    let folder = packages.staging().map_err(|error| error.to_string())?;
    let mut options = tokio::fs::OpenOptions::new();
    options.read(true).write(true).create_new(true).mode(0o600);
    let mut file = options.open(folder.path().join("package")).await.map_err(failed)?;
    let length = tokio::io::copy(&mut (&mut input).take(max_bytes + 1), &mut file).await.map_err(failed)?;
    if length == 0 {
        return Err("it is empty; send a .cnb or .tgz file".to_owned());
    }
    if length > max_bytes {
        let max = max_bytes >> 20;
        return Err(format!("it is larger than {max} MiB; copy it to the server and name its path"));
    }
    file.flush().await.map_err(failed)?;
    Ok(SpooledPackage { file: file.into_std().await, _folder: folder })
}

fn store(packages: &Packages, mut spooled: SpooledPackage) -> Result<Package, String> {
    let is_image = is_image(&mut spooled.file).map_err(|error| error.to_string())?;
    let file = spooled.file.try_clone().map_err(|error| error.to_string())?;
    from_archive(packages, file, is_image)
}

/// Whether the file is a tar with the marker of an image: of an OCI layout, or of `docker save`. Leaves the file at its
/// beginning.
fn is_image(file: &mut File) -> io::Result<bool> {
    file.rewind()?;
    let mut archive = tar::Archive::new(&mut *file);
    let mut names = archive.entries_with_seek()?.map_while(Result::ok);
    let found = names.any(|entry| {
        let name = entry.path_bytes();
        matches!(name.strip_prefix(b"./").unwrap_or(&name), b"oci-layout" | b"manifest.json")
    });
    file.rewind()?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, os::unix::fs::PermissionsExt as _};

    use super::{super::buildpack::write_example, *};

    fn tar_of(buildpack: &str) -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        write_example(dir.path(), buildpack, "");
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", dir.path()).unwrap();
        tar.into_inner().unwrap()
    }

    fn tar_with(names: &[&str]) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        for name in names {
            let mut header = tar::Header::new_ustar();
            header.set_size(2);
            tar.append_data(&mut header, name, &b"{}"[..]).unwrap();
        }
        tar.into_inner().unwrap()
    }

    fn gzipped(bytes: &[u8]) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    }

    #[tokio::test]
    async fn a_package_that_is_sent_is_stored_like_a_file_and_its_spool_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().join("kept")).unwrap();
        for sent in [tar_of("a/sent"), gzipped(&tar_of("a/sent"))] {
            let spooled = receive(&packages, &sent[..], 1 << 20).await.unwrap();
            let mode = spooled.file.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "only the server may read it");
            let package = store(&packages, spooled).unwrap();
            assert_eq!(package.root().unwrap().about.id, "a/sent");
            let left: Vec<_> = std::fs::read_dir(dir.path().join("kept")).unwrap().collect();
            assert_eq!(left.len(), 1, "the package alone is left: {left:?}");
        }
    }

    #[tokio::test]
    async fn input_that_is_empty_or_too_large_or_no_package_is_refused_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let packages = Packages::open(dir.path().join("kept")).unwrap();
        let empty = receive(&packages, &[][..], 1 << 20).await.unwrap_err();
        assert!(empty.starts_with("it is empty"), "{empty}");
        let exact = receive(&packages, tokio::io::repeat(7).take(1 << 20), 1 << 20).await.unwrap();
        store(&packages, exact).unwrap_err();
        let large = receive(&packages, tokio::io::repeat(7), 1 << 20).await.unwrap_err();
        assert!(large.starts_with("it is larger than 1 MiB"), "{large}");
        let cut = gzipped(&tar_of("a/cut"));
        let cut = receive(&packages, &cut[..cut.len() / 2], 1 << 20).await.unwrap();
        store(&packages, cut).unwrap_err();
        assert_eq!(std::fs::read_dir(dir.path().join("kept")).unwrap().count(), 0);
    }

    #[test]
    fn images_are_recognised_by_their_layout() {
        let is_image = |bytes: &[u8]| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(bytes).unwrap();
            let found = is_image(&mut file).unwrap();
            assert_eq!(file.stream_position().unwrap(), 0);
            found
        };
        assert!(is_image(&tar_with(&["blobs/sha256/x", "oci-layout", "index.json"])));
        assert!(is_image(&tar_with(&["./oci-layout"])));
        assert!(is_image(&tar_with(&["manifest.json"])));
        assert!(!is_image(&tar_with(&["buildpack.toml", "bin/manifest.json"])));
        assert!(!is_image(&gzipped(&tar_with(&["oci-layout"]))));
        assert!(!is_image(b"not a tar"));
    }
}
