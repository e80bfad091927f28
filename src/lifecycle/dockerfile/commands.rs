//! The commands of buildah and skopeo.

use std::{
    fs,
    path::Path,
    sync::{Mutex, OnceLock},
};

use super::{
    printed::{self, Printed},
    reason::{self, Access},
    secrets::{LoginFile, Secrets, image_id_file},
    source::Source,
    storage::Storage,
};
use crate::{
    lifecycle::{
        dirs::Dirs,
        env::Env,
        files,
        output::Output,
        programs::{self, ProcessGroups},
        protocol::{DockerfileRequest, Login},
    },
    model::{Digest, Line},
};

/// Runs a program as root of a user namespace (unshare(1)). buildah would do the same, but by starting itself twice.
const IN_NAMESPACE: [&str; 6] = ["--user", "--map-root-user", "--map-auto", "--mount", "--propagation=slave", "--"];

/// What the first line of output says if there is no such namespace for the program.
fn refusal_of(line: &str) -> Option<String> {
    let (program, reason) = line.split_once(": ")?;
    // The system's text for a limit of namespaces is that of a full disk.
    let reason = reason.replace("No space left on device", "their number is limited to 0");
    ["unshare", "newuidmap", "newgidmap"].contains(&program).then_some(reason)
}

/// Exit status of `git ls-remote` if the repository has no such ref (git-ls-remote(1)).
const NO_SUCH_REF: i32 = 2;
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Keeps the last line that is not empty.
fn keep_in(last: &Mutex<String>) -> impl Fn(&str) + Sync + '_ {
    |line| {
        if let (Ok(mut last), false) = (last.lock(), line.trim().is_empty()) {
            line.clone_into(&mut last);
        }
    }
}

/// Runs buildah and skopeo on the stores of images.
pub(super) struct Buildah<'a> {
    pub(super) dirs: &'a Dirs,
    pub(super) storage: &'a Storage,
    pub(super) groups: &'a ProcessGroups,
    pub(super) operator_env: &'a Env,
}

impl Buildah<'_> {
    /// Builds a Dockerfile. Returns the id of the image.
    pub(super) fn build(
        &self,
        request: &DockerfileRequest,
        source: &Source,
        secrets: &Secrets,
        printed: &Printed<'_>,
    ) -> Result<Digest, String> {
        let (id_file, path) = (image_id_file(), |path: &Path| path.display().to_string());
        let _ = fs::remove_file(&id_file);
        let mut words: Vec<String> =
            ["build", "--isolation", "chroot", "--network", "host", "--layers", "--format", "docker", "--retry", "1"]
                .map(str::to_owned)
                .to_vec();
        words.extend(["--retry-delay".into(), "1s".into(), "--iidfile".into(), path(&id_file)]);
        words.extend(["--build-arg-file".into(), path(&secrets.arguments)]);
        for name in secrets.multiline.keys() {
            words.extend(["--build-arg".into(), name.clone()]);
        }
        for (name, file) in &secrets.files {
            // Without the type, one whose name is that of a variable of buildah's own would be read from there.
            words.extend(["--secret".into(), format!("id={name},type=file,src={}", file.display())]);
        }
        if let Some(stage) = &request.target {
            words.extend(["--target".into(), stage.clone()]);
        }
        if let Some(file) = &source.ignore_file {
            words.extend(["--ignorefile".into(), path(file)]);
        }
        if request.no_cache {
            words.push("--no-cache".into());
        }
        // With it, a command could leave the root folder that it is given.
        words.extend(["--cap-drop".into(), "CAP_SYS_CHROOT".into()]);
        words.extend(["--pull=missing".into(), "--file".into(), path(&source.path)]);
        words.push(path(&self.dirs.workspace));
        let show = |line: &str| printed.show(line);
        let status = self.buildah(&words, &secrets.multiline, &show)?;
        if status != 0 {
            return Err(printed.failure(status));
        }
        printed.end();
        let id = fs::read_to_string(&id_file).map_err(|e| format!("buildah did not tell the image's id: {e}"))?;
        id.trim().parse().map_err(|_| "buildah did not tell the image's id".to_owned())
    }

    /// Whether a git repository can be read, and has a reference. buildah adds the source of the app in place of one that it
    /// cannot clone.
    pub(super) fn check_repository(&self, url: &str, reference: Option<&str>) -> Result<(), String> {
        let mut env = self.operator_env.clone();
        env.insert("GIT_TERMINAL_PROMPT".to_owned(), "0".to_owned());
        env.insert("PATH".to_owned(), PATH.to_owned());
        let last = Mutex::new(String::new());
        // A commit cannot be asked for.
        let name = reference.filter(|name| !name.bytes().all(|byte| byte.is_ascii_hexdigit())).unwrap_or("HEAD");
        let words = ["ls-remote", "--quiet", "--exit-code", "--", url, name].map(Path::new);
        let status = programs::run(Path::new("/usr/bin/git"), &words, &env, self.dirs, self.groups, &keep_in(&last))
            .map_err(|e| format!("cannot run git: {e}"))?;
        match status {
            0 => Ok(()),
            NO_SUCH_REF => Err(format!("the repository has no branch or tag {name}")),
            _ => {
                let reason = last.into_inner().unwrap_or_default();
                Err(format!("the repository cannot be read ({})", reason.trim_start_matches("fatal: ").trim_end()))
            }
        }
    }

    /// Pulls an image with a login.
    pub(super) fn pull(&self, image: &str, login: &Login, output: &Output) -> Result<(), String> {
        let file = LoginFile::write(login).map_err(|e| format!("cannot write the login: {e}"))?;
        output.detail(Line::sanitize(&format!("Pulling {image} with the login of {}", login.host)));
        let mut words: Vec<String> =
            ["pull", "--quiet", "--retry", "1", "--retry-delay", "1s", "--authfile"].map(str::to_owned).to_vec();
        words.extend([file.0.display().to_string(), "--policy=missing".into(), image.to_owned()]);
        self.buildah_silently(&words).map_err(|error| reason::of_pull(&error, Access::Login(&login.host)))
    }

    /// Adds the image of the source, an OCI image layout, under a name.
    pub(super) fn add(&self, name: &str, output: &Output) -> Result<(), String> {
        output.detail(format!("Adding {name} to the offered images"));
        let from = format!("oci:{}", self.dirs.workspace.display());
        let added = self.skopeo(&["copy", "--quiet", &from, &format!("{}{name}", self.storage.reference())]);
        self.remove_nameless();
        // The disk is that of the offered images: what is left here would take their room.
        let _ = files::empty(&self.dirs.workspace, &[]);
        added
    }

    /// Fetches an image of a registry into a tar, as `docker save` would.
    pub(super) fn fetch(&self, image: &str, insecure: bool, to: &Path) -> Result<(), String> {
        let (from, to) = (format!("docker://{image}"), format!("docker-archive:{}", to.display()));
        let verify = format!("--src-tls-verify={}", !insecure);
        let copied = self.skopeo(&["copy", "--quiet", "--retry-times", "1", &verify, &from, &to]);
        copied.map_err(|error| reason::of_pull(&error, Access::Public))
    }

    /// Removes an image; no effect if it does not exist.
    pub(super) fn remove(&self, name: &str, output: &Output) -> Result<(), String> {
        output.detail(format!("Removing {name} from the offered images"));
        let removed = match self.buildah_silently(&["rmi".to_owned(), "--force".to_owned(), name.to_owned()]) {
            Err(error) if !error.contains("image not known") => Err(error),
            _ => Ok(()),
        };
        self.remove_nameless();
        removed
    }

    /// Removes the offered images whose name another one has now.
    fn remove_nameless(&self) {
        self.clean(&["rmi", "--prune"]);
    }

    /// Writes an image into a folder, as an OCI image layout with uncompressed layers. Layers whose file exists there are
    /// not written.
    pub(super) fn export(&self, id: &Digest, to: &Path) -> Result<(), String> {
        let (from, to) = (format!("{}@{}", self.storage.reference(), id.hex()), format!("oci:{}:image", to.display()));
        self.skopeo(&["copy", "--quiet", "--dest-oci-accept-uncompressed-layers", &from, &to])
    }

    /// Removes what a build that was killed left behind and, if less than half of the disk is free, the images of steps that
    /// the last build did not need.
    pub(super) fn make_room(&self, output: &Output) {
        if self.storage.has_containers() {
            self.clean(&["rm", "--all"]);
        }
        if !self.storage.is_half_full() {
            return;
        }
        let unused = self.storage.unused_images();
        if !unused.is_empty() {
            output.detail(format!("Removing {} images of earlier builds from the disk", unused.len()));
            self.remove_all(&unused);
        }
    }

    /// Removes the images that were pulled for this app, so that the build pulls them again. (With the policy `newer`, buildah
    /// would ask a registry for offered images, too.)
    pub(super) fn forget_base_images(&self) {
        let names = self.storage.named_images();
        if !names.is_empty() {
            self.remove_all(&names);
        }
    }

    /// Removes images, by id or name, as far as that is possible.
    fn remove_all(&self, images: &[String]) {
        let words: Vec<_> = ["rmi", "--force"].into_iter().chain(images.iter().map(String::as_str)).collect();
        self.clean(&words);
    }

    /// Runs a command whose failure does not matter.
    fn clean(&self, words: &[&str]) {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let _ = self.buildah_silently(&words);
    }

    fn skopeo(&self, words: &[&str]) -> Result<(), String> {
        let tmp = self.storage.tmp.display().to_string();
        let words: Vec<_> = [&["--tmpdir", &tmp], words].concat();
        self.run_silently("skopeo", &words.into_iter().map(str::to_owned).collect::<Vec<_>>())
    }

    fn buildah(&self, words: &[String], env: &Env, show: &(dyn Fn(&str) + Sync)) -> Result<i32, String> {
        self.run("buildah", &[&self.storage.options(), words].concat(), env, show)
    }

    /// Runs a command of buildah; the error is its last line of output.
    fn buildah_silently(&self, words: &[String]) -> Result<(), String> {
        self.run_silently("buildah", &[&self.storage.options(), words].concat())
    }

    /// Runs a program; the error is its last line of output.
    fn run_silently(&self, program: &str, words: &[String]) -> Result<(), String> {
        let last = Mutex::new(String::new());
        let status = self.run(program, words, &Env::default(), &keep_in(&last))?;
        match status {
            0 => Ok(()),
            _ => Err(printed::error_of(&last.into_inner().unwrap_or_default())),
        }
    }

    fn run(
        &self,
        program: &str,
        words: &[String],
        more_env: &Env,
        show: &(dyn Fn(&str) + Sync),
    ) -> Result<i32, String> {
        let path = |path: &Path| path.display().to_string();
        let mut env = self.operator_env.clone();
        env.extend(more_env.clone());
        env.extend(
            [
                ("PATH", PATH.to_owned()),
                ("HOME", path(&self.dirs.tmp.join("home"))),
                ("TMPDIR", path(&self.storage.tmp)),
                ("CONTAINERS_REGISTRIES_CONF", path(&self.storage.registries)),
                ("LANG", "C.UTF-8".to_owned()),
                // With pivot_root(2), it fails on file systems that are locked for the user namespace.
                ("BUILDAH_NOPIVOT", "1".to_owned()),
                // That they are in their user namespace already, and whose it is.
                ("_CONTAINERS_USERNS_CONFIGURED", "done".to_owned()),
                ("_CONTAINERS_ROOTLESS_UID", rustix::process::getuid().as_raw().to_string()),
                ("_CONTAINERS_ROOTLESS_GID", rustix::process::getgid().as_raw().to_string()),
                // They are started many times for a build, and end before it is worth collecting what they allocate.
                ("GOGC", "off".to_owned()),
                ("GOMEMLIMIT", "256MiB".to_owned()),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        let words = IN_NAMESPACE.into_iter().chain([program]).chain(words.iter().map(String::as_str));
        let words: Vec<&Path> = words.map(Path::new).collect();
        let refusal = OnceLock::new();
        let show = |line: &str| {
            let is_first = refusal.get().is_none();
            if !(refusal.get_or_init(|| refusal_of(line)).is_some() && is_first) {
                show(line);
            }
        };
        let status = programs::run(Path::new("/usr/bin/unshare"), &words, &env, self.dirs, self.groups, &show)
            .map_err(|e| format!("cannot run {program}: {e}"))?;
        match refusal.into_inner().flatten() {
            Some(refused) if status != 0 => Err(format!(
                "this machine lets no build make a user namespace ({refused}), so that no Dockerfile can be built: the \
                 operator can allow it, on Ubuntu by sysctl kernel.apparmor_restrict_unprivileged_userns=0"
            )),
            _ => Ok(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_without_user_namespaces_is_recognised() {
        let refused = refusal_of("unshare: write failed /proc/self/uid_map: Operation not permitted");
        assert_eq!(refused.as_deref(), Some("write failed /proc/self/uid_map: Operation not permitted"));
        let limited = refusal_of("unshare: unshare failed: No space left on device");
        assert_eq!(limited.as_deref(), Some("unshare failed: their number is limited to 0"));
        assert!(refusal_of("STEP 1/2: FROM a").is_none() && refusal_of("Error: unshare: x").is_none());
    }
}
