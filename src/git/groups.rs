//! Control groups of git's processes: one group for each push, fetch or other use of a repository, with limits of its own, so
//! that one which runs out of memory ends no other; and all of them below one group, with a limit for all.
//!
//! A process joins its group right after its start. What it then does is still up to the server, because it waits for its
//! input: git's programs and the reader get theirs when they have joined, and others are started behind a gate ([`Group::run`]).

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    task::JoinHandle,
};

use crate::{
    cgroup::{Hierarchy, hierarchies, remove_group_and_below},
    config::Git,
    oom_score::OomScore,
};

/// Controllers that limit a group.
const CONTROLLERS: [&str; 2] = ["memory", "pids"];

/// A script that starts its arguments when a line arrives on standard input.
pub(super) const GATE: &str = "read -r _ && exec \"$@\"";

/// The groups of a server. They are kept and used again: a group that is removed stays in the kernel as long as pages of its
/// files are cached.
#[derive(Debug)]
pub(super) struct Groups {
    /// Hierarchies with the controllers, and the name of the group above all; none if there are no control groups here.
    hierarchies: Vec<Hierarchy>,
    name: String,
    limits: Limits,
    numbers: Mutex<Numbers>,
    warned: AtomicBool,
}

#[derive(Debug, Clone, Copy)]
struct Limits {
    memory_mib: u64,
    all_memory_mib: u64,
    pids: u32,
}

/// Numbers of the groups.
#[derive(Debug, Default)]
struct Numbers {
    unused: Vec<u32>,
    /// Number of groups that were made.
    made: u32,
}

/// A group while its processes run; cheap to clone. The last clone gives it back.
#[derive(Debug, Clone)]
pub struct Group(Arc<GroupInUse>);

#[derive(Debug)]
struct GroupInUse {
    groups: Arc<Groups>,
    number: Option<u32>,
    /// Its folders, one for each hierarchy.
    folders: Vec<PathBuf>,
    /// How often a limit was exceeded before.
    before: Excesses,
}

/// How often processes of a group were killed for their memory, or could not be started.
#[derive(Debug, Clone, Copy, Default)]
struct Excesses {
    memory: u64,
    pids: u64,
}

/// Which limit the processes of a group have exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LimitExceeded {
    /// Memory.
    #[error(
        "git was stopped on the server: it needed more than {mib} MiB of memory (git.memory_mib, git.all_memory_mib); push less \
         history at a time, or take large files out"
    )]
    Memory {
        /// Limit, in MiB.
        mib: u64,
    },
    /// Processes and threads.
    #[error("git needed more than {max} processes on the server (git.pids); push again, or ask its operator for more")]
    Processes {
        /// Limit.
        max: u32,
    },
}

impl Groups {
    /// The groups of the server with this id; those that an earlier process of it made are used again.
    pub(super) fn new(server_id: &str, config: &Git) -> Arc<Self> {
        Arc::new(Self::in_table(Path::new("/proc/mounts"), Some(server_id), config))
    }

    /// No control groups, for programs that are no server.
    pub(super) fn none(config: &Git) -> Arc<Self> {
        Arc::new(Self::in_table(Path::new("/proc/mounts"), None, config))
    }

    fn in_table(mounts: &Path, server_id: Option<&str>, config: &Git) -> Self {
        let limits = Limits { memory_mib: config.memory_mib, all_memory_mib: config.all_memory_mib, pids: config.pids };
        let name = server_id.map(group_name).unwrap_or_default();
        let mut groups =
            Self { hierarchies: Vec::new(), name, limits, numbers: Mutex::default(), warned: AtomicBool::new(false) };
        if server_id.is_some() {
            groups.hierarchies = limiting(mounts);
            if let Err(error) = groups.make_parent() {
                tracing::warn!(
                    %error,
                    "git has no control groups, so nothing limits the memory of pushes: run the server on the host itself, as root"
                );
                groups.hierarchies = Vec::new();
            }
        }
        groups
    }

    fn make_parent(&self) -> io::Result<()> {
        if self.hierarchies.is_empty() {
            return Err(io::Error::other("the machine's control groups for memory and processes are not mounted here"));
        }
        for hierarchy in &self.hierarchies {
            let folder = hierarchy.create_group(&self.name)?;
            hierarchy.delegate(&folder);
            // Kernels before 5.11 count the groups below only then.
            let _ = set(&folder, "memory.use_hierarchy", "1");
            limit_memory(&folder, self.limits.all_memory_mib)?;
        }
        Ok(())
    }

    /// A group for the processes of one push, or of another use of a repository.
    pub(super) async fn group(self: &Arc<Self>) -> Group {
        let group =
            GroupInUse { groups: Arc::clone(self), number: None, folders: Vec::new(), before: Excesses::default() };
        if self.hierarchies.is_empty() {
            return Group(Arc::new(group));
        }
        let this = Arc::clone(self);
        let prepared = tokio::task::spawn_blocking(move || this.prepare()).await;
        // It is lost only with the runtime.
        Group(Arc::new(prepared.unwrap_or(group)))
    }

    /// A group that nobody uses. Blocks.
    fn prepare(self: &Arc<Self>) -> GroupInUse {
        let mut group =
            GroupInUse { groups: Arc::clone(self), number: None, folders: Vec::new(), before: Excesses::default() };
        let number = {
            let mut numbers = self.numbers.lock().unwrap_or_else(PoisonError::into_inner);
            numbers.unused.pop().unwrap_or_else(|| {
                numbers.made += 1;
                numbers.made
            })
        };
        group.number = Some(number);
        match self.make(number) {
            Ok(folders) => {
                group.before = Excesses::of(&folders);
                group.folders = folders;
            }
            Err(error) => self.warn(&error),
        }
        group
    }

    /// The folders of a group, which are made unless they exist.
    fn make(&self, number: u32) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for hierarchy in &self.hierarchies {
            let folder = Hierarchy::create_below(&hierarchy.root.join(&self.name), &number.to_string())?;
            limit_memory(&folder, self.limits.memory_mib)?;
            let _ = set(&folder, "memory.oom.group", "1");
            set(&folder, "pids.max", &self.limits.pids.to_string())?;
            folders.push(folder);
        }
        Ok(folders)
    }

    /// Logged once, not for every push.
    fn warn(&self, error: &io::Error) {
        if !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(%error, "a process of git runs without its control group");
        }
    }
}

/// Removes the groups of a server that does not run, if no process is in them. Blocks while their last processes end.
pub fn remove_groups(server_id: &str) {
    for hierarchy in limiting(Path::new("/proc/mounts")) {
        remove_group_and_below(&hierarchy.root.join(group_name(server_id)));
    }
}

fn group_name(server_id: &str) -> String {
    format!("paas-{server_id}-git")
}

/// The machine's hierarchies with one of the controllers.
fn limiting(mounts: &Path) -> Vec<Hierarchy> {
    let all = hierarchies(&fs::read_to_string(mounts).unwrap_or_default());
    let limits = |hierarchy: &Hierarchy| CONTROLLERS.iter().any(|controller| hierarchy.controls(controller));
    all.into_iter().filter(|hierarchy| limits(hierarchy) && hierarchy.is_of_the_machine()).collect()
}

/// Writes to a file of a group, if it has the file.
fn set(group: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = group.join(file);
    let failed = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if path.exists() { fs::write(&path, value).map_err(failed) } else { Ok(()) }
}

/// Limits memory, in the files of either version. What is swapped out counts too.
fn limit_memory(group: &Path, mib: u64) -> io::Result<()> {
    let bytes = (mib << 20).to_string();
    // The limit with swap must not be below the other one: it is raised first, and lowered last.
    let with_swap = "memory.memsw.limit_in_bytes";
    let _ = set(group, with_swap, &bytes);
    set(group, "memory.limit_in_bytes", &bytes)?;
    let _ = set(group, with_swap, &bytes);
    let _ = set(group, "memory.swap.max", "0");
    set(group, "memory.max", &bytes)
}

impl Group {
    /// Starts a command in the group. Its standard input is piped, and nothing is to be sent to it before the process has joined
    /// the group: that takes some milliseconds on most kernels, in which the process starts and the server does other things.
    pub(crate) fn spawn(&self, command: &mut Command) -> io::Result<(Child, Joining)> {
        let child = command.stdin(Stdio::piped()).spawn()?;
        OomScore::Ordinary.apply_to(child.id());
        let (group, id) = (self.clone(), child.id());
        // It ends by itself at once, also if nobody waits for it.
        let joining = tokio::task::spawn_blocking(move || group.join(id));
        Ok((child, Joining(Some(joining))))
    }

    fn join(&self, id: Option<u32>) {
        let Some(id) = id else { return };
        for folder in &self.0.folders {
            // A process that has ended joins no group.
            if let Err(error) = fs::write(folder.join("cgroup.procs"), id.to_string())
                && error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error())
            {
                self.0.groups.warn(&error);
            }
        }
    }

    /// Runs a command behind the gate, whose standard input is piped, to its end. It begins when it is in the group, so that
    /// what it starts is there too.
    pub(super) async fn run(&self, mut gated: Command) -> io::Result<Output> {
        let (mut child, mut joining) = self.spawn(&mut gated)?;
        joining.wait().await;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(b"\n").await?;
        }
        child.wait_with_output().await
    }

    /// The limit that the group's processes have exceeded, if they have.
    pub fn exceeded(&self) -> Option<LimitExceeded> {
        let (before, now) = (self.0.before, Excesses::of(&self.0.folders));
        let limits = self.0.groups.limits;
        if now.memory > before.memory {
            return Some(LimitExceeded::Memory { mib: limits.memory_mib });
        }
        (now.pids > before.pids).then_some(LimitExceeded::Processes { max: limits.pids })
    }
}

/// A process on its way into its group.
#[derive(Debug)]
pub(crate) struct Joining(Option<JoinHandle<()>>);

impl Joining {
    /// Waits until the process is in its group.
    pub(crate) async fn wait(&mut self) {
        if let Some(joining) = self.0.take() {
            let _ = joining.await;
        }
    }
}

impl Excesses {
    fn of(folders: &[PathBuf]) -> Self {
        let count = |files: &[&str], key: &str| {
            let texts = folders.iter().flat_map(|folder| files.iter().map(|file| folder.join(file)));
            let texts = texts.filter_map(|path| fs::read_to_string(path).ok());
            texts.filter_map(|text| number_after(&text, key)).sum()
        };
        Self {
            memory: count(&["memory.events", "memory.oom_control"], "oom_kill "),
            pids: count(&["pids.events"], "max "),
        }
    }
}

/// The number in the line that begins with a key.
fn number_after(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok())
}

impl Drop for GroupInUse {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.groups.numbers.lock().unwrap_or_else(PoisonError::into_inner).unused.push(number);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::*;

    /// A folder with the hierarchies of a version, and its table of mounts.
    fn machine(mounts: &[(&str, &str, &str)]) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let mut table = String::new();
        for (folder, kind, options) in mounts {
            let root = dir.path().join(folder);
            fs::create_dir(&root).unwrap();
            fs::write(root.join("release_agent"), "").unwrap();
            fs::write(root.join("cgroup.controllers"), "cpu memory pids\n").unwrap();
            writeln!(table, "x {} {kind} {options} 0 0", root.display()).unwrap();
        }
        let path = dir.path().join("mounts");
        fs::write(&path, table).unwrap();
        (dir, path)
    }

    fn gated(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", GATE, "sh", "sh", "-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        command
    }

    #[tokio::test]
    async fn groups_of_both_versions_are_used_again_and_show_what_was_exceeded_since() {
        let first =
            machine(&[("memory", "cgroup", "rw,memory"), ("pids", "cgroup", "rw,pids"), ("cpu", "cgroup", "rw,cpu")]);
        let second = machine(&[("unified", "cgroup2", "rw")]);
        for ((dir, mounts), folders, events) in
            [(first, &["memory", "pids"][..], "memory.oom_control"), (second, &["unified"], "memory.events")]
        {
            let groups = Arc::new(Groups::in_table(&mounts, Some("0"), &Git::default()));
            let (one, two) = (groups.group().await, groups.group().await);
            let ran = one.run(gated("exit 7")).await.unwrap();
            assert_eq!(ran.status.code(), Some(7));
            for folder in folders {
                let group = dir.path().join(folder).join("paas-0-git");
                assert!(fs::read_to_string(group.join("1/cgroup.procs")).unwrap().parse::<u32>().unwrap() > 1);
                assert!(!group.join("2/cgroup.procs").exists(), "{folder}");
            }
            let events = dir.path().join(folders[0]).join("paas-0-git/1").join(events);
            fs::write(&events, "under_oom 0\noom_kill 1\n").unwrap();
            assert_eq!((one.exceeded(), two.exceeded()), (Some(LimitExceeded::Memory { mib: 2048 }), None));
            drop(one);
            assert_eq!(groups.group().await.exceeded(), None, "it was another push");
        }
        let (_dir, mounts) = machine(&[]);
        let none = Arc::new(Groups::in_table(&mounts, Some("0"), &Git::default())).group().await;
        assert!(none.run(gated("true")).await.unwrap().status.success());
    }

    /// Uses the control groups of this machine; tests run as root.
    #[tokio::test]
    async fn what_takes_too_much_is_ended_and_others_go_on() {
        let id = format!("unit-{:08x}", rand::random::<u32>());
        let config = Git { memory_mib: 32, all_memory_mib: 64, pids: 16, ..Git::default() };
        let groups = Groups::new(&id, &config);
        let (one, two) = (groups.group().await, groups.group().await);
        let beside = tokio::spawn(async move {
            let ran = two.run(gated("head -c 8m /dev/zero | tail -c 1 | wc -c")).await.unwrap();
            (ran.stdout, two.exceeded())
        });
        one.run(gated("head -c 200m /dev/zero | tail")).await.unwrap();
        assert_eq!(one.exceeded(), Some(LimitExceeded::Memory { mib: 32 }));
        assert_eq!(beside.await.unwrap(), (b"1\n".to_vec(), None));
        let forks = groups.group().await;
        forks.run(gated("for i in $(seq 40); do sleep 1 & done; wait")).await.unwrap();
        assert_eq!(forks.exceeded(), Some(LimitExceeded::Processes { max: 16 }));
        drop((one, forks));
        remove_groups(&id);
        assert!(
            limiting(Path::new("/proc/mounts")).iter().all(|hierarchy| !hierarchy.root.join(group_name(&id)).exists())
        );
    }
}
