//! What a stack's run image has of Debian's packages, for builds that add others to it.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::BuildError;
use crate::{images::ImageStore, model::Digest};

/// A file in `folder` with what is installed in a run image, as dpkg notes it; empty if the image has no dpkg. Blocks.
pub(super) fn of(images: &ImageStore, run_image: &Digest, folder: &Path) -> Result<PathBuf, BuildError> {
    let path = folder.join(run_image.hex());
    if path.exists() {
        return Ok(path);
    }
    let status = images.dpkg_status(run_image)?.unwrap_or_default();
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&status)?;
        // Builds run as somebody whom the host does not know.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(&path).map_err(|e| e.error)
    };
    write().map_err(BuildError::RunPackages)?;
    Ok(path)
}
