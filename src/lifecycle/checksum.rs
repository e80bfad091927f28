//! Checksums of downloads: SHA-256 and SHA-512, as registries publish them.

use std::{
    fmt,
    io::{self, Read},
    str::FromStr,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256, Sha512};

use crate::model::Line;

/// The checksum of a file; shown as `sha256-<hex>` or `sha512-<hex>`, which is also the name of a shared download.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Checksum {
    /// 32 bytes.
    Sha256(Vec<u8>),
    /// 64 bytes.
    Sha512(Vec<u8>),
}

impl FromStr for Checksum {
    type Err = String;

    /// Hexadecimal digits, bare or after `sha256:`, `sha512:`, `sha256-` …; or base64, as in npm's lock files
    /// (Subresource Integrity).
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{:?} is not a SHA-256 or SHA-512", Line::excerpt(text));
        let (name, value) = text.split_once([':', '-']).unwrap_or(("", text));
        let bytes = match hex(value) {
            Some(bytes) => bytes,
            None => STANDARD.decode(value).map_err(|_| wrong())?,
        };
        match (name, bytes.len()) {
            ("sha256" | "", 32) => Ok(Self::Sha256(bytes)),
            ("sha512" | "", 64) => Ok(Self::Sha512(bytes)),
            _ => Err(wrong()),
        }
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    let plain = text.len().is_multiple_of(2) && text.bytes().all(|b| b.is_ascii_hexdigit());
    plain.then(|| (0..text.len()).step_by(2).map(pair).collect()).flatten()
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, bytes) = match self {
            Self::Sha256(bytes) => ("sha256", bytes),
            Self::Sha512(bytes) => ("sha512", bytes),
        };
        write!(f, "{name}-")?;
        bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl From<Checksum> for String {
    fn from(checksum: Checksum) -> Self {
        checksum.to_string()
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl Checksum {
    /// Whether this is the checksum of the bytes that are read.
    pub fn fits(&self, mut from: impl Read) -> io::Result<bool> {
        let mut buffer = vec![0; 128 * 1024];
        let (mut short, mut long) = (Sha256::new(), Sha512::new());
        loop {
            let length = from.read(&mut buffer)?;
            match self {
                _ if length == 0 => break,
                Self::Sha256(_) => short.update(&buffer[..length]),
                Self::Sha512(_) => long.update(&buffer[..length]),
            }
        }
        Ok(match self {
            Self::Sha256(bytes) => short.finalize()[..] == bytes[..],
            Self::Sha512(bytes) => long.finalize()[..] == bytes[..],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_read_as_they_are_published() {
        let hex = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        for text in
            [hex.to_owned(), format!("sha256:{hex}"), "sha256-LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=".into()]
        {
            let checksum: Checksum = text.parse().unwrap();
            assert_eq!(checksum.to_string(), format!("sha256-{hex}"));
            assert!(checksum.fits(&b"hello"[..]).unwrap());
            assert!(!checksum.fits(&b"hallo"[..]).unwrap());
        }
        let long: Checksum =
            "sha512-m3HSJL1i83hdltRq0+o9czGb+8KJDKra4t/3JRlnPKcjI8PZm6XBHXx6zG4UuMXaDEZjR1wuXDre9G9zvN7AQw=="
                .parse()
                .unwrap();
        assert!(long.fits(&b"hello"[..]).unwrap());
        for bad in ["", "sha256:", "sha1:aaaa", "sha512:abcd", "sha256-../x", &hex[1..]] {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }
}
