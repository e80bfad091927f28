//! The server's host key: generated once, and never replaced.

use std::{
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use russh::keys::{Algorithm, PrivateKey, key::safe_rng, ssh_key::LineEnding};

/// Why there is no host key.
#[derive(Debug, thiserror::Error)]
pub enum HostKeyError {
    /// The file cannot be read or written.
    #[error("cannot use the host key {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file does not contain a valid key.
    #[error(
        "the host key {path} is damaged: restore it from a backup, or remove it so that a new one is made, which clients must accept: {source}"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: russh::keys::ssh_key::Error,
    },
    /// No key could be generated.
    #[error("cannot make a host key: {0}")]
    Make(#[source] russh::keys::ssh_key::Error),
}

/// Reads `<data_dir>/ssh_host_ed25519_key`; the first start generates it.
pub fn host_key(data_dir: &Path) -> Result<PrivateKey, HostKeyError> {
    let path = data_dir.join("ssh_host_ed25519_key");
    let file = |source| HostKeyError::File { path: path.clone(), source };
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let key = PrivateKey::random(&mut safe_rng(), Algorithm::Ed25519).map_err(HostKeyError::Make)?;
            let text = key.to_openssh(LineEnding::LF).map_err(HostKeyError::Make)?;
            let mut new = tempfile::NamedTempFile::new_in(data_dir).map_err(file)?;
            new.write_all(text.as_bytes()).map_err(file)?;
            new.as_file().sync_all().map_err(file)?;
            // If another server generated a key at the same time, the one in the file counts.
            match new.persist_noclobber(&path) {
                Ok(_) => std::fs::File::open(data_dir).and_then(|d| d.sync_all()).map_err(file)?,
                Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(file(e.error)),
            }
            std::fs::read_to_string(&path).map_err(file)?
        }
        Err(e) => return Err(file(e)),
    };
    let mode = std::fs::metadata(&path).map_err(file)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(file(io::Error::other(format!(
            "other users than its owner have access to it (mode {:04o}): run chmod 0600",
            mode & 0o7777
        ))));
    }
    PrivateKey::from_openssh(&text).map_err(|source| HostKeyError::Damaged { path: path.clone(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_private_and_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let first = host_key(dir.path()).unwrap();
        let path = dir.path().join("ssh_host_ed25519_key");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(host_key(dir.path()).unwrap().public_key(), first.public_key());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
        std::fs::write(&path, "").unwrap();
        assert!(matches!(host_key(dir.path()), Err(HostKeyError::Damaged { .. })));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(host_key(dir.path()).unwrap_err().to_string().contains("chmod 0600"));
    }
}
