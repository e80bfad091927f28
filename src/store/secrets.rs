//! Encryption of config vars at rest: XChaCha20-Poly1305, with a key in a file of mode 0600 beside the database.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use rand::TryRng as _;

use super::error::{Result, StoreError};

/// Encrypts and decrypts with the server's key.
pub(super) struct Cipher(XChaCha20Poly1305);

/// Length of a nonce, in bytes. It precedes the ciphertext.
const NONCE: usize = 24;

impl Cipher {
    /// Reads the key. Creates it if it is missing, unless it `must_exist` because there is a database that needs it.
    pub(super) fn open(path: &Path, must_exist: bool) -> Result<Self> {
        let failed = |source| StoreError::Open { path: path.display().to_string(), source };
        let key = match fs::read(path) {
            Ok(key) => key,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && !must_exist => make_key(path).map_err(failed)?,
            Err(e) => return Err(failed(e)),
        };
        let cipher = XChaCha20Poly1305::new_from_slice(&key)
            .map_err(|_| failed(std::io::Error::other("it must hold exactly 32 bytes")))?;
        Ok(Self(cipher))
    }

    /// Bytes by which an encrypted value is longer than its text: the nonce and the tag of Poly1305.
    pub(super) const OVERHEAD: usize = NONCE + 16;

    /// Encrypts `text` for the column of the row that `context` names; with another context it cannot be decrypted.
    pub(super) fn seal(&self, text: &str, context: &str) -> Result<Vec<u8>> {
        let mut sealed = vec![0; NONCE];
        rand::rngs::SysRng.try_fill_bytes(&mut sealed).map_err(|_| StoreError::Secret)?;
        let nonce = XNonce::try_from(sealed.as_slice()).map_err(|_| StoreError::Secret)?;
        let payload = Payload { msg: text.as_bytes(), aad: context.as_bytes() };
        sealed.extend(self.0.encrypt(&nonce, payload).map_err(|_| StoreError::Secret)?);
        Ok(sealed)
    }

    /// Decrypts a value that [`Self::seal`] encrypted with the same `context`.
    pub(super) fn open_sealed(&self, sealed: &[u8], context: &str) -> Result<String> {
        let (nonce, msg) = sealed.split_at_checked(NONCE).ok_or(StoreError::Secret)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| StoreError::Secret)?;
        let text = self.0.decrypt(&nonce, Payload { msg, aad: context.as_bytes() }).map_err(|_| StoreError::Secret)?;
        String::from_utf8(text).map_err(|_| StoreError::Secret)
    }
}

fn make_key(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut key = vec![0; 32];
    rand::rngs::SysRng.try_fill_bytes(&mut key).map_err(std::io::Error::other)?;
    let temporary = path.with_extension("new");
    let _ = fs::remove_file(&temporary);
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    file.write_all(&key)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(folder) = path.parent() {
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(key)
}
