//! The engine of `tests/engines`, which is the tests' own, so that it may be killed, and what it must not leave behind.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{
    command::{CommandOutput, repository_root, run},
    waiting::eventually,
    world::World,
};

/// An engine in namespaces of its own, with the tests. All processes that are seen there are its own, or the tests'.
pub struct OwnEngine {
    /// Its folder.
    dir: PathBuf,
    /// How it is started: suite and image store.
    start: Vec<String>,
}

impl OwnEngine {
    /// The engine of this run; `None` if it is the machine's.
    pub fn of_this_run() -> Option<Self> {
        let dir = PathBuf::from(std::env::var_os("ENGINE_DIR")?);
        let start = std::env::var("ENGINE_START").ok()?.split(' ').map(str::to_owned).collect();
        Some(Self { dir, start })
    }

    /// Processes of the engine: dockerd, containerd, the shims, and runc while it works. Each has a path below the engine's
    /// folder for state among its arguments.
    fn processes(&self) -> Vec<i32> {
        let exec_root = self.dir.join("exec");
        let exec_root = exec_root.to_str().unwrap();
        let is_of_engine = |pid: &i32| read(*pid, "cmdline").contains(exec_root);
        processes().filter(is_of_engine).collect()
    }

    /// `kill -9` of the engine: dockerd, containerd and all shims at once. The processes of containers go on.
    pub fn kill(&self) {
        // None of them can react to the end of another, or start one, once they are stopped.
        signal_until_none(Signal::STOP, || {
            let running = |pid: &i32| !read(*pid, "stat").contains(") T ");
            self.processes().into_iter().filter(running).collect()
        });
        signal_until_none(Signal::KILL, || self.processes());
    }

    /// `kill -9` of all processes in containers. The engine was killed before.
    pub fn kill_containers(&self) {
        signal_until_none(Signal::KILL, || processes().filter(|pid| container_of(*pid).is_some()).collect());
    }

    /// Does what a reset of the machine does, besides ending all processes.
    pub fn reset_machine(&self, world: &World) {
        self.script(&["reset", &world.server_id()]).success();
    }

    /// Starts the engine again; returns when it responds.
    pub fn start(&self) {
        let words: Vec<_> = ["start"].into_iter().chain(self.start.iter().map(String::as_str)).collect();
        self.script(&words).success();
    }

    fn script(&self, words: &[&str]) -> CommandOutput {
        run(Command::new(repository_root().join("tests/engines")).args(words))
    }

    /// What is there of the kernel's for containers that are not, and of their processes, as lines. `containers` are the ids of
    /// those that run.
    pub fn orphans(&self, world: &World, containers: &BTreeSet<String>) -> Vec<String> {
        let mut found = Vec::new();
        for pid in processes() {
            let id = container_of(pid).or_else(|| shim_of(&read(pid, "cmdline")));
            if let Some(id) = id.filter(|id| !containers.contains(id)) {
                let what = read(pid, "cmdline").replace('\0', " ");
                found.push(format!("process {pid} of the container {id}, which does not run: {what}"));
            }
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points: Vec<_> = mounts.lines().filter_map(|line| line.split(' ').nth(4)).collect();
        for (folder, what) in [("data/overlay2", "root file systems"), ("exec/netns", "network namespaces")] {
            let folder = self.dir.join(folder);
            // An engine that dies while it prepares the layer below that of a new container leaves it mounted, for good.
            let of_container =
                |point: &&&str| Path::new(point).starts_with(&folder) && !point.ends_with("-init/merged");
            let mounted: Vec<_> = points.iter().filter(of_container).collect();
            if mounted.len() > containers.len() {
                found.push(format!(
                    "{} {what} are mounted of {} containers: {mounted:?}",
                    mounted.len(),
                    containers.len()
                ));
            }
        }
        found.extend(twice_mounted(&points).map(|point| format!("{point} is mounted more than once")));
        found.extend(self.unused_loop_devices(&mounts));
        let groups = format!("paas-{}-", world.server_id());
        for hierarchy in fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
            let ours = |name: &str| name.starts_with(&groups);
            for group in folders(&hierarchy.path()).into_iter().filter(|group| ours(&name_of(group))) {
                let unknown = below(&group).into_iter().filter(|group| is_id(&name_of(group)));
                let unknown = unknown.filter(|group| !containers.contains(&name_of(group)));
                found.extend(unknown.map(|group| format!("the control group {}", group.display())));
            }
        }
        let listed = run(Command::new("ip").args(["-oneline", "link", "show", "type", "veth"])).out;
        // An engine that dies before it has given a new pair to a container leaves both ends here, for good. One more interface is
        // that of the tests.
        let of_container = |line: &&str| line.contains(": veth") && line.contains("link-netnsid");
        let pairs: Vec<_> = listed.lines().filter(of_container).collect();
        if pairs.len() > containers.len() {
            found.push(format!("{} network interfaces of {} containers: {pairs:#?}", pairs.len(), containers.len()));
        }
        found
    }

    /// Loop devices of files in the folder that are mounted nowhere in this namespace.
    fn unused_loop_devices(&self, mounts: &str) -> Vec<String> {
        let listed =
            run(Command::new("losetup").args(["--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE"]));
        let devices = listed.out.lines().filter_map(|line| line.split_once(' '));
        let unused = devices.filter(|(device, file)| {
            Path::new(file).starts_with(&self.dir) && !mounts.contains(&format!(" {device} "))
        });
        unused.map(|(device, file)| format!("{device} of {file} is mounted nowhere")).collect()
    }
}

/// All processes of this process namespace that have not ended.
fn processes() -> impl Iterator<Item = i32> {
    let pids = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| !read(*pid, "stat").contains(") Z "))
}

/// A file of a process; empty if the process has ended.
fn read(pid: i32, file: &str) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default()).into_owned()
}

/// The id of the container that a process is in, by its control groups.
fn container_of(pid: i32) -> Option<String> {
    // The tests may run in a container themselves.
    let (groups, own) = (read(pid, "cgroup"), fs::read_to_string("/proc/self/cgroup").unwrap_or_default());
    let last = groups.lines().filter_map(|line| line.rsplit('/').next());
    let mut ids =
        last.map(|name| name.trim_start_matches("docker-").trim_end_matches(".scope")).filter(|name| is_id(name));
    ids.find(|id| !own.contains(id)).map(str::to_owned)
}

/// The id of the container of a shim, by its command line.
fn shim_of(cmdline: &str) -> Option<String> {
    let mut words = cmdline.split('\0');
    words.next().filter(|program| program.contains("containerd-shim"))?;
    words.find(|word| *word == "-id")?;
    words.next().map(str::to_owned)
}

fn is_id(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Sends a signal to all of these until there are none.
fn signal_until_none(signal: Signal, mut find: impl FnMut() -> Vec<i32>) {
    eventually("the processes of the engine are stopped", || {
        let found = find();
        for pid in &found {
            let _ = kill_process(Pid::from_raw(*pid).unwrap(), signal);
        }
        found.is_empty().then_some(())
    });
}

fn twice_mounted<'a>(points: &[&'a str]) -> impl Iterator<Item = &'a str> {
    let mut seen = BTreeSet::new();
    let ours: Vec<_> = points.iter().copied().filter(|point| point.contains("/data/mounts/")).collect();
    ours.into_iter().filter(move |point| !seen.insert(*point))
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The folders in a folder.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// All folders below a folder.
fn below(path: &Path) -> Vec<PathBuf> {
    let mut found = folders(path);
    let mut at = 0;
    while at < found.len() {
        found.extend(folders(&found[at]));
        at += 1;
    }
    found
}
