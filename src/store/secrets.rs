//! Encryption of config vars at rest: XChaCha20-Poly1305, with a key in a file of mode 0600 beside the database.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use hmac::{Hmac, Mac as _};
use rand::TryRng as _;
use sha2::Sha256;

use super::error::{Result, StoreError};
use crate::model::Digest;

/// Encrypts, decrypts and hashes with the server's key.
pub(super) struct Cipher {
    cipher: XChaCha20Poly1305,
    /// Key of hashes, derived from the server's.
    hashes: Hmac<Sha256>,
}

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
        let not_made = |_| failed(std::io::Error::other("no key can be derived from it"));
        let mut derived = Hmac::<Sha256>::new_from_slice(&key).map_err(not_made)?;
        derived.update(b"paas: key of hashes");
        let hashes = Hmac::<Sha256>::new_from_slice(&derived.finalize().into_bytes()).map_err(not_made)?;
        Ok(Self { cipher, hashes })
    }

    /// A hash of `text`, in hexadecimal, by which nobody without the key can test a guess. It is another with another context.
    pub(super) fn keyed_hash(&self, text: &str, context: &str) -> String {
        let mut hash = self.hashes.clone();
        hash.update(&(context.len() as u64).to_be_bytes());
        hash.update(context.as_bytes());
        hash.update(text.as_bytes());
        Digest::from_sha256(&hash.finalize().into_bytes().into()).hex().to_owned()
    }

    /// Bytes by which an encrypted value is longer than its text: the nonce and the tag of Poly1305.
    pub(super) const OVERHEAD: usize = NONCE + 16;

    /// Encrypts `text` for the column of the row that `context` names; with another context it cannot be decrypted.
    pub(super) fn seal(&self, text: &str, context: &str) -> Result<Vec<u8>> {
        let mut sealed = vec![0; NONCE];
        rand::rngs::SysRng.try_fill_bytes(&mut sealed).map_err(|_| StoreError::Secret)?;
        let nonce = XNonce::try_from(sealed.as_slice()).map_err(|_| StoreError::Secret)?;
        let payload = Payload { msg: text.as_bytes(), aad: context.as_bytes() };
        sealed.extend(self.cipher.encrypt(&nonce, payload).map_err(|_| StoreError::Secret)?);
        Ok(sealed)
    }

    /// Decrypts a value that [`Self::seal`] encrypted with the same `context`.
    pub(super) fn open_sealed(&self, sealed: &[u8], context: &str) -> Result<String> {
        let (nonce, msg) = sealed.split_at_checked(NONCE).ok_or(StoreError::Secret)?;
        let nonce = XNonce::try_from(nonce).map_err(|_| StoreError::Secret)?;
        let text =
            self.cipher.decrypt(&nonce, Payload { msg, aad: context.as_bytes() }).map_err(|_| StoreError::Secret)?;
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
