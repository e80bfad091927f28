//! Downloads, hashes of files, and Procfiles.

use std::{fs, io, path::Path};

use sha2::Digest as _;

use super::answer::{Answer, Refusal, wrong};
use crate::{
    lifecycle::{checksum::Checksum, downloads, files},
    model::{Digest, Procfile},
};

/// Brings what is at a URL to a file, and verifies it.
pub(super) fn fetch(url: &str, checksum: &str, file: &str) -> Answer {
    let checksum: Checksum = checksum.parse().map_err(wrong)?;
    let fetched = downloads::fetch(url, &checksum, Path::new(file), &std::env::temp_dir());
    fetched.map(|()| String::new()).map_err(wrong)
}

/// One SHA-256 over the names and contents of files; a missing file counts as such.
pub(super) fn hash(names: &[&str]) -> Answer {
    let mut sum = sha2::Sha256::new();
    for name in names {
        sum.update(name.len().to_le_bytes());
        sum.update(name);
        match fs::read(name) {
            Ok(bytes) => {
                sum.update((bytes.len() as u64 + 1).to_le_bytes());
                sum.update(bytes);
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => sum.update(0u64.to_le_bytes()),
            Err(e) => return Err(wrong(format!("cannot read {name}: {e}"))),
        }
    }
    Ok(Digest::from_sha256(&sum.finalize().into()).hex().to_owned())
}

/// The process types of a Procfile with their commands, a line each.
pub(super) fn procfile(file: &str) -> Answer {
    let text = files::read_text(Path::new(file)).map_err(wrong)?;
    let text = text.ok_or_else(|| wrong(format!("{file} does not exist")))?;
    let Procfile(entries) = Procfile::parse(&text).map_err(|e| Refusal { status: 1, text: e.to_string() })?;
    let lines: Vec<_> = entries.iter().map(|(process_type, command)| format!("{process_type}\t{command}")).collect();
    Ok(lines.join("\n"))
}
