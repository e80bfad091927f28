//! The hooks' socket, set up so that git's user can use it but not change it.

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt, chown},
    path::Path,
};

use tokio::net::UnixListener;

use super::error::ReceiveError;

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
