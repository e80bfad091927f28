//! Content addresses: OCI digests and git object ids.

use std::{fmt, str::FromStr};

/// Text that is neither `sha256:` and 64 hex digits nor a git object id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid {1}")]
pub struct InvalidDigest(pub String, pub &'static str);

fn is_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// A digest as the OCI image specification writes it (`sha256:` and 64 lowercase hex digits).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::from_sha256(&sha2::Sha256::digest(bytes).into())
    }

    /// The digest with this SHA-256 sum.
    pub fn from_sha256(sum: &[u8; 32]) -> Self {
        use fmt::Write as _;
        let mut text = String::with_capacity(71);
        text.push_str("sha256:");
        for byte in sum {
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The whole digest, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The 64 hex digits alone: safe as a file name.
    pub fn hex(&self) -> &str {
        &self.0["sha256:".len()..]
    }
}

impl FromStr for Digest {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        match text.strip_prefix("sha256:") {
            Some(hex) if hex.len() == 64 && is_hex(hex) => Ok(Self(text.to_owned())),
            _ => Err(InvalidDigest(text.chars().take(80).collect(), "digest")),
        }
    }
}

/// Hashes what is written to it.
pub struct HashWriter<'a>(pub &'a mut sha2::Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        sha2::Digest::update(self.0, bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A git commit's object id, SHA-1 or SHA-256, as lowercase hex.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);

impl CommitId {
    /// The id as hex.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }

    /// Whether this is the all-zero id, which git uses for "no object".
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }
}

impl FromStr for CommitId {
    type Err = InvalidDigest;

    fn from_str(text: &str) -> Result<Self, InvalidDigest> {
        if matches!(text.len(), 40 | 64) && is_hex(text) {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidDigest(text.chars().take(80).collect(), "git object id"))
    }
}

macro_rules! as_text {
    ($($type:ident),*) => {$(
        impl TryFrom<String> for $type {
            type Error = InvalidDigest;

            fn try_from(text: String) -> Result<Self, InvalidDigest> {
                text.parse()
            }
        }

        impl From<$type> for String {
            fn from(digest: $type) -> Self {
                digest.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
    )*};
}

as_text!(Digest, CommitId);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_digests_are_valid() {
        let good = Digest::of(b"");
        assert_eq!(good.as_str(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(good.as_str().parse::<Digest>().as_ref(), Ok(&good));
        for bad in ["sha256:../../etc/passwd", "sha512:00", "", "e3b0"] {
            assert!(bad.parse::<Digest>().is_err(), "{bad}");
        }
        assert!(good.as_str().to_uppercase().parse::<Digest>().is_err());
    }

    #[test]
    fn the_zero_id_is_recognised() {
        assert!("0".repeat(40).parse::<CommitId>().expect("valid").is_zero());
        assert!("g".repeat(40).parse::<CommitId>().is_err());
    }
}
