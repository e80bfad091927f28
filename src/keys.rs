//! Parsing of SSH public keys that users paste.

use russh::keys::{Algorithm, EcdsaCurve, HashAlg, PublicKey};

/// Minimum size of an RSA key, in bits.
const MIN_RSA_BITS: u32 = 2048;
/// Maximum length of a key, in bytes: more than a 16,384-bit RSA key with a long comment has.
const MAX_KEY_LEN: usize = 16 * 1024;
/// What to do about an invalid key.
const HINT: &str = "give one line, such as the one in ~/.ssh/id_ed25519.pub";

/// A valid public key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedKey {
    /// Key type, such as `ssh-ed25519`.
    pub algorithm: String,
    /// Fingerprint, `SHA256:…`, as OpenSSH prints it.
    pub fingerprint: String,
    /// Line for `authorized_keys`, without comment.
    pub openssh: String,
}

/// Why a text is not accepted as a public key; all variants are errors of the user.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The text is empty.
    #[error("no public key was given: {HINT}")]
    Empty,
    /// The text is longer than any key.
    #[error("this is too long for a public key: {HINT}")]
    TooLong,
    /// The text is a private key.
    #[error("this is a private key: keep it secret, and give the public key, in the file that ends in .pub")]
    Private,
    /// The text has several keys.
    #[error("there are several keys; add them one at a time, each with its own name")]
    Several,
    /// The text starts with options, as in `authorized_keys`.
    #[error("options before the key are not supported; start with the key type, such as ssh-ed25519")]
    Options,
    /// The key has another file format.
    #[error("this is a key in another format: convert it with `ssh-keygen -i -f FILE`, then add the result")]
    Format,
    /// The key type is not supported.
    #[error(
        "keys of type {0:?} are not supported: use ed25519, ECDSA or RSA, for example a key made by `ssh-keygen -t ed25519`"
    )]
    Unsupported(String),
    /// The RSA key is too short.
    #[error(
        "this RSA key has {0} bits, but at least {MIN_RSA_BITS} are required: make a new key with `ssh-keygen -t ed25519`"
    )]
    Weak(u32),
    /// The key cannot be decoded.
    #[error("this is not a valid public key: {HINT}")]
    Malformed(#[source] russh::keys::ssh_key::Error),
    /// The text does not have the form of a key.
    #[error("this is not a public key: {HINT}")]
    NotAKey,
}

/// Whether a client may sign with `algorithm`: SHA-1 signatures (`ssh-rsa`) and DSA are not accepted.
pub fn is_accepted(algorithm: &Algorithm) -> bool {
    matches!(
        algorithm,
        Algorithm::Ed25519
            | Algorithm::SkEd25519
            | Algorithm::SkEcdsaSha2NistP256
            | Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 | EcdsaCurve::NistP384 | EcdsaCurve::NistP521 }
            | Algorithm::Rsa { hash: Some(HashAlg::Sha256 | HashAlg::Sha512) }
    )
}

/// Fingerprint by which the store identifies a key.
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// Parses one line of a `.pub` file.
pub fn parse_public_key(text: &str) -> Result<ParsedKey, KeyError> {
    if text.len() > MAX_KEY_LEN {
        return Err(KeyError::TooLong);
    }
    if text.contains("PRIVATE KEY") || text.contains("PuTTY-User-Key-File") {
        return Err(KeyError::Private);
    }
    if text.contains("BEGIN ") {
        return Err(KeyError::Format);
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let line = lines.next().ok_or(KeyError::Empty)?;
    if lines.next().is_some() {
        return Err(KeyError::Several);
    }
    let mut words = line.split_ascii_whitespace();
    let kind = words.next().ok_or(KeyError::Empty)?;
    if !looks_like_a_type(kind) {
        return Err(if words.any(looks_like_a_type) { KeyError::Options } else { KeyError::NotAKey });
    }
    let algorithm: Algorithm = kind.parse().map_err(|_| KeyError::Unsupported(kind.chars().take(60).collect()))?;
    if !matches!(algorithm, Algorithm::Rsa { .. }) && !is_accepted(&algorithm) {
        return Err(KeyError::Unsupported(kind.to_owned()));
    }
    let body = words.next().ok_or(KeyError::NotAKey)?;
    let key = PublicKey::from_openssh(&format!("{kind} {body}")).map_err(KeyError::Malformed)?;
    if let Some(rsa) = key.key_data().rsa() {
        let bits = rsa.key_size();
        if bits < MIN_RSA_BITS {
            return Err(KeyError::Weak(bits));
        }
    }
    let openssh = PublicKey::new(key.key_data().clone(), "").to_openssh().map_err(KeyError::Malformed)?;
    Ok(ParsedKey { algorithm: kind.to_owned(), fingerprint: fingerprint(&key), openssh: openssh.trim_end().to_owned() })
}

fn looks_like_a_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|prefix| word.starts_with(prefix)) && !word.contains(['=', '"', ','])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHxrF/a5zqxPmWBzvUvHnqFyhFg6dmGqFIQ5cUj4bTY9 someone@somewhere";

    #[test]
    fn the_comment_of_a_key_is_removed() {
        let key = parse_public_key(&format!("\n# mine\n {GOOD} and more\r\n")).unwrap();
        assert_eq!(key.openssh, GOOD.rsplit_once(' ').unwrap().0);
        assert_eq!(key.algorithm, "ssh-ed25519");
        assert!(key.fingerprint.starts_with("SHA256:") && key.fingerprint.len() == 50, "{}", key.fingerprint);
    }

    #[test]
    fn invalid_keys_get_an_error_message_of_one_line() {
        let cases = [
            (String::new(), "no public key"),
            ("# only a comment\n".to_owned(), "no public key"),
            ("x".repeat(20_000), "too long"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Blb\n-----END".to_owned(), "private key"),
            ("---- BEGIN SSH2 PUBLIC KEY ----\nAAAA".to_owned(), "another format"),
            (format!("{GOOD}\n{GOOD}"), "several keys"),
            (format!("command=\"ls\" {GOOD}"), "options before"),
            ("ssh-dss AAAAB3NzaC1kc3MAAACBA".to_owned(), "\"ssh-dss\" are not supported"),
            ("ssh-ed25519-cert-v01@openssh.com AAAA".to_owned(), "are not supported"),
            ("ssh-quantum AAAA".to_owned(), "are not supported"),
            ("ssh-ed25519".to_owned(), "not a public key"),
            ("ssh-ed25519 AAAA".to_owned(), "not a valid public key"),
            (GOOD.replace("ssh-ed25519 ", "ssh-rsa "), "not a valid public key"),
            ("hello world".to_owned(), "not a public key"),
        ];
        for (text, expected) in cases {
            let error = parse_public_key(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
            assert!(!error.contains('\n'));
        }
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_message, check, text_near};

    #[test]
    fn keys_are_written_as_they_are_read() {
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHxrF/a5zqxPmWBzvUvHnqFyhFg6dmGqFIQ5cUj4bTY9";
        let samples = [
            &format!("{key} someone@somewhere\n"),
            "# mine\nssh-rsa AAAA",
            "ecdsa-sha2-nistp256 AAAA x",
            "ssh-\u{1b}x",
        ];
        check(text_near(&samples), |text| match parse_public_key(&text) {
            Ok(read) => {
                assert!(!read.openssh.contains('\n') && read.openssh.split(' ').count() == 2, "{}", read.openssh);
                let again = parse_public_key(&read.openssh).unwrap();
                assert_eq!((again.openssh, again.fingerprint), (read.openssh, read.fingerprint));
            }
            Err(error) => assert_message(&error),
        });
    }
}
