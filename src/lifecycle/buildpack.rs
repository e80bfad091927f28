//! A buildpack on disk, and running its programs: confined to a process group, its output told line by line.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, BufRead as _, BufReader, Read},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::Deserialize;

use super::{
    Dirs, Failure,
    env::Env,
    files,
    protocol::{BuildRequest, GroupEntry, Phase},
};

/// The longest line of output that is told as one, in bytes.
const LONGEST_LINE: u64 = 16 * 1024;

/// The oldest and the newest Buildpack API that this lifecycle runs.
const APIS: std::ops::RangeInclusive<(u32, u32)> = (0, 8)..=(0, 12);

/// A buildpack that takes part in a detection.
#[derive(Debug, Clone)]
pub(super) struct Buildpack {
    pub(super) id: String,
    pub(super) version: String,
    pub(super) api: String,
    pub(super) clear_env: bool,
    pub(super) dir: PathBuf,
}

#[derive(Debug, Default, Deserialize)]
struct Descriptor {
    api: Option<String>,
    #[serde(default)]
    buildpack: About,
}

#[derive(Debug, Default, Deserialize)]
struct About {
    #[serde(default)]
    id: String,
    #[serde(default, rename = "clear-env")]
    clear_env: bool,
}

/// An id as a folder's name.
pub(super) fn escaped(id: &str) -> String {
    id.replace('/', "_")
}

impl Buildpack {
    pub(super) fn load(dirs: &Dirs, entry: &GroupEntry) -> Result<Self, Failure> {
        let dir = dirs.buildpacks.join(escaped(&entry.id)).join(&entry.version);
        let file = dir.join("buildpack.toml");
        let wrong = |message: String| Failure::new(Phase::Detect, message);
        if !file.exists() {
            return Err(wrong(format!("the buildpack {}@{} is not installed", entry.id, entry.version)));
        }
        let Descriptor { api, buildpack } = files::read_toml(&file).map_err(wrong)?;
        let api = api.ok_or_else(|| wrong(format!("{}: the key api is missing", file.display())))?;
        let number = api.split_once('.').and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
        if !number.is_some_and(|number: (u32, u32)| APIS.contains(&number)) {
            return Err(wrong(format!("{}: api {api} is not supported; use 0.8 to 0.12", file.display())));
        }
        if buildpack.id != entry.id {
            return Err(wrong(format!("{}: buildpack.id is {:?}, not {:?}", file.display(), buildpack.id, entry.id)));
        }
        let About { clear_env, .. } = buildpack;
        Ok(Self { id: entry.id.clone(), version: entry.version.clone(), api, clear_env, dir })
    }

    pub(super) fn name(&self) -> String {
        format!("{}@{}", self.id, self.version)
    }
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

/// What every program of a buildpack gets, whatever the phase.
pub(super) fn base_env(dirs: &Dirs, request: &BuildRequest, user: bool) -> Env {
    let mut env = Env::from([
        ("PATH".to_owned(), "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned()),
        ("HOME".to_owned(), dirs.tmp.join("home").display().to_string()),
        ("LANG".to_owned(), "C.UTF-8".to_owned()),
        ("TMPDIR".to_owned(), dirs.tmp.display().to_string()),
    ]);
    if user {
        env.extend(request.env.clone());
    }
    env
}

/// The variables that the specification names, and the operator's, which nothing overrides.
pub(super) fn add_platform(env: &mut Env, dirs: &Dirs, request: &BuildRequest, buildpack: &Buildpack) {
    let target = &request.target;
    let mut set = |name: &str, value: String| drop(env.insert(name.to_owned(), value));
    set("CNB_BUILDPACK_DIR", buildpack.dir.display().to_string());
    set("CNB_PLATFORM_DIR", dirs.platform.display().to_string());
    set("CNB_STACK_ID", request.stack_id.clone());
    set("CNB_TARGET_OS", target.os.clone());
    set("CNB_TARGET_ARCH", target.arch.clone());
    set("CNB_TARGET_ARCH_VARIANT", target.arch_variant.clone());
    set("CNB_TARGET_DISTRO_NAME", target.distro_name.clone());
    set("CNB_TARGET_DISTRO_VERSION", target.distro_version.clone());
    env.extend(request.operator_env.clone());
    let tools = dirs.tmp.join("bin").display().to_string();
    let path = env.entry("PATH".to_owned()).or_default();
    *path = format!("{tools}:{path}");
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
