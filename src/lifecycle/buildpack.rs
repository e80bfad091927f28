//! A buildpack on disk, and running its programs: confined to a process group, its output told line by line.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::{
        fs::PermissionsExt as _,
        process::{CommandExt as _, ExitStatusExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process_group};

use super::{
    Dirs,
    descriptor::{self, Api, Descriptor},
    env::{self, Env},
    files,
    protocol::{BuildRequest, GroupEntry, Place},
};

/// The longest line of output that is told as one, in bytes.
const LONGEST_LINE: u64 = 16 * 1024;

/// A buildpack that takes part in a detection.
#[derive(Debug, Clone)]
pub(super) struct Buildpack {
    pub(super) about: Descriptor,
    pub(super) dir: PathBuf,
}

/// An id as a folder's name.
pub(super) fn escaped(id: &str) -> String {
    id.replace('/', "_")
}

/// The version of a buildpack of which there is just one.
pub(super) fn only_version(dirs: &Dirs, id: &str) -> Result<String, String> {
    descriptor::check_id(id)?;
    let mut versions = files::names(&dirs.buildpacks.join(escaped(id))).map_err(|e| e.to_string())?;
    match (versions.pop(), versions.is_empty()) {
        (Some(only), true) => Ok(only),
        (Some(_), false) => Err(format!("there are several versions of the buildpack {id}: name one")),
        (None, _) => Err(format!("the buildpack {id} is not installed")),
    }
}

impl Buildpack {
    pub(super) fn load(dirs: &Dirs, entry: &GroupEntry) -> Result<Self, String> {
        descriptor::check_id(&entry.id)?;
        descriptor::check_version(&entry.version)?;
        let own = dirs.tmp.join("buildpacks").join(escaped(&entry.id)).join(&entry.version);
        let wrong = |e: io::Error| format!("cannot make the buildpack {}: {e}", entry.id);
        let dir = match &entry.place {
            Place::Installed => dirs.buildpacks.join(escaped(&entry.id)).join(&entry.version),
            // As it was pushed, whatever a build does to the app's folder.
            Place::Source(folder) if !own.exists() => {
                copy_tree(&dirs.workspace.join(folder), &own).map_err(wrong)?;
                own
            }
            Place::Inline { api, shell, script } if !own.exists() => {
                write_inline(&own, entry, api, shell, script).map_err(wrong)?;
                own
            }
            Place::Source(_) | Place::Inline { .. } => own,
        };
        let file = dir.join("buildpack.toml");
        let text = files::read_text(&file)?;
        let text = text.ok_or_else(|| format!("the buildpack {}@{} is not installed", entry.id, entry.version))?;
        let about = Descriptor::parse(&text).map_err(|e| format!("{}, {e}", file.display()))?;
        if about.id != entry.id {
            return Err(format!("{}: buildpack.id is {:?}, not {:?}", file.display(), about.id, entry.id));
        }
        Ok(Self { about, dir })
    }

    pub(super) fn name(&self) -> String {
        self.about.full_name()
    }
}

/// A buildpack out of a script: it always takes part.
fn write_inline(dir: &Path, entry: &GroupEntry, api: &str, shell: &str, script: &str) -> io::Result<()> {
    let toml = toml::toml! {
        api = api
        [buildpack]
        id = (entry.id.as_str())
        version = (entry.version.as_str())
    };
    fs::create_dir_all(dir.join("bin"))?;
    fs::write(dir.join("buildpack.toml"), toml.to_string())?;
    let (detect, build) = ("#!/bin/sh\nexit 0\n".to_owned(), format!("#!{shell}\n\n{script}\n"));
    for (name, text) in [("detect", detect), ("build", build)] {
        let path = dir.join("bin").join(name);
        fs::write(&path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    }
    Ok(())
}

fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_tree(&source, &target)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(source)?, target)?;
        } else if kind.is_file() {
            fs::copy(source, target)?;
        }
    }
    Ok(())
}

/// The process groups that run, so that all can be ended at once.
#[derive(Clone, Default)]
pub(super) struct Running {
    groups: Arc<Mutex<Vec<Pid>>>,
    /// The container is ours alone: what left its group can be ended, too.
    alone: Arc<AtomicBool>,
}

impl Running {
    fn with<T>(&self, act: impl FnOnce(&mut Vec<Pid>) -> T) -> T {
        act(&mut self.groups.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Says that no process of the container is anybody else's.
    pub(super) fn alone(&self) {
        self.alone.store(true, Ordering::Relaxed);
    }

    /// Starts a program as a group of its own.
    fn start(&self, command: &mut Command) -> io::Result<(Child, Option<Pid>)> {
        // Under the lock, so that nothing is started while leftovers are ended.
        self.with(|groups| {
            let child = command.process_group(0).spawn()?;
            let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
            groups.extend(group);
            Ok((child, group))
        })
    }

    /// Ends what a program left behind: it must not go on in the next phase, nor hold its output open.
    fn end(&self, group: Pid) {
        self.with(|groups| {
            let _ = kill_process_group(group, Signal::KILL);
            groups.retain(|other| *other != group);
            if groups.is_empty() && self.alone.load(Ordering::Relaxed) {
                // To all but the first process and this one (kill(2), -1).
                let _ = kill_process_group(Pid::INIT, Signal::KILL);
            }
        });
    }

    pub(super) fn kill(&self) {
        self.with(|groups| {
            for group in groups.iter() {
                let _ = kill_process_group(*group, Signal::KILL);
            }
        });
    }
}

/// What every program of a buildpack finds, before what layers and user say.
pub(super) fn base_environment(dirs: &Dirs, request: &BuildRequest) -> Env {
    const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // The build image's own search path.
    let path = std::env::var("PATH").ok().filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
    Env::from([
        ("PATH".to_owned(), path),
        ("HOME".to_owned(), dirs.tmp.join("home").display().to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TMPDIR".to_owned(), dirs.tmp.display().to_string()),
        ("CNB_STACK_ID".to_owned(), request.stack_id.clone()),
    ])
}

/// The whole environment of a program of this buildpack, on top of `env`: the user's variables, unless the buildpack
/// asks to be spared; the operator's; the specification's.
pub(super) fn environment(dirs: &Dirs, request: &BuildRequest, buildpack: &Buildpack, env: &Env) -> Env {
    let mut env = env.clone();
    for (name, value) in request.env.iter().filter(|_| !buildpack.about.clear_env) {
        if env::is_search_path(name) {
            env::prepend(&mut env, name, value, ":");
        } else {
            env.insert(name.clone(), value.clone());
        }
    }
    env.extend(request.operator_env.clone());
    add_platform(&mut env, dirs, request, buildpack);
    env
}

/// The variables that the specification names, which nothing overrides.
fn add_platform(env: &mut Env, dirs: &Dirs, request: &BuildRequest, buildpack: &Buildpack) {
    let target = &request.target;
    let mut set = |name: &str, value: &str| drop(env.insert(name.to_owned(), value.to_owned()));
    set("CNB_BUILDPACK_DIR", &buildpack.dir.display().to_string());
    set("CNB_PLATFORM_DIR", &dirs.platform.display().to_string());
    set("CNB_TARGET_OS", &target.os);
    set("CNB_TARGET_ARCH", &target.arch);
    // Optional: buildpacks take an empty one for a variant that is called so.
    if !target.arch_variant.is_empty() {
        set("CNB_TARGET_ARCH_VARIANT", &target.arch_variant);
    }
    set("CNB_TARGET_DISTRO_NAME", &target.distro_name);
    set("CNB_TARGET_DISTRO_VERSION", &target.distro_version);
    if buildpack.about.api >= Api(0, 12) {
        set("CNB_EXEC_ENV", descriptor::EXEC_ENV);
    }
    let tools = dirs.tmp.join("bin").display().to_string();
    env::prepend(env, "PATH", &tools, ":");
}

/// In words, why a program that is there cannot be started.
pub(super) fn why_not(error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::NotFound {
        return "the interpreter that its first line names is not there (or that line ends in a carriage return)"
            .to_owned();
    }
    error.to_string()
}

/// Runs a program to its end, in the app's folder; tells each line. Returns its exit status, 128 and more for signals.
pub(super) fn run(
    program: &Path,
    arguments: &[&Path],
    env: &BTreeMap<String, String>,
    dirs: &Dirs,
    running: &Running,
    tell: &(dyn Fn(&str) + Sync),
) -> io::Result<i32> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(env).current_dir(&dirs.workspace);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, group) = running.start(&mut command)?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let status = std::thread::scope(|scope| {
        if let Some(stdout) = stdout {
            scope.spawn(move || pump(stdout, tell));
        }
        if let Some(stderr) = stderr {
            scope.spawn(move || pump(stderr, tell));
        }
        let status = child.wait();
        if let Some(group) = group {
            running.end(group);
        }
        status
    })?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

fn pump(from: impl Read, tell: &(dyn Fn(&str) + Sync)) {
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    loop {
        line.clear();
        match from.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) => {
                let text = String::from_utf8_lossy(&line);
                // A progress bar draws over itself: only what it shows last is told.
                let shown = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default();
                tell(shown);
            }
        }
    }
}

/// Writes the user's variables where buildpacks look for them (`<platform>/env`).
pub(super) fn write_platform_env(dirs: &Dirs, env: &BTreeMap<String, String>) -> io::Result<()> {
    let folder = dirs.platform.join("env");
    fs::create_dir_all(&folder)?;
    for (name, value) in env {
        if !name.is_empty() && !name.contains('/') && name != "." && name != ".." {
            fs::write(folder.join(name), value)?;
        }
    }
    Ok(())
}
