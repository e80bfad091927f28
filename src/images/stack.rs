//! Stacks: a run image and a build image of one distribution, bootstrapped from its packages. What is made is kept in
//! a folder that servers share, by a key of everything that decides it.

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

use super::{Image, ImageError, ImageStore, Result, manifest::ImageConfig};
use crate::{
    config,
    lifecycle::protocol::Target,
    model::{Digest, Distribution},
    progress::Progress,
};

/// The embedded stack's definition.
const DEBIAN_13: &str = include_str!("../../stacks/debian-13.toml");

/// Runs inside the new root, as mmdebstrap's hook: a user for builds and apps, nothing setuid, nothing random.
const CUSTOMIZE: &str = r#"
set -e
echo 'paas:x:1000:1000:paas:/home/paas:/bin/bash' >> "$1/etc/passwd"
echo 'paas:x:1000:' >> "$1/etc/group"
install -d -o 1000 -g 1000 -m 0755 "$1/home/paas" "$1/workspace" "$1/layers" "$1/platform"
install -d -m 0755 "$1/cnb" "$1/cnb/lifecycle" "$1/cnb/buildpacks"
find "$1" -xdev -type f -perm /6000 -exec chmod u-s,g-s {} +
rm -rf "$1/var/cache/ldconfig/aux-cache" "$1/var/log/"* "$1/etc/machine-id" "$1/var/lib/dbus/machine-id" \
  "$1/etc/resolv.conf" "$1/etc/hostname" "$1/var/lib/apt/lists/"* "$1/var/cache/apt/"* "$1/etc/ssh/ssh_host_"*
"#;

/// Seconds since 1970 that stand for every file's date that the packages do not say.
const EPOCH: &str = "1750000000";

/// What a stack of Debian's packages is made of, as a TOML file says.
#[derive(Debug, Clone, Deserialize)]
pub struct Definition {
    /// Its name.
    pub id: String,
    suite: String,
    distro_name: String,
    distro_version: String,
    run: Vec<String>,
    build: Vec<String>,
    /// The whole file.
    #[serde(skip)]
    text: String,
}

/// A stack, in the store.
#[derive(Debug, Clone)]
pub struct Stack {
    /// Its id, such as `debian-13`.
    pub id: String,
    /// What apps run on.
    pub run: StackImage,
    /// What they are built in.
    pub build: StackImage,
    /// The platform that it is.
    pub target: Target,
}

/// One image of a stack.
#[derive(Debug, Clone)]
pub struct StackImage {
    /// Its manifest.
    pub manifest: Digest,
    /// Its configuration: the engine's image id.
    pub config: Digest,
    /// Its topmost layer.
    pub layer: Digest,
}

/// What is noted beside a bootstrapped tar, once that is whole.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    layer: Digest,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Face {
    Run,
    Build,
}

impl Face {
    fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Build => "build",
        }
    }
}

impl Definition {
    /// The stack that comes with paas.
    pub fn embedded() -> Result<Self> {
        Self::parse(DEBIAN_13)
    }

    /// Reads a definition; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self> {
        let failed = |reason| ImageError::Definition(reason);
        let mut definition: Self = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(1, |span| text.get(..span.start).unwrap_or(text).matches('\n').count() + 1);
            failed(format!("line {line}: {}", e.message().split_whitespace().collect::<Vec<_>>().join(" ")))
        })?;
        // They become arguments of a program.
        let words = definition.run.iter().chain(&definition.build);
        let plain = |text: &String| {
            !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.:_".contains(&b))
        };
        let sound = |text: &String| plain(text) && !text.starts_with('-');
        if let Some(bad) = words.chain([&definition.id, &definition.suite]).find(|text| !sound(text)) {
            return Err(failed(format!("{bad:?} is no name of a package, suite or stack")));
        }
        text.clone_into(&mut definition.text);
        Ok(definition)
    }

    /// The text that it was read from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Bootstraps both images, unless they are kept from before, and puts them in the store. Another `seed` gets what
    /// the archive has by now, and is not kept.
    pub async fn bootstrap(
        &self,
        config: &config::Stack,
        seed: &str,
        images: &ImageStore,
        progress: &Progress,
    ) -> Result<Stack> {
        let mut parts = vec![self.text.as_str(), CUSTOMIZE, EPOCH, architecture()];
        parts.extend(Some(seed).filter(|seed| !seed.is_empty()));
        let key = Digest::of(parts.join("\0").as_bytes());
        let once = if seed.is_empty() { "" } else { ONCE };
        let folder = config.cache_dir.join(format!("{}-{}{once}", self.id, &key.hex()[..16]));
        let _lock = lock(&folder, &self.id, progress).await?;
        let _gone = (!seed.is_empty()).then(|| {
            remove_left(&config.cache_dir, &folder);
            Gone(&folder)
        });
        let run = self.image(&folder, Face::Run, images, progress).await?;
        let build = self.image(&folder, Face::Build, images, progress).await?;
        let target = self.target();
        Ok(Stack { id: self.id.clone(), run, build, target })
    }

    fn target(&self) -> Target {
        Target {
            os: "linux".to_owned(),
            arch: architecture().to_owned(),
            arch_variant: String::new(),
            distro_name: self.distro_name.clone(),
            distro_version: self.distro_version.clone(),
        }
    }
}

impl ImageStore {
    /// A stack out of images that are in the store.
    pub fn stack(&self, id: &str, run: &Digest, build: &Digest, distribution: &Distribution) -> Result<Stack> {
        let image = |digest: &Digest| {
            let manifest = self.manifest(digest)?;
            let config: ImageConfig = self.read(&manifest.config.digest, "configuration")?;
            let layer = config.rootfs.diff_ids.last().cloned().ok_or_else(|| ImageError::Missing(digest.clone()))?;
            Ok::<_, ImageError>((
                StackImage { manifest: digest.clone(), config: manifest.config.digest, layer },
                config,
            ))
        };
        let ((run, config), (build, _)) = (image(run)?, image(build)?);
        let target = Target {
            os: config.os,
            arch: config.architecture,
            arch_variant: String::new(),
            distro_name: distribution.name.clone(),
            distro_version: distribution.version.clone(),
        };
        Ok(Stack { id: id.to_owned(), run, build, target })
    }
}

/// The machine's architecture, in the words of the OCI image specification.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Ends the name of a folder that is of use only once.
const ONCE: &str = ".once";

/// A folder that goes, however what is done in it ends.
struct Gone<'a>(&'a Path);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(self.0) {
            tracing::warn!(%error, folder = %self.0.display(), "what an update was made of is left");
        }
    }
}

/// Removes such folders whose process died.
fn remove_left(cache: &Path, own: &Path) {
    for entry in fs::read_dir(cache).into_iter().flatten().flatten() {
        let path = entry.path();
        let left = path != own && path.extension().is_some_and(|extension| extension == &ONCE[1..]);
        if left && File::open(path.join("lock")).is_ok_and(|file| file.try_lock().is_ok()) {
            let _ = fs::remove_dir_all(&path);
        }
    }
}

/// One process at a time makes a stack; the lock goes with the process.
async fn lock(folder: &Path, stack: &str, progress: &Progress) -> Result<File> {
    let failed = |source| ImageError::File { act: "make", path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    let file = File::create(folder.join("lock")).map_err(failed)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    progress.step(format!("Another process makes the stack {stack}; waiting for it")).await;
    match tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await {
        Ok(locked) => locked.map_err(failed),
        Err(e) => Err(failed(std::io::Error::other(e))),
    }
}

impl Definition {
    async fn image(&self, folder: &Path, face: Face, images: &ImageStore, progress: &Progress) -> Result<StackImage> {
        let tar = folder.join(format!("{}.tar", face.name()));
        let note = folder.join(format!("{}.json", face.name()));
        let layer = match fs::read(&note).ok().and_then(|text| serde_json::from_slice::<Note>(&text).ok()) {
            Some(known) if tar.exists() => known.layer,
            _ => self.make_tar(&tar, &note, face, progress).await?,
        };
        let labels = BTreeMap::from([
            ("io.buildpacks.base.distro.name".to_owned(), self.distro_name.clone()),
            ("io.buildpacks.base.distro.version".to_owned(), self.distro_version.clone()),
            ("io.buildpacks.base.id".to_owned(), self.id.clone()),
            ("io.buildpacks.stack.id".to_owned(), self.id.clone()),
        ]);
        let store = images.clone();
        let put = move || {
            if !store.blobs().has(&layer) {
                store.blobs().adopt(&tar, &layer)?;
            }
            let Image { manifest, config } = store.put_base(architecture(), layer.clone(), labels)?;
            Ok(StackImage { manifest, config, layer })
        };
        tokio::task::spawn_blocking(put).await.map_err(|e| self.failed(e.to_string()))?
    }

    /// Makes the tar, then the note that vouches for it.
    async fn make_tar(&self, tar: &Path, note: &Path, face: Face, progress: &Progress) -> Result<Digest> {
        let what = format!("{} image of the stack {}", face.name(), self.id);
        progress.step(format!("Bootstrapping the {what} from Debian's packages")).await;
        let _ = fs::remove_file(note);
        self.mmdebstrap(tar, face, progress).await?;
        progress.detail(format!("Hashing the {what}")).await;
        let path = tar.to_owned();
        let layer =
            tokio::task::spawn_blocking(move || digest_of(&path)).await.map_err(|e| self.failed(e.to_string()))??;
        let text = serde_json::json!({ "layer": layer }).to_string();
        let temporary = note.with_extension("new");
        let written = fs::write(&temporary, text).and_then(|()| fs::rename(&temporary, note));
        written.map_err(|source| ImageError::File { act: "write", path: note.to_owned(), source })?;
        Ok(layer)
    }

    async fn mmdebstrap(&self, tar: &Path, face: Face, progress: &Progress) -> Result<()> {
        let mut packages = self.run.clone();
        if face == Face::Build {
            packages.extend(self.build.iter().cloned());
        }
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
        let mut child = Command::new("mmdebstrap")
            .args(options)
            .arg(format!("--include={}", packages.join(",")))
            .arg(format!("--customize-hook={CUSTOMIZE}"))
            .arg(&self.suite)
            .arg(tar)
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .env("LC_ALL", "C.UTF-8")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| {
                self.failed(format!("mmdebstrap does not start ({e}); install it: apt-get install mmdebstrap"))
            })?;
        let mut count = Count::default();
        if let Some(stderr) = child.stderr.take() {
            let mut lines = BufReader::new(stderr).split(b'\n');
            while let Ok(Some(line)) = lines.next_segment().await {
                if let Some(news) = count.read(&String::from_utf8_lossy(&line)) {
                    progress.detail(news).await;
                }
            }
        }
        let status = child.wait().await.map_err(|e| self.failed(e.to_string()))?;
        if status.success() {
            return Ok(());
        }
        Err(self.failed(format!("mmdebstrap ended with {status}: {}", count.last_error)))
    }

    fn failed(&self, reason: String) -> ImageError {
        ImageError::Stack { stack: self.id.clone(), reason }
    }
}

/// Reads from mmdebstrap's output how far it is.
#[derive(Default)]
struct Count {
    total: usize,
    unpacked: usize,
    set_up: usize,
    last_error: String,
}

impl Count {
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

fn digest_of(path: &PathBuf) -> Result<Digest> {
    let failed = |source| ImageError::File { act: "read", path: path.clone(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mut sum = sha2::Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut sum)).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(Digest::from_sha256(&sum.finalize().into()))
}

struct HashWriter<'a>(&'a mut sha2::Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
