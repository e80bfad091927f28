//! Runs apt of the build image, with folders of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use super::sources;

/// List of the packages of the run image in a build container.
pub const RUN_PACKAGES: &str = "/cnb/run-packages";

/// The image that packages are added to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::lifecycle) enum Image {
    /// Apps run on it.
    Run,
    /// Apps are built in it.
    Build,
}

/// Requested packages.
#[derive(Debug, Clone, Copy)]
pub(in crate::lifecycle) struct Request<'a> {
    /// Names of packages, some with a version (`NAME=VERSION`), or with the release that is preferred where both have the
    /// package (`NAME=SUITE`).
    pub(in crate::lifecycle) packages: &'a [&'a str],
    /// Code name of an older Debian release that is searched as well. Packages that both releases have come from the
    /// image's own, unless the name says otherwise.
    pub(in crate::lifecycle) suite: Option<&'a str>,
}

/// Why it is unknown which versions are available.
#[derive(Debug, thiserror::Error)]
pub(in crate::lifecycle) enum CandidateError {
    #[error("Debian's packages cannot be looked up ({0}): push again")]
    NoAnswer(String),
    #[error("{0}")]
    Refused(String),
}

/// apt with package lists.
pub(super) struct Apt {
    pub(super) dir: PathBuf,
    /// Whether the image's sources are replaced by others.
    own_sources: bool,
}

impl Apt {
    /// Downloads the lists of packages, unless an earlier call in this build did.
    pub(super) fn ready(tmp: &Path, suite: Option<&str>) -> Result<Self, CandidateError> {
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
                sources::write(suite, Path::new("/etc"), &apt.dir.join("sources")).map_err(refused)?;
            }
            let updated = apt.run("apt-get", Image::Build, &["--error-on=any", "update"]);
            updated.map_err(CandidateError::NoAnswer)?;
            fs::write(&done, "").map_err(|e| refused(format!("cannot write {}: {e}", done.display())))?;
        }
        Ok(apt)
    }

    /// Writes apt's preferences for packages that come from the older release, and returns the names that apt knows.
    pub(super) fn set_preferences<'a>(&self, request: Request<'a>) -> Result<Vec<&'a str>, String> {
        let Some(suite) = request.suite else { return Ok(request.packages.to_vec()) };
        let from_suite = |word: &'a str| word.strip_suffix(suite).and_then(|word| word.strip_suffix('='));
        let preferences: String =
            request.packages.iter().filter_map(|word| from_suite(word)).map(|name| pin(name, suite)).collect();
        let file = self.dir.join("preferences");
        fs::write(&file, preferences).map_err(|e| format!("cannot write {}: {e}", file.display()))?;
        Ok(request.packages.iter().map(|word| from_suite(word).unwrap_or(word)).collect())
    }

    /// Runs a program of apt as if for this image, and returns its output.
    pub(super) fn run(&self, program: &str, image: Image, arguments: &[&str]) -> Result<String, String> {
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
        command.args(settings.iter().flat_map(|setting| ["-o", setting])).args(arguments).env("LC_ALL", "C");
        let output = command.output().map_err(|e| format!("cannot run {program} of the build image: {e}"))?;
        output_of(program, &output)
    }

    /// The version of each package that apt would install, a line each.
    pub(super) fn candidates(&self, request: Request<'_>) -> Result<String, String> {
        let packages = self.set_preferences(request)?;
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

/// Preference for a package of a release, with that release's updates.
fn pin(name: &str, suite: &str) -> String {
    format!("Package: {name}\nPin: release n={suite}*\nPin-Priority: 995\n\n")
}

/// Standard output of a program that succeeded, or the first error that it printed.
pub(super) fn output_of(program: &str, output: &Output) -> Result<String, String> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    let errors = || stderr.lines().filter_map(|line| line.strip_prefix("E: "));
    let unknown_package = |line: &str| {
        let name = line.strip_prefix("Unable to locate package ").or_else(|| {
            line.strip_prefix("Package '").and_then(|rest| rest.strip_suffix("' has no installation candidate"))
        })?;
        Some(format!("Debian has no package {name}: correct its name, or remove it"))
    };
    let old_version = |line: &str| {
        let (version, name) = line.strip_prefix("Version '")?.strip_suffix("' was not found")?.split_once("' for '")?;
        Some(format!("Debian has no version {version} of {name}: it keeps only the newest; leave the version out"))
    };
    Err(errors().find_map(|line| unknown_package(line).or_else(|| old_version(line))).unwrap_or_else(|| {
        let why = errors().next().or_else(|| stderr.lines().last()).unwrap_or("it printed no error");
        format!("{program} failed: {why}")
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_both_releases_may_come_from_the_older_one() {
        let dir = tempfile::tempdir().unwrap();
        let apt = Apt { dir: dir.path().to_owned(), own_sources: true };
        let packages = ["ruby=bookworm", "libruby=1:3.1", "ruby-bundler"];
        let names = apt.set_preferences(Request { packages: &packages, suite: Some("bookworm") }).unwrap();
        assert_eq!(names, ["ruby", "libruby=1:3.1", "ruby-bundler"]);
        let preferences = fs::read_to_string(dir.path().join("preferences")).unwrap();
        assert_eq!(preferences, "Package: ruby\nPin: release n=bookworm*\nPin-Priority: 995\n\n");
        assert_eq!(apt.set_preferences(Request { packages: &packages, suite: None }).unwrap(), packages);
    }
}
