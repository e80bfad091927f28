//! The hook's program and socket, set up so that git's user can use them but not change them.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use super::error::ReceiveError;

/// The file that this process runs, even after an upgrade has replaced it on disk.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

/// Copies the program into `folder`: git's user may not have access to the original, and an upgrade must not change the
/// hook while this server runs.
pub(super) fn install_program(program: &Path, folder: &Path) -> Result<PathBuf, ReceiveError> {
    let installed = folder.join("paas");
    install(program, &installed).map_err(ReceiveError::file("write", &installed))?;
    Ok(installed)
}

fn install(program: &Path, installed: &Path) -> io::Result<()> {
    let new = installed.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // A hard link costs nothing; a copy is needed across file systems, or if the mode does not fit.
    let original = fs::metadata(program)?;
    let same = |other: &Path| fs::metadata(other).is_ok_and(|m| (m.dev(), m.ino()) == (original.dev(), original.ino()));
    let named = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let linked = original.mode() & 0o555 == 0o555 && fs::hard_link(named, &new).is_ok() && same(&new);
    if !linked {
        let _ = fs::remove_file(&new);
        fs::copy(program, &new)?;
        fs::set_permissions(&new, PermissionsExt::from_mode(0o755))?;
    }
    fs::rename(&new, installed)?;
    // Renaming a link over another link to the same file does nothing, not even remove the old name.
    let _ = fs::remove_file(&new);
    Ok(())
}

/// A socket that only this user, and root, may connect to.
pub(super) fn listen(socket: &Path, user: Option<u32>) -> Result<UnixListener, ReceiveError> {
    match fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(ReceiveError::file("remove", socket)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(ReceiveError::file("listen on", socket))?;
    fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).map_err(ReceiveError::file("listen on", socket))?;
    chown(socket, user, user).map_err(ReceiveError::file("listen on", socket))?;
    Ok(listener)
}
