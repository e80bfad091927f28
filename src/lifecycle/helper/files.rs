//! Downloads, hashes of files, and Procfiles.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

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
    let text = files::read_text(&link_target(Path::new("."), file)).map_err(wrong)?;
    let text = text.ok_or_else(|| wrong(format!("{file} does not exist")))?;
    let Procfile(entries) = Procfile::parse(&text).map_err(|e| Refusal { status: 1, text: e.to_string() })?;
    let lines: Vec<_> = entries.iter().map(|(process_type, command)| format!("{process_type}\t{command}")).collect();
    Ok(lines.join("\n"))
}

/// The file to which a symbolic link leads within the folder of the app; otherwise the path itself, which is refused if it is a
/// link.
fn link_target(app: &Path, file: &str) -> PathBuf {
    let file = app.join(file);
    match (app.canonicalize(), file.canonicalize()) {
        (Ok(app), Ok(target)) if target.starts_with(&app) => target,
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_followed_within_the_app() {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        fs::create_dir(&app).unwrap();
        for file in ["app/real", "outside"] {
            fs::write(folder.path().join(file), "web: a").unwrap();
        }
        for (link, target) in [("Procfile", "real"), ("out", "../outside"), ("nowhere", "missing")] {
            symlink(target, app.join(link)).unwrap();
        }
        let is_read = |file: &str| files::read_text(&link_target(&app, file));
        assert_eq!(is_read("Procfile"), Ok(Some("web: a".to_owned())));
        assert_eq!(is_read("real"), Ok(Some("web: a".to_owned())));
        assert_eq!(is_read("none"), Ok(None));
        assert!(is_read("out").is_err());
        assert!(is_read("nowhere").is_err());
    }
}
