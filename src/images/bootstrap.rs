//! Bootstraps the images of a stack from Debian packages. They are cached in a folder that servers may share, by a key of
//! everything that decides their contents.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Command,
};

use super::{
    definition::StackDefinition,
    environment::DEFAULT_PATH,
    error::{ImageError, Result, failed},
    manifest::{Descriptor, History, RunConfig, architecture},
    stack::{Stack, StackImage},
    store::{CREATED, Image, ImageStore},
};
use crate::{
    config, data_dir,
    model::{Digest, HashWriter},
    oom_score::OomScore,
    progress::Progress,
};

/// Hook of mmdebstrap that changes the new root file system: adds the user of builds and apps, and removes setuid bits and
/// files with random contents.
pub(super) const CUSTOMIZE: &str = r#"
set -e
echo 'paas:x:1000:1000:paas:/home/paas:/bin/bash' >> "$1/etc/passwd"
echo 'paas:x:1000:' >> "$1/etc/group"
install -d -o 1000 -g 1000 -m 0755 "$1/home/paas" "$1/workspace" "$1/layers" "$1/platform"
install -d -m 0755 "$1/cnb" "$1/cnb/lifecycle" "$1/cnb/buildpacks"
echo '# The package sources of this image are in /etc/apt/sources.list.' > "$1/etc/apt/sources.list.d/debian.list"
find "$1" -xdev -type f -perm /6000 -exec chmod u-s,g-s {} +
rm -rf "$1/var/cache/ldconfig/aux-cache" "$1/var/log/"* "$1/etc/machine-id" "$1/var/lib/dbus/machine-id" \
  "$1/etc/resolv.conf" "$1/etc/hostname" "$1/var/lib/apt/lists/"* "$1/var/cache/apt/"* "$1/etc/ssh/ssh_host_"*
"#;

/// Modification time of files that are not from packages, in seconds since 1970.
pub(super) const EPOCH: &str = "1750000000";

/// Runs a program so that all users of the root file system can read what it creates there: the server's own umask closes its
/// files to others.
const READABLE: &str = r#"umask 022; exec "$0" "$@""#;

/// Exit status of a shell that does not find a program.
const NOT_FOUND: i32 = 127;

/// Record beside a bootstrapped tar, written when the tar is complete.
#[derive(Debug, Serialize, Deserialize)]
struct CacheRecord {
    layer: Digest,
}

/// Kind of an image of a stack.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ImageKind {
    Run,
    Build,
}

impl ImageKind {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Build => "build",
        }
    }
}

/// A root file system of Debian packages.
pub(super) struct DebianRoot<'a> {
    /// What it is for, in messages: "run image of stack debian-13".
    pub(super) what: String,
    /// Id of the stack, in messages.
    pub(super) stack: &'a str,
    /// Debian suite.
    pub(super) suite: &'a str,
    pub(super) packages: Vec<String>,
    /// Hook of mmdebstrap that changes the new root file system.
    pub(super) customize: &'a str,
}

impl StackDefinition {
    /// Creates both images with mmdebstrap, or takes them from the cache, and adds them to the store. With a `seed` that is
    /// not empty, the images get the current packages of the archive, and are not cached.
    pub async fn bootstrap(
        &self,
        config: &config::Stack,
        seed: &str,
        images: &ImageStore,
        progress: &Progress,
    ) -> Result<Stack> {
        let mut parts = vec![self.text(), CUSTOMIZE, EPOCH, architecture()];
        parts.extend(Some(seed).filter(|seed| !seed.is_empty()));
        let key = Digest::of(parts.join("\0").as_bytes());
        let suffix = if seed.is_empty() { "" } else { TEMPORARY };
        let folder = config.cache_dir.join(format!("{}-{}{suffix}", self.id, &key.hex()[..16]));
        let _lock = lock(&folder, &self.id, progress).await?;
        let _temporary = (!seed.is_empty()).then(|| {
            remove_leftovers(&config.cache_dir, &folder);
            TemporaryFolder(&folder)
        });
        let run = self.image(&folder, ImageKind::Run, images, progress).await?;
        let build = self.image(&folder, ImageKind::Build, images, progress).await?;
        let target = self.target();
        Ok(Stack { id: self.id.clone(), run, build, target })
    }

    /// One image of the stack.
    async fn image(
        &self,
        folder: &Path,
        kind: ImageKind,
        images: &ImageStore,
        progress: &Progress,
    ) -> Result<StackImage> {
        let mut packages = self.run.clone();
        if kind == ImageKind::Build {
            packages.extend(self.build.iter().cloned());
        }
        let root = DebianRoot {
            what: format!("{} image of stack {}", kind.name(), self.id),
            stack: &self.id,
            suite: &self.suite,
            packages,
            customize: CUSTOMIZE,
        };
        let (tar, layer) = root.cached(folder, kind.name(), progress).await?;
        let labels = BTreeMap::from([
            ("io.buildpacks.base.distro.name".to_owned(), self.distro_name.clone()),
            ("io.buildpacks.base.distro.version".to_owned(), self.distro_version.clone()),
            ("io.buildpacks.base.id".to_owned(), self.id.clone()),
            ("io.buildpacks.stack.id".to_owned(), self.id.clone()),
        ]);
        let store = images.clone();
        let put = move || {
            store.blobs().adopt(&tar, &layer)?;
            let Image { manifest, config } = store.put_stack_image(architecture(), layer.clone(), labels)?;
            Ok(StackImage { manifest, config, layer })
        };
        tokio::task::spawn_blocking(put).await.map_err(|e| self.failed(e.to_string()))?
    }

    fn failed(&self, reason: String) -> ImageError {
        ImageError::Stack { stack: self.id.clone(), reason }
    }
}

impl DebianRoot<'_> {
    /// The tar `NAME.tar` in the folder, made if it is not complete there, and its digest.
    pub(super) async fn cached(&self, folder: &Path, name: &str, progress: &Progress) -> Result<(PathBuf, Digest)> {
        let tar = folder.join(format!("{name}.tar"));
        let record = folder.join(format!("{name}.json"));
        let layer = match fs::read(&record).ok().and_then(|text| serde_json::from_slice::<CacheRecord>(&text).ok()) {
            Some(record) if tar.exists() => record.layer,
            _ => self.make_tar(&tar, &record, progress).await?,
        };
        Ok((tar, layer))
    }

    /// Creates the tar, and then the record, which marks the tar as complete.
    async fn make_tar(&self, tar: &Path, record: &Path, progress: &Progress) -> Result<Digest> {
        let what = &self.what;
        progress.step(format!("Bootstrapping the {what} from Debian packages")).await;
        let _ = fs::remove_file(record);
        self.mmdebstrap(tar, progress).await?;
        progress.detail(format!("Hashing the {what}")).await;
        let path = tar.to_owned();
        let layer =
            tokio::task::spawn_blocking(move || digest_of(&path)).await.map_err(|e| self.failed(e.to_string()))??;
        let text = serde_json::json!({ "layer": layer }).to_string();
        let temporary = record.with_extension("new");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, record));
        written.map_err(|source| ImageError::File { act: "write", path: record.to_owned(), source })?;
        Ok(layer)
    }

    async fn mmdebstrap(&self, tar: &Path, progress: &Progress) -> Result<()> {
        let options = [
            "--mode=root",
            "--variant=minbase",
            "--verbose",
            "--format=tar",
            "--aptopt=Acquire::Languages \"none\"",
            "--aptopt=Acquire::Retries \"3\"",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/info/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/lintian/*",
        ];
        let mut child = Command::new("sh")
            .args(["-c", READABLE, "mmdebstrap"])
            .args(options)
            .arg(format!("--include={}", self.packages.join(",")))
            .arg(format!("--customize-hook={}", self.customize))
            .arg(self.suite)
            .arg(tar)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| self.failed(format!("cannot run mmdebstrap ({e})")))?;
        OomScore::Ordinary.apply_to(child.id());
        let mut output = MmdebstrapOutput::default();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                if let Some(line) = output.read(&String::from_utf8_lossy(&line)) {
                    progress.detail(line).await;
                }
            }
        }
        let status = child.wait().await.map_err(|e| self.failed(e.to_string()))?;
        if status.success() {
            return Ok(());
        }
        if status.code() == Some(NOT_FOUND) {
            return Err(self.failed("mmdebstrap is missing; install it with `apt-get install mmdebstrap`".to_owned()));
        }
        Err(self.failed(format!("mmdebstrap failed ({status}): {}", output.last_error)))
    }

    fn failed(&self, reason: String) -> ImageError {
        ImageError::Stack { stack: self.stack.to_owned(), reason }
    }
}

impl ImageStore {
    /// Stores an image of a stack, which has one layer.
    pub(super) fn put_stack_image(&self, arch: &str, layer: Digest, labels: BTreeMap<String, String>) -> Result<Image> {
        let size = self.blobs().size(&layer)?.ok_or_else(|| ImageError::Missing(layer.clone()))?;
        let run = RunConfig {
            user: Some("1000:1000".to_owned()),
            env: vec![format!("PATH={DEFAULT_PATH}"), "LANG=C.UTF-8".to_owned()],
            entrypoint: Vec::new(),
            cmd: vec!["/bin/bash".to_owned()],
            working_dir: "/".to_owned(),
            labels,
            ..RunConfig::default()
        };
        let history = vec![History::of(CREATED, "mmdebstrap")];
        self.put_image(arch, vec![Descriptor::layer(layer.clone(), size)], vec![layer], history, run)
    }
}

/// Suffix of the names of folders that are not cached.
const TEMPORARY: &str = ".once";

/// A folder that is removed when this is dropped.
struct TemporaryFolder<'a>(&'a Path);

impl Drop for TemporaryFolder<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "cannot remove the temporary folder of a stack update");
        }
    }
}

/// Removes the temporary folders of processes that died.
fn remove_leftovers(cache: &Path, own: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_leftover = path != own && path.extension().is_some_and(|extension| extension == &TEMPORARY[1..]);
        if is_leftover && File::open(path.join("lock")).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// Locks the folder of a stack, so that only one process creates it. The kernel releases the lock when the process ends.
pub(super) async fn lock(folder: &Path, stack: &str, progress: &Progress) -> Result<File> {
    let failed = |source| ImageError::File { act: "create", path: folder.to_owned(), source };
    data_dir::create_private(folder).map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    progress.step(format!("Another process is creating the stack {stack}; waiting for it")).await;
    match tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await {
        Ok(locked) => locked.map_err(failed),
        Err(e) => Err(failed(std::io::Error::other(e))),
    }
}

/// Reads the progress from the output of mmdebstrap.
#[derive(Default)]
struct MmdebstrapOutput {
    total: usize,
    unpacked: usize,
    set_up: usize,
    last_error: String,
}

impl MmdebstrapOutput {
    /// Reads a line; returns a line for the user if there is progress to report.
    fn read(&mut self, line: &str) -> Option<String> {
        let line = line.trim();
        if line.starts_with("E:") || (line.starts_with("W:") && self.last_error.is_empty()) {
            line.clone_into(&mut self.last_error);
        }
        if let Some((before, _)) = line.split_once(" newly installed") {
            self.total += before.rsplit(' ').next().and_then(|n| n.parse::<usize>().ok()).unwrap_or(0);
            return Some(format!("{} packages to install so far", self.total));
        }
        if line.starts_with("Unpacking ") {
            self.unpacked += 1;
            return (self.unpacked.is_multiple_of(40))
                .then(|| format!("{} of {} packages unpacked", self.unpacked, self.total));
        }
        if line.starts_with("Setting up ") {
            self.set_up += 1;
            return (self.set_up.is_multiple_of(40))
                .then(|| format!("{} of {} packages set up", self.set_up, self.total));
        }
        line.starts_with("I: creating tarball").then(|| "Writing the tar".to_owned())
    }
}

/// Digest of a file, which is also synced to disk.
fn digest_of(path: &Path) -> Result<Digest> {
    let failed = || failed("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut sum = sha2::Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut sum)).map_err(failed())?;
    file.sync_all().map_err(failed())?;
    Ok(Digest::from_sha256(&sum.finalize().into()))
}
