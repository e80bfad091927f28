//! Packages of buildpacks out of folders, archives and images that are on this machine.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Read},
    os::unix::fs::symlink,
    path::Path,
};

use super::packages::{Package, Packages};
use crate::{images::ImageArchive, lifecycle};

/// How a file begins that gzip compressed (RFC 1952, section 2.3.1).
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Maximum size of a package, unpacked, in bytes.
pub(super) const MAX_PACKAGE_BYTES: u64 = 2 << 30;

/// An image of buildpacks: its layers contain them under `/cnb/buildpacks`.
pub(super) fn from_image(packages: &Packages, archive: &ImageArchive) -> Result<Package, String> {
    let staged = packages.staging().map_err(|e| e.to_string())?;
    let mut left = MAX_PACKAGE_BYTES;
    for layer in archive.layers() {
        let mut layer = layer.map_err(|e| e.to_string())?.take(left);
        lifecycle::unpack_layer(&mut layer, staged.path())
            .map_err(|e| format!("it is not an image of buildpacks: {e}"))?;
        left = layer.limit();
    }
    adopt(packages, staged.path())
}

/// Stores a staged package. Error messages name its files without the path of the staging folder.
pub(super) fn adopt(packages: &Packages, staged: &Path) -> Result<Package, String> {
    let staging = format!("{}/", staged.display());
    packages.adopt(staged).map_err(|e| e.to_string().replace(&staging, ""))
}

/// A folder, or an archive.
pub(super) fn from_path(packages: &Packages, path: &Path) -> Result<Package, String> {
    let failed = |e: io::Error| format!("{}: {e}", path.display());
    if fs::metadata(path).map_err(failed)?.is_dir() {
        let staged = packages.staging().map_err(|e| e.to_string())?;
        let mut left = MAX_PACKAGE_BYTES;
        copy(path, staged.path(), &mut left).map_err(failed)?;
        return adopt(packages, staged.path());
    }
    let is_image = path.extension().is_some_and(|extension| extension == "cnb");
    from_archive(packages, File::open(path).map_err(failed)?, is_image)
}

/// A tar, which may be compressed; otherwise it may be an image.
pub(super) fn from_archive(packages: &Packages, archive: File, is_image: bool) -> Result<Package, String> {
    let mut file = BufReader::new(archive);
    if file.fill_buf().map_err(|e| e.to_string())?.starts_with(&GZIP) {
        return from_tar(packages, flate2::bufread::GzDecoder::new(file));
    }
    if is_image {
        let spool = packages.staging().map_err(|e| e.to_string())?;
        let archive = ImageArchive::unpack(file, spool.path(), MAX_PACKAGE_BYTES).map_err(|e| e.to_string())?;
        return from_image(packages, &archive);
    }
    from_tar(packages, file)
}

fn from_tar(packages: &Packages, tar: impl Read) -> Result<Package, String> {
    let staged = packages.staging().map_err(|e| e.to_string())?;
    lifecycle::unpack(tar.take(MAX_PACKAGE_BYTES), staged.path())?;
    adopt(packages, staged.path())
}

/// Copies files, folders and links as they are, except `.git` folders.
pub(super) fn copy(from: &Path, to: &Path, left: &mut u64) -> io::Result<()> {
    copy_at(0, from, to, left)
}

fn copy_at(depth: usize, from: &Path, to: &Path, left: &mut u64) -> io::Result<()> {
    if depth > lifecycle::MAX_DEPTH {
        return Err(io::Error::other(format!("more than {} folders lie in each other", lifecycle::MAX_DEPTH)));
    }
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if entry.file_name() != ".git" {
                fs::create_dir(&target)?;
                copy_at(depth + 1, &source, &target, left)?;
            }
        } else if kind.is_symlink() {
            symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            let bytes = fs::copy(source, target)?;
            *left = left.checked_sub(bytes).ok_or_else(|| io::Error::other("it is larger than 2 GiB"))?;
        }
    }
    Ok(())
}
