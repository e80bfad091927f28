//! Debian packages in a layer: apt of the build image chooses and verifies them, none is installed. What is unpacked is
//! what the image lacks that the packages are for: the run image for what an app runs on, the build image for tools.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
    process::{Command, Output},
};

use super::{checksum::Checksum, downloads, files};
use alternatives::Alternatives;

mod alternatives;
mod sources;

/// Where a build container has the list of what the run image has installed.
pub const RUN_PACKAGES: &str = "/cnb/run-packages";

/// The image that packages are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    /// The one that apps run on.
    Run,
    /// The one that they are built in.
    Build,
}

/// Folders of a package that no program reads.
const NOT_NEEDED: [&str; 8] = ["bug", "doc", "doc-base", "info", "lintian", "locale", "man", "menu"];

/// Packages, and where they come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// Their names, some with a version (`NAME=VERSION`), or the release to come from where both have it (`NAME=SUITE`).
    pub(super) packages: &'a [&'a str],
    /// The code name of an older release of Debian, which is asked besides the image's own: what both have comes from the
    /// image's own, unless it is said otherwise.
    pub(super) suite: Option<&'a str>,
}

/// apt, with folders of its own.
struct Apt {
    dir: PathBuf,
    /// Whether its sources are not those of the image.
    own_sources: bool,
}

impl Apt {
    /// Gets the lists of packages, unless an earlier call in this build did.
    fn ready(tmp: &Path, suite: Option<&str>) -> Result<Self, CandidateError> {
        let refused = CandidateError::Refused;
        let dir = suite.map_or_else(|| tmp.join("apt"), |suite| tmp.join(format!("apt-{suite}")));
        let apt = Self { dir, own_sources: suite.is_some() };
        let done = apt.dir.join("lists-are-there");
        if !done.exists() {
            for folder in ["state/lists/partial", "cache/archives/partial", "sources"] {
                let folder = apt.dir.join(folder);
                fs::create_dir_all(&folder).map_err(|e| refused(format!("cannot make {}: {e}", folder.display())))?;
            }
            if let Some(suite) = suite {
                sources::with(suite, Path::new("/etc"), &apt.dir.join("sources")).map_err(refused)?;
            }
            let updated = apt.run("apt-get", Image::Build, &["--error-on=any", "update"]);
            updated.map_err(CandidateError::NoAnswer)?;
            fs::write(&done, "").map_err(|e| refused(format!("cannot write {}: {e}", done.display())))?;
        }
        Ok(apt)
    }

    /// The packages as apt knows them, and notes for it which come from the older release.
    fn settle<'a>(&self, wanted: Wanted<'a>) -> Result<Vec<&'a str>, String> {
        let Some(suite) = wanted.suite else { return Ok(wanted.packages.to_vec()) };
        let from_suite = |word: &'a str| word.strip_suffix(suite).and_then(|word| word.strip_suffix('='));
        let preferences: String =
            wanted.packages.iter().filter_map(|word| from_suite(word)).map(|name| pin(name, suite)).collect();
        let file = self.dir.join("preferences");
        fs::write(&file, preferences).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        Ok(wanted.packages.iter().map(|word| from_suite(word).unwrap_or(word)).collect())
    }

    fn run(&self, program: &str, image: Image, words: &[&str]) -> Result<String, String> {
        let status = match image {
            Image::Run if fs::metadata(RUN_PACKAGES).is_ok_and(|file| file.len() > 0) => RUN_PACKAGES,
            Image::Run | Image::Build => "/var/lib/dpkg/status",
        };
        let (state, cache) = (self.dir.join("state"), self.dir.join("cache"));
        let mut settings = vec![
            format!("Dir::State={}", state.display()),
            format!("Dir::State::status={status}"),
            format!("Dir::Cache={}", cache.display()),
            "Debug::NoLocking=1".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=2".to_owned(),
            "Acquire::ForceHash=SHA256".to_owned(),
            "APT::Get::AllowUnauthenticated=false".to_owned(),
        ];
        if self.own_sources {
            settings.push("Dir::Etc::sourcelist=/dev/null".to_owned());
            settings.push(format!("Dir::Etc::sourceparts={}", self.dir.join("sources").display()));
            settings.push(format!("Dir::Etc::preferences={}", self.dir.join("preferences").display()));
        }
        let mut command = Command::new(program);
        command.args(settings.iter().flat_map(|setting| ["-o", setting])).args(words).env("LC_ALL", "C");
        let output = command.output().map_err(|e| format!("{program} of the build image does not run: {e}"))?;
        said(program, &output)
    }

    fn candidates(&self, wanted: Wanted<'_>) -> Result<String, String> {
        let packages = self.settle(wanted)?;
        let text = self.run("apt-cache", Image::Build, &[&["policy"], &packages[..]].concat())?;
        let mut found = Vec::new();
        for package in packages {
            let mut lines = text.lines().skip_while(|line| line.strip_suffix(':') != Some(package)).skip(1);
            let version = lines.find_map(|line| line.trim().strip_prefix("Candidate: ")).filter(|v| *v != "(none)");
            let version = version.ok_or_else(|| format!("Debian has no package {package}"))?;
            found.push(format!("{package} {version}"));
        }
        Ok(found.join("\n"))
    }
}

/// That a package is to be a release's, with that release's mends.
fn pin(name: &str, suite: &str) -> String {
    format!("Package: {name}\nPin: release n={suite}*\nPin-Priority: 995\n\n")
}

/// What a program printed, or its first complaint.
fn said(program: &str, output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    let lines = || complaint.lines().filter_map(|line| line.strip_prefix("E: "));
    let unknown = |line: &str| {
        let name = line.strip_prefix("Unable to locate package ").or_else(|| {
            line.strip_prefix("Package '").and_then(|rest| rest.strip_suffix("' has no installation candidate"))
        })?;
        Some(format!("Debian has no package {name}: correct its name, or take it out"))
    };
    let gone = |line: &str| {
        let (version, name) = line.strip_prefix("Version '")?.strip_suffix("' was not found")?.split_once("' for '")?;
        Some(format!("Debian has no version {version} of {name}: it keeps only the newest; leave the version out"))
    };
    Err(lines().find_map(|line| unknown(line).or_else(|| gone(line))).unwrap_or_else(|| {
        let why = lines().next().or_else(|| complaint.lines().last()).unwrap_or("it said nothing");
        format!("{program} failed: {why}")
    }))
}

/// Words that apt cannot take for options.
fn plain(packages: &[&str]) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.:=~_".contains(&byte);
    let sound = |name: &&&str| name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.bytes().all(allowed);
    match packages.iter().find(|name| !sound(name)) {
        Some(bad) => Err(format!("{bad:?} is no name of a Debian package")),
        None if packages.is_empty() => Err("bp apt: no package is named".to_owned()),
        None => Ok(()),
    }
}

/// Why it is not known which versions there are.
#[derive(Debug, thiserror::Error)]
pub(super) enum CandidateError {
    #[error("Debian's packages cannot be looked up ({0}): push again")]
    NoAnswer(String),
    #[error("{0}")]
    Refused(String),
}

/// The version that each package would have, a line each.
pub(super) fn candidates(tmp: &Path, wanted: Wanted<'_>) -> Result<String, CandidateError> {
    plain(wanted.packages).map_err(CandidateError::Refused)?;
    let apt = Apt::ready(tmp, wanted.suite)?;
    apt.candidates(wanted).map_err(CandidateError::Refused)
}

/// For what is to run, the libraries that headers (`libNAME-dev`) are for, instead of these.
fn to_run(apt: &Apt, packages: &[&str]) -> Result<Vec<String>, String> {
    let is_dev = |name: &str| {
        name.split(['=', ':']).next().is_some_and(|name| name.ends_with("-dev") || name.ends_with("-dev-compat"))
    };
    let mut wanted: Vec<String> = packages.iter().map(|&name| name.to_owned()).collect();
    let (mut seen, mut found) = (BTreeSet::new(), Vec::new());
    let words = ["depends", "--no-recommends", "--no-suggests", "--no-conflicts", "--no-breaks", "--no-replaces"];
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        if !is_dev(&name) {
            found.push(name);
            continue;
        }
        let bare = name.split('=').next().unwrap_or(&name);
        let text = apt.run("apt-cache", Image::Run, &[&words[..], &["--no-enhances", bare]].concat())?;
        let needs = text.lines().filter_map(|line| line.trim().trim_start_matches('|').strip_prefix("Depends: "));
        wanted.extend(needs.filter(|name| name.starts_with("lib") && !name.ends_with("-bin")).map(str::to_owned));
    }
    found.sort();
    Ok(found)
}

/// Unpacks packages with what they need and the image lacks; says what these are, a line each.
pub(super) fn unpack(tmp: &Path, layer: &Path, image: Image, wanted: Wanted<'_>) -> Result<String, String> {
    plain(wanted.packages)?;
    let apt = Apt::ready(tmp, wanted.suite).map_err(|error| match error {
        CandidateError::NoAnswer(why) | CandidateError::Refused(why) => why,
    })?;
    let packages = apt.settle(wanted)?;
    let packages = match image {
        Image::Run => to_run(&apt, &packages)?,
        Image::Build => packages.iter().map(|&name| name.to_owned()).collect(),
    };
    let words = ["install", "--yes", "--no-install-recommends", "--print-uris"];
    let words: Vec<&str> = words.into_iter().chain(packages.iter().map(String::as_str)).collect();
    let listed = apt.run("apt-get", image, &words)?;
    let mut alternatives = Alternatives::default();
    fs::create_dir_all(layer).map_err(|e| format!("cannot make {}: {e}", layer.display()))?;
    let failed = |e: std::io::Error| format!("cannot tidy {}: {e}", layer.display());
    let mut unpacked = Vec::new();
    for archive in listed.lines().filter_map(Archive::parse) {
        let archive = archive?;
        let file = apt.dir.join("package.deb");
        downloads::fetch(&archive.url, &archive.checksum, &file, tmp)?;
        let output = Command::new("dpkg-deb").arg("--extract").arg(&file).arg(layer).output();
        said("dpkg-deb", &output.map_err(|e| format!("dpkg-deb of the build image does not run: {e}"))?)?;
        // A package without a script is no failure.
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
    relocate(layer, layer).map_err(failed)?;
    alternatives.link(layer).map_err(failed)?;
    Ok(unpacked.join("\n"))
}

/// One line of `apt-get --print-uris`: where a package is, and what it must be.
struct Archive {
    url: String,
    /// `package version`
    name: String,
    checksum: Checksum,
}

impl Archive {
    fn parse(line: &str) -> Option<Result<Self, String>> {
        let (url, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let words: Vec<&str> = rest.split(' ').collect();
        let [file, _size, hash] = words[..] else { return None };
        let mut parts = file.trim_end_matches(".deb").split('_');
        let name = format!("{} {}", parts.next()?, parts.next()?.replace("%3a", ":"));
        let checksum = hash.strip_prefix("SHA256:").ok_or_else(|| format!("apt knows no SHA-256 of {file}"));
        Some(checksum.and_then(str::parse).map(|checksum| Self { url: url.to_owned(), name, checksum }))
    }
}

/// Absolute links to what is in the layer become relative.
fn relocate(root: &Path, folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let (path, kind) = (entry.path(), entry.file_type()?);
        if kind.is_dir() {
            relocate(root, &path)?;
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
    fn what_apt_lists_is_read() {
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
    fn what_both_releases_have_may_come_from_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let apt = Apt { dir: dir.path().to_owned(), own_sources: true };
        let wanted = ["ruby=bookworm", "libruby=1:3.1", "ruby-bundler"];
        let names = apt.settle(Wanted { packages: &wanted, suite: Some("bookworm") }).unwrap();
        assert_eq!(names, ["ruby", "libruby=1:3.1", "ruby-bundler"]);
        let preferences = fs::read_to_string(dir.path().join("preferences")).unwrap();
        assert_eq!(preferences, "Package: ruby\nPin: release n=bookworm*\nPin-Priority: 995\n\n");
        assert_eq!(apt.settle(Wanted { packages: &wanted, suite: None }).unwrap(), wanted);
    }

    #[test]
    fn names_are_no_options() {
        assert!(plain(&["libssl-dev", "g++", "libc6:amd64", "curl=8.1~rc1"]).is_ok());
        for bad in ["--download-only", "a b", "http://x", "", "-o"] {
            assert!(plain(&[bad]).is_err(), "{bad}");
        }
        assert!(plain(&[]).is_err());
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
        relocate(root, root).unwrap();
        assert_eq!(fs::read_link(root.join("usr/lib/app/config")).unwrap(), Path::new("../../../etc/app/config"));
        assert_eq!(fs::read_link(root.join("etc/users")).unwrap(), Path::new("/etc/passwd"));
        assert_eq!(fs::read_link(root.join("etc/app/c")).unwrap(), Path::new("config"));
    }
}
