//! The hook's program and its socket, where git's user can use them and not change them.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, PermissionsExt, chown},
    path::{Path, PathBuf},
};

use tokio::net::UnixListener;

use super::ReceiveError;

/// The file that this process runs, even after an upgrade has put another into its place.
pub(super) const THIS_PROGRAM: &str = "/proc/self/exe";

fn failed(act: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ReceiveError {
    let path = path.to_owned();
    move |source| ReceiveError::File { act, path, source }
}

/// Puts the program into `folder`: it may itself lie where git's user cannot go, and while this server runs, an upgrade
/// must not change what the hook says.
pub(super) fn place_program(program: &Path, folder: &Path) -> Result<PathBuf, ReceiveError> {
    let placed = folder.join("paas");
    place(program, &placed).map_err(failed("write", &placed))?;
    Ok(placed)
}

fn place(program: &Path, placed: &Path) -> io::Result<()> {
    let new = placed.with_extension("new");
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    // A link costs nothing; over file systems, or when the mode does not fit, a copy does it.
    let wanted = fs::metadata(program)?;
    let same = |other: &Path| fs::metadata(other).is_ok_and(|m| (m.dev(), m.ino()) == (wanted.dev(), wanted.ino()));
    let named = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    let linked = wanted.mode() & 0o555 == 0o555 && fs::hard_link(named, &new).is_ok() && same(&new);
    if !linked {
        let _ = fs::remove_file(&new);
        fs::copy(program, &new)?;
        fs::set_permissions(&new, PermissionsExt::from_mode(0o755))?;
    }
    fs::rename(&new, placed)?;
    // Renaming a link over another link to the same file does nothing, not even remove the old name.
    let _ = fs::remove_file(&new);
    Ok(())
}

/// A socket that only this user, and root, may connect to.
pub(super) fn listen(socket: &Path, user: Option<u32>) -> Result<UnixListener, ReceiveError> {
    match fs::remove_file(socket) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed("remove", socket)(e)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(failed("listen on", socket))?;
    fs::set_permissions(socket, PermissionsExt::from_mode(0o600)).map_err(failed("listen on", socket))?;
    chown(socket, user, user).map_err(failed("listen on", socket))?;
    Ok(listener)
}
