//! Debian packages in a layer: apt of the build image chooses and verifies them, and they are unpacked, not installed. What
//! the image already has is left out: the run image for what an app runs on, the build image for tools.

mod alternatives;
mod client;
mod sources;

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
    process::Command,
    time::Instant,
};

use self::{
    alternatives::Alternatives,
    client::{Apt, output_of},
};
use super::{checksum::Checksum, downloads, files, waiting};
use crate::model::Line;

pub use self::client::RUN_PACKAGES;
pub(super) use self::client::{CandidateError, Image, Request};

/// Folders of a package that no program reads.
const NOT_NEEDED: [&str; 8] = ["bug", "doc", "doc-base", "info", "lintian", "locale", "man", "menu"];

/// The version of each package that would be unpacked, a line each.
pub(super) fn candidates(tmp: &Path, request: Request<'_>) -> Result<String, CandidateError> {
    check_names(request.packages).map_err(CandidateError::Refused)?;
    let apt = Apt::ready(tmp, request.suite)?;
    apt.candidates(request).map_err(CandidateError::Refused)
}

/// Unpacks packages into a layer, with their dependencies that the image lacks. Returns what was unpacked, a line each.
pub(super) fn unpack(tmp: &Path, layer: &Path, image: Image, request: Request<'_>) -> Result<String, String> {
    check_names(request.packages)?;
    let apt = Apt::ready(tmp, request.suite).map_err(|error| match error {
        CandidateError::NoAnswer(why) | CandidateError::Refused(why) => why,
    })?;
    let packages = apt.set_preferences(request)?;
    let packages = match image {
        Image::Run => runtime_packages(&apt, &packages)?,
        Image::Build => packages.iter().map(|&name| name.to_owned()).collect(),
    };
    let arguments = ["install", "--yes", "--no-install-recommends", "--print-uris"];
    let arguments: Vec<&str> = arguments.into_iter().chain(packages.iter().map(String::as_str)).collect();
    let listed = apt.run("apt-get", image, &arguments)?;
    let mut alternatives = Alternatives::default();
    fs::create_dir_all(layer).map_err(|e| format!("cannot make {}: {e}", layer.display()))?;
    let failed = |e: io::Error| format!("cannot tidy {}: {e}", layer.display());
    let mut unpacked = Vec::new();
    let archives = listed.lines().filter_map(Archive::parse).collect::<Result<Vec<_>, _>>()?;
    let (count, total) = (archives.len(), archives.iter().map(|archive| archive.size).sum());
    let begun = Instant::now();
    let (mut shown, mut done) = (begun, 0);
    for (number, archive) in archives.into_iter().enumerate() {
        if shown.elapsed() >= waiting::period(waiting::EVERY, begun.elapsed()) {
            let so_far = format!("Debian packages: {number} of {count}, {}", waiting::size(done, Some(total)));
            let _ = writeln!(io::stderr(), "{}", waiting::line(&so_far, begun.elapsed()));
            shown = Instant::now();
        }
        done += archive.size;
        let file = apt.dir.join("package.deb");
        downloads::fetch(&archive.url, &archive.checksum, &file, tmp)?;
        let output = Command::new("dpkg-deb").arg("--extract").arg(&file).arg(layer).output();
        output_of("dpkg-deb", &output.map_err(|e| format!("cannot run dpkg-deb of the build image: {e}"))?)?;
        // A package without a script is not an error.
        if let Ok(output) = Command::new("dpkg-deb").arg("--info").arg(&file).arg("postinst").output() {
            alternatives.add(&String::from_utf8_lossy(&output.stdout), &apt.dir).map_err(failed)?;
        }
        unpacked.push(archive.name);
    }
    for folder in NOT_NEEDED.map(|name| layer.join("usr/share").join(name)) {
        if folder.exists() {
            files::remove_tree(&folder).map_err(failed)?;
        }
    }
    relocate_links(layer, layer).map_err(failed)?;
    alternatives.link(layer).map_err(failed)?;
    Ok(unpacked.join("\n"))
}

/// Refuses words that apt could take for options.
fn check_names(packages: &[&str]) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:=~_".contains(&byte);
    let valid = |name: &&&str| name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(allowed);
    match packages.iter().find(|name| !valid(name)) {
        Some(bad) => Err(format!("{:?} is not the name of a Debian package", Line::excerpt(bad))),
        None if packages.is_empty() => Err("bp apt: no package is named".to_owned()),
        None => Ok(()),
    }
}

/// Replaces development packages (`libNAME-dev`) by the libraries that they depend on.
fn runtime_packages(apt: &Apt, packages: &[&str]) -> Result<Vec<String>, String> {
    let is_dev = |name: &str| {
        name.split(['=', ':']).next().is_some_and(|name| name.ends_with("-dev") || name.ends_with("-dev-compat"))
    };
    let mut pending: Vec<String> = packages.iter().map(|&name| name.to_owned()).collect();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    let arguments = ["depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
    while let Some(name) = pending.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if !is_dev(&name) {
            found.push(name);
            continue;
        }
        let bare = name.split('=').next().unwrap_or(&name);
        let text = apt.run("apt-cache", Image::Run, &[&arguments[..], &["--no-enhances", bare]].concat())?;
        let depends = text.lines().filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
        pending.extend(depends.filter(|name| name.starts_with("lib") && !name.ends_with("-bin")).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// A line of `apt-get --print-uris`.
struct Archive {
    url: String,
    /// `package version`
    name: String,
    /// In bytes.
    size: u64,
    checksum: Checksum,
}

impl Archive {
    fn parse(line: &str) -> Option<Result<Self, String>> {
        let (url, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [file, size, hash] = words[..] else { return None };
        let mut parts = file.trim_end_matches(".deb").split('_');
        let name = format!("{} {}", parts.next()?, parts.next()?.replace("%3a", ":"));
        let size = size.parse().unwrap_or(0);
        let checksum =
            hash.strip_prefix("SHA256:").ok_or_else(|| format!("apt has no SHA-256 of {}", Line::excerpt(file)));
        Some(checksum.and_then(str::parse).map(|checksum| Self { url: url.to_owned(), name, size, checksum }))
    }
}

/// Makes absolute links relative if their targets are in the layer.
fn relocate_links(root: &Path, folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            relocate_links(root, &path)?;
        } else if kind.is_symlink() {
            let target = fs::read_link(&path)?;
            let Ok(inside) = target.strip_prefix("/") else { continue };
            if inside.components().any(|part| part == Component::ParentDir)
                || fs::symlink_metadata(root.join(inside)).is_err()
            {
                continue;
            }
            let depth = folder.strip_prefix(root).map_or(0, |below| below.components().count());
            let up: PathBuf = std::iter::repeat_n("..", depth).collect();
            fs::remove_file(&path)?;
            symlink(up.join(inside), &path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_apt_are_parsed() {
        let hash = "a".repeat(64);
        let line =
            format!("'http://x/pool/libnspr4_4.36-1_amd64.deb' libnspr4_2%3a4.36-1_amd64.deb 109800 SHA256:{hash}");
        let archive = Archive::parse(&line).unwrap().unwrap();
        assert_eq!(
            (archive.name.as_str(), archive.url.as_str()),
            ("libnspr4 2:4.36-1", "http://x/pool/libnspr4_4.36-1_amd64.deb")
        );
        assert!(Archive::parse("Reading package lists...").is_none());
        assert!(Archive::parse("'http://x/y.deb' y_1_all.deb 1 MD5Sum:abc").unwrap().is_err());
    }

    #[test]
    fn options_are_not_names() {
        assert!(check_names(&["libssl-dev", "g++", "libc6:amd64", "curl=8.1~rc1"]).is_ok());
        for bad in ["--download-only", "a b", "http://x", "", "-o"] {
            assert!(check_names(&[bad]).is_err(), "{bad}");
        }
        assert!(check_names(&[]).is_err());
    }

    #[test]
    fn links_stay_in_the_layer() {
        let layer = tempfile::tempdir().unwrap();
        let root = layer.path();
        for folder in ["etc/app", "usr/lib/app"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::write(root.join("etc/app/config"), "x").unwrap();
        for (target, link) in
            [("/etc/app/config", "usr/lib/app/config"), ("/etc/passwd", "etc/users"), ("config", "etc/app/c")]
        {
            symlink(target, root.join(link)).unwrap();
        }
        relocate_links(root, root).unwrap();
        assert_eq!(fs::read_link(root.join("usr/lib/app/config")).unwrap(), Path::new("../../../etc/app/config"));
        assert_eq!(fs::read_link(root.join("etc/users")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_link(root.join("etc/app/c")).unwrap(), Path::new("config"));
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{assert_message, check, text_near};

    #[test]
    fn lines_of_apt_are_read_or_refused() {
        let line = format!("'http://x/pool/a_1-1_amd64.deb' a_2%3a1-1_amd64.deb 109800 SHA256:{}", "a".repeat(64));
        check(text_near(&[&line, "Reading package lists..."]), |text| {
            if let Some(Err(error)) = Archive::parse(&text) {
                assert_message(&error);
            }
        });
        check(text_near(&["libssl-dev", "g++", "libc6:amd64", "curl=8.1~rc1"]), |name| match check_names(&[&name]) {
            Ok(()) => assert!(!name.starts_with('-') && !name.contains([' ', '/', '\n']), "{name}"),
            Err(error) => assert_message(&error),
        });
    }
}
