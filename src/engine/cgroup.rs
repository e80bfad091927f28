//! Where builds stand among all that runs on the machine: in a control group of the server's own, beside the engine's.
//!
//! Within the engine's group a build's weight counts against instances only, while the group as a whole weighs as much as
//! each single process of the machine, the router among them: then a build of many short processes makes requests wait for
//! seconds. In a group of the machine's root the small weight counts against everything.
//!
//! Engines that leave control groups to systemd put each container beside the services of the machine, where its own
//! weight does the same. Which of the two it is, is asked when the server starts.

mod yielding;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use yielding::{Files, Yielding};

/// CPU: an ordinary process, or group of them, has 1024. In the group, all builds have the same.
pub(super) const SHARES: i32 = 64;
/// The same for control groups of version 2, where 100 is ordinary.
const WEIGHT: u32 = 6;
/// Block I/O, where the machine's scheduler knows weights: 100 is ordinary, or 500.
pub(super) const IO_WEIGHT: u16 = 10;

/// How long the engine has to remove a container's group.
const BUSY: Duration = Duration::from_secs(2);

/// The group of one server's builds, if the engine lets us choose one.
#[derive(Debug)]
pub(super) struct BuildGroup {
    name: Option<String>,
    mounts: PathBuf,
    /// CPUs that a build may have.
    cpus: u32,
    yielding: Mutex<Weak<Yielding>>,
    /// Whether it was said that there is none.
    said: AtomicBool,
}

/// A build's place in the group: as long as one is held, the group gives way to all else.
#[derive(Debug)]
pub(super) struct Place {
    /// The group as the engine calls it.
    pub path: String,
    _yielding: Arc<Yielding>,
}

impl BuildGroup {
    /// `driver` is the engine's word for who makes its control groups.
    pub(super) fn new(server_id: &str, driver: Option<bollard::models::SystemInfoCgroupDriverEnum>, cpus: u32) -> Self {
        let chosen = driver == Some(bollard::models::SystemInfoCgroupDriverEnum::CGROUPFS);
        Self {
            name: chosen.then(|| format!("paas-{server_id}-builds")),
            mounts: "/proc/mounts".into(),
            cpus,
            yielding: Mutex::default(),
            said: AtomicBool::new(false),
        }
    }

    /// The group as the engine calls it.
    pub(super) fn path(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("/{name}"))
    }

    /// The place of the next build; none where the engine's own group must do. The group is made and weighed unless a build
    /// is in it: whoever removed it, the engine would make one of ordinary weight. Needs a runtime.
    pub(super) fn place(&self) -> Option<Place> {
        let name = self.name.as_ref()?;
        let mut yielding = self.yielding.lock().unwrap_or_else(PoisonError::into_inner);
        let there = yielding.upgrade().filter(|shared| shared.has_group());
        let shared = match there
            .map_or_else(|| self.weigh(name).map(|files| Yielding::start(files, self.cpus).into()), Ok)
        {
            Ok(shared) => shared,
            Err(error) => {
                // Not with every build.
                if !self.said.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "builds have no control group of their own, so they weigh little among containers only: run the \
                         server on the host itself, as root"
                    );
                }
                return None;
            }
        };
        self.said.store(false, Ordering::Relaxed);
        *yielding = Arc::downgrade(&shared);
        Some(Place { path: self.path()?, _yielding: shared })
    }

    fn weigh(&self, name: &str) -> io::Result<Files> {
        let hierarchies = hierarchies(&fs::read_to_string(&self.mounts)?);
        let cpu = hierarchies.iter().find(|one| one.controls("cpu") && one.is_whole());
        let cpu = cpu.ok_or_else(|| io::Error::other("the machine's control groups for CPU are not mounted here"))?;
        let group = cpu.root.join(name);
        let files = if cpu.unified {
            Files { weight: ("cpu.weight", WEIGHT.to_string()), usage: group.join("cpu.stat"), cpu: group }
        } else {
            let accounts = hierarchies.iter().find(|one| one.controls("cpuacct")).unwrap_or(cpu);
            let usage = accounts.root.join(name).join("cpuacct.usage");
            Files { weight: ("cpu.shares", SHARES.to_string()), usage, cpu: group }
        };
        let weighed = cpu.make(name).and_then(|_| files.weigh());
        weighed.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", files.cpu.display())))?;
        // Few machines have a scheduler of block I/O that knows weights.
        if let Some(io) = hierarchies.iter().find(|one| one.controls(if one.unified { "io" } else { "blkio" }))
            && let Ok(folder) = io.make(name)
        {
            for file in ["io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"] {
                let file = folder.join(file);
                let _ = file.exists().then(|| fs::write(file, IO_WEIGHT.to_string()));
            }
        }
        Ok(files)
    }

    /// Removes the group, if no build is in it. Blocks for a moment where the engine is just removing a container's.
    pub(super) fn remove(&self) {
        let Some(name) = &self.name else { return };
        for one in hierarchies(&fs::read_to_string(&self.mounts).unwrap_or_default()) {
            let end = Instant::now() + BUSY;
            // Most have none of this name.
            while fs::remove_dir(one.root.join(name)).is_err_and(|error| error.kind() == io::ErrorKind::ResourceBusy)
                && Instant::now() < end
            {
                std::thread::sleep(BUSY / 40);
            }
        }
    }
}

/// One tree of control groups.
#[derive(Debug, PartialEq, Eq)]
struct Hierarchy {
    root: PathBuf,
    /// Of version 2.
    unified: bool,
    /// What it governs, as far as its mount says it.
    options: String,
}

impl Hierarchy {
    fn controls(&self, controller: &str) -> bool {
        if self.unified {
            let controllers = fs::read_to_string(self.root.join("cgroup.controllers")).unwrap_or_default();
            return controllers.split_whitespace().any(|one| one == controller);
        }
        self.options.split(',').any(|one| one == controller)
    }

    /// Whether its root is the machine's. Below a container's, the engine does not find what is made here.
    fn is_whole(&self) -> bool {
        if self.unified { !self.root.join("cgroup.type").exists() } else { self.root.join("release_agent").exists() }
    }

    /// Makes a group below the root, unless it is there.
    fn make(&self, name: &str) -> io::Result<PathBuf> {
        if self.unified {
            // What the root does not hand down has no files in the group.
            for controller in ["+cpu", "+io"] {
                let _ = fs::write(self.root.join("cgroup.subtree_control"), controller);
            }
        }
        let folder = self.root.join(name);
        match fs::create_dir(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(folder),
        }
    }
}

/// The trees that a table of mounts has (proc(5)).
fn hierarchies(mounts: &str) -> Vec<Hierarchy> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (root, kind, options) = (words.next()?, words.next()?, words.next()?);
        let unified = kind == "cgroup2";
        let root = Path::new(root).to_owned();
        (unified || kind == "cgroup").then(|| Hierarchy { root, unified, options: options.to_owned() })
    });
    mounts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(mounts: &Path) -> BuildGroup {
        let group = BuildGroup::new("0", Some(bollard::models::SystemInfoCgroupDriverEnum::CGROUPFS), 2);
        BuildGroup { mounts: mounts.to_owned(), ..group }
    }

    /// A folder with the trees of both versions, and a table of mounts for each.
    fn machine() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for folder in ["cpu", "blkio/paas-0-builds", "v2"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("cpu/release_agent"), "").unwrap();
        fs::write(dir.path().join("blkio/paas-0-builds/blkio.weight"), "500").unwrap();
        fs::write(dir.path().join("v2/cgroup.controllers"), "cpuset cpu io memory\n").unwrap();
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let cgroup = |name: &str| format!("cgroup {root}/{name} cgroup rw,{name} 0 0\n");
        fs::write(&first, format!("proc /proc proc rw 0 0\n{}{}", cgroup("cpu"), cgroup("blkio"))).unwrap();
        fs::write(&second, format!("cgroup2 {root}/v2 cgroup2 rw,nosuid 0 0\n")).unwrap();
        (dir, first, second)
    }

    fn path(group: &BuildGroup) -> Option<String> {
        group.place().map(|place| place.path)
    }

    #[tokio::test]
    async fn both_versions_of_control_groups_are_weighed_and_removed() {
        let (dir, first, second) = machine();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(path(&group(&first)).as_deref(), Some("/paas-0-builds"));
        assert_eq!(path(&group(&second)).as_deref(), Some("/paas-0-builds"));
        assert_eq!(read("cpu/paas-0-builds/cpu.shares"), "64");
        assert_eq!(read("blkio/paas-0-builds/blkio.weight"), "10");
        assert_eq!(read("v2/paas-0-builds/cpu.weight"), "6");
        // The files of a real group go with its folder.
        for file in ["cpu/paas-0-builds/cpu.shares", "blkio/paas-0-builds/blkio.weight", "v2/paas-0-builds/cpu.weight"]
        {
            fs::remove_file(dir.path().join(file)).unwrap();
        }
        group(&first).remove();
        group(&second).remove();
        for tree in ["cpu", "blkio", "v2"] {
            assert!(!dir.path().join(tree).join("paas-0-builds").exists(), "{tree}");
        }
    }

    /// On this machine's own control groups; tests run as root.
    #[test]
    fn the_kernel_knows_idle_groups() {
        let driver = Some(bollard::models::SystemInfoCgroupDriverEnum::CGROUPFS);
        let group = BuildGroup::new(&format!("unit-{:08x}", rand::random::<u32>()), driver, 2);
        let files = group.weigh(group.name.as_ref().unwrap()).unwrap();
        let read = |name: &str| fs::read_to_string(files.cpu.join(name)).unwrap().trim().to_owned();
        assert_eq!((read("cpu.idle").as_str(), read(files.weight.0)), ("0", files.weight.1.clone()));
        files.set(true).unwrap();
        assert!(files.is_idle().unwrap());
        files.set(false).unwrap();
        assert_eq!((read("cpu.idle").as_str(), read(files.weight.0)), ("0", files.weight.1.clone()));
        group.remove();
        assert!(!files.cpu.exists());
    }

    #[tokio::test]
    async fn the_engines_own_group_must_do_where_the_machines_root_is_out_of_sight() {
        let (dir, first, second) = machine();
        fs::remove_file(dir.path().join("cpu/release_agent")).unwrap();
        fs::write(dir.path().join("v2/cgroup.type"), "domain\n").unwrap();
        assert_eq!([path(&group(&first)), path(&group(&second))], [None, None], "a container's root");
        assert_eq!(path(&group(&dir.path().join("missing"))), None);
        let systemd = Some(bollard::models::SystemInfoCgroupDriverEnum::SYSTEMD);
        assert_eq!(path(&BuildGroup::new("0", systemd, 2)), None);
    }
}
