//! Downloads that all builds of a server share. A build finds them by checksum, and offers those that it made itself. It
//! verifies each one that it uses, so that no build can give another build something else.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::Command,
};

use sha2::Digest as _;

use super::{checksum::Checksum, dirs::Dirs, files, output::Output, protocol::BlobHeader, waiting};
use crate::model::Digest;

/// Folder of the shared downloads in a build container; it is read-only.
pub const SHARED: &str = "/cnb/downloads";

/// Folder of the downloads that a build offers, in its folder for temporary files.
const OFFERED: &str = "downloads";

/// Copies a shared download to `file`, or downloads `url` with curl.
pub(super) fn fetch(url: &str, checksum: &Checksum, file: &Path, tmp: &Path) -> Result<(), String> {
    let shared = Path::new(SHARED).join(checksum.to_string());
    if File::open(&shared).is_ok_and(|found| checksum.fits(found).unwrap_or(false)) {
        return fs::copy(&shared, file).map(drop).map_err(|e| format!("cannot write {}: {e}", file.display()));
    }
    let mut command = Command::new("curl");
    command.args(["--fail", "--location", "--silent", "--show-error", "--retry", "2", "--output"]).arg(file);
    // A buildpack may download several files at once.
    let headers = tmp.join(format!("headers.{}", std::process::id()));
    command.arg("--dump-header").arg(&headers).args(["--", url]);
    // A query may have a token.
    let name = url.split(['?', '#']).next().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
    let so_far = || {
        let size = fs::metadata(file).map_or(0, |found| found.len());
        format!("Downloading {name}: {}", waiting::size(size, content_length(&headers)))
    };
    let output = waiting::shown(so_far, || command.output()).map_err(|e| format!("cannot run curl: {e}"));
    let _ = fs::remove_file(&headers);
    let output = output?;
    if !output.status.success() {
        let _ = fs::remove_file(file);
        let stderr = String::from_utf8_lossy(&output.stderr);
        let why = stderr.lines().last().unwrap_or("curl failed without a message");
        return Err(format!("cannot download {url}: {why}"));
    }
    let matches = File::open(file).and_then(|found| checksum.fits(found));
    if !matches.map_err(|e| format!("cannot read {}: {e}", file.display()))? {
        let _ = fs::remove_file(file);
        return Err(format!(
            "the file at {url} does not have the checksum {checksum}: it was changed, or the checksum is wrong"
        ));
    }
    // This only helps other builds: errors are ignored.
    let offered = tmp.join(OFFERED);
    let _ = fs::create_dir_all(&offered).and_then(|()| fs::copy(file, offered.join(checksum.to_string())));
    Ok(())
}

/// Size of what is being downloaded, by the headers of the last response so far.
fn content_length(headers: &Path) -> Option<u64> {
    let text = fs::read_to_string(headers).ok()?;
    let lines = text.lines().rev().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}

/// Sends the downloads that this build offers to the server.
pub(super) fn share(dirs: &Dirs, output: &Output) {
    let offered = dirs.tmp.join(OFFERED);
    for name in files::names(&offered).unwrap_or_default() {
        let Ok(checksum) = name.parse::<Checksum>() else { continue };
        if checksum.to_string() == name {
            let _ = send(&offered.join(name), checksum, output);
        }
    }
}

fn send(path: &PathBuf, checksum: Checksum, output: &Output) -> io::Result<()> {
    if !fs::symlink_metadata(path)?.is_file() {
        return Ok(());
    }
    let mut sum = sha2::Sha256::new();
    let size = io::copy(&mut File::open(path)?, &mut Hashing(&mut sum))?;
    let header = BlobHeader { digest: Digest::from_sha256(&sum.finalize().into()), size, download: Some(checksum) };
    output.blob(&header, File::open(path)?)
}

struct Hashing<'a>(&'a mut sha2::Sha256);

impl io::Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
