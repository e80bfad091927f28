//! The Debian packages of a stack's run image, for builds that add others to them.

use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::error::BuildError;
use crate::{images::ImageStore, model::Digest};

/// A file in `folder` with the dpkg status of a run image; empty if the image has no dpkg. Blocks.
pub(super) fn file(images: &ImageStore, run_image: &Digest, folder: &Path) -> Result<PathBuf, BuildError> {
    let path = folder.join(run_image.hex());
    if path.exists() {
        return Ok(path);
    }
    let status = images.dpkg_status(run_image)?.unwrap_or_default();
    let write = || {
        fs::create_dir_all(folder)?;
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(&status)?;
        // Builds run as a user that the host does not have, who must be able to read it.
        file.as_file().set_permissions(fs::Permissions::from_mode(0o644))?;
        file.persist(&path).map_err(|e| e.error)
    };
    write().map_err(BuildError::RunPackages)?;
    Ok(path)
}
