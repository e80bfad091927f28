//! Package sources of an older Debian release: the image's own sources, with the name of the other release.

use std::{fs, io, path::Path};

/// Writes the image's sources (below `etc`), and the same for another release, into a folder.
pub(super) fn write(suite: &str, etc: &Path, folder: &Path) -> Result<(), String> {
    if suite.is_empty() || !suite.bytes().all(|byte| byte.is_ascii_lowercase()) {
        return Err(format!("{suite:?} is not the code name of a Debian release"));
    }
    let release = fs::read_to_string(etc.join("os-release")).unwrap_or_default();
    let value =
        |key: &str| release.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    let (Some("debian"), Some(own)) = (value("ID="), value("VERSION_CODENAME=")) else {
        return Err(format!("there are no packages of Debian {suite} for this stack: it is not Debian"));
    };
    let failed = |e: io::Error| format!("cannot write the package sources of {suite}: {e}");
    let parts = etc.join("apt/sources.list.d");
    let mut files = vec![etc.join("apt/sources.list")];
    if parts.is_dir() {
        files.extend(
            fs::read_dir(parts)
                .map_err(failed)?
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| is_source(path)),
        );
    }
    for (number, file) in files.iter().enumerate() {
        let text = match fs::read_to_string(file) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(failed(e)),
        };
        let kind = if file.extension().is_some_and(|end| end == "sources") { "sources" } else { "list" };
        for (name, text) in [("own", &text), (suite, &renamed(&text, own, suite))] {
            fs::write(folder.join(format!("{name}-{number}.{kind}")), text).map_err(failed)?;
        }
    }
    Ok(())
}

/// Whether apt reads a file of its folder of sources.
fn is_source(path: &Path) -> bool {
    path.extension().is_some_and(|end| end == "list" || end == "sources")
}

/// Replaces the release in `trixie`, `trixie-updates` and `trixie-security`, and nothing else.
fn renamed(text: &str, own: &str, other: &str) -> String {
    let word = |word: &str| match word.trim_end().strip_prefix(own) {
        Some(rest) if rest.is_empty() || rest.starts_with('-') => word.replacen(own, other, 1),
        _ => word.to_owned(),
    };
    text.split_inclusive(char::is_whitespace).map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_of_an_older_release_are_added() {
        let etc = tempfile::tempdir().unwrap();
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(etc.path().join("apt/sources.list.d")).unwrap();
        fs::write(etc.path().join("os-release"), "ID=debian\nVERSION_CODENAME=trixie\n").unwrap();
        fs::write(
            etc.path().join("apt/sources.list"),
            "deb http://x.org/trixie trixie main\ndeb http://x.org/s trixie-security main\n",
        )
        .unwrap();
        fs::write(etc.path().join("apt/sources.list.d/more.sources"), "Suites: trixie trixie-updates\n").unwrap();
        fs::write(etc.path().join("apt/sources.list.d/old.list.save"), "deb http://x.org/old trixie main\n").unwrap();
        write("bookworm", etc.path(), folder.path()).unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 4);
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        assert_eq!(
            read("bookworm-0.list"),
            "deb http://x.org/trixie bookworm main\ndeb http://x.org/s bookworm-security main\n"
        );
        assert_eq!(read("bookworm-1.sources"), "Suites: bookworm bookworm-updates\n");
        assert!(read("own-0.list").contains("trixie-security"));
        assert!(write("../x", etc.path(), folder.path()).is_err());
        fs::write(etc.path().join("os-release"), "ID=alpine\n").unwrap();
        assert!(write("bookworm", etc.path(), folder.path()).unwrap_err().contains("not Debian"));
    }
}
