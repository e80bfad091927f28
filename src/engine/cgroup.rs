//! The control group of builds, which gives builds a low priority among everything that runs on the machine.
//!
//! In the engine's own control group, the weight of a build counts only against instances, while that group as a whole
//! weighs as much as each single process outside of it, such as the router: a build of many short processes would delay
//! requests for seconds. The builds' group is therefore below the root, where its low weight counts against everything.
//!
//! An engine that leaves control groups to systemd creates the group of each container beside those of the machine's
//! services, where the weight of the container itself has this effect. The engine reports which of the two it does.

mod idle;
mod instances;

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use bollard::models::SystemInfoCgroupDriverEnum as CgroupDriver;

use crate::cgroup::{hierarchies, of_the_machine, remove_group};
use idle::{GroupFiles, IdleControl};
pub(super) use instances::InstanceGroup;
pub use instances::OwnerGroup;

/// CPU weight of all builds together, in the unit of version 1: the default of a process or group is 1024.
pub(super) const CPU_SHARES: i32 = 64;
/// The same CPU weight in the unit of version 2, whose default is 100.
const CPU_WEIGHT: u32 = 6;
/// Weight of block I/O, for machines whose I/O scheduler supports weights; the default is 100 or 500.
pub(super) const IO_WEIGHT: u16 = 10;

/// The control group of one server's builds.
#[derive(Debug)]
pub(super) struct BuildGroup {
    /// Name of the group; `None` if the engine does not let us choose one.
    name: Option<String>,
    /// Table of mounts.
    mounts: PathBuf,
    /// CPU limit of one build.
    cpus: u32,
    idle_control: Mutex<Weak<IdleControl>>,
    /// Whether a warning that there is no group was logged.
    warned: AtomicBool,
}

/// Keeps the control group of builds active: while a value exists, the group's idle state is adjusted (see [`idle`]).
#[derive(Debug)]
pub(super) struct ActiveGroup {
    /// Path of the group in requests to the engine.
    pub path: String,
    _idle_control: Arc<IdleControl>,
}

impl BuildGroup {
    /// `driver` is the engine's control group driver; `cpus` is the CPU limit of one build.
    pub(super) fn new(server_id: &str, driver: Option<CgroupDriver>, cpus: u32) -> Self {
        let can_choose = driver == Some(CgroupDriver::CGROUPFS);
        Self {
            name: can_choose.then(|| format!("paas-{server_id}-builds")),
            mounts: "/proc/mounts".into(),
            cpus,
            idle_control: Mutex::default(),
            warned: AtomicBool::new(false),
        }
    }

    /// Path of the group in requests to the engine.
    pub(super) fn path(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("/{name}"))
    }

    /// Prepares the group for a build; `None` if the build must run in the engine's own group. Unless the group is active
    /// and exists, it is created and its weights are set: the engine would create a removed group with default weights.
    /// Needs a Tokio runtime.
    pub(super) fn activate(&self) -> Option<ActiveGroup> {
        let name = self.name.as_ref()?;
        let mut current = self.idle_control.lock().unwrap_or_else(PoisonError::into_inner);
        let active = current.upgrade().filter(|control| control.has_group());
        let control = match active {
            Some(control) => Ok(control),
            None => self.create(name).map(|files| Arc::new(IdleControl::start(files, self.cpus))),
        };
        match control {
            Ok(control) => {
                self.warned.store(false, Ordering::Relaxed);
                *current = Arc::downgrade(&control);
                Some(ActiveGroup { path: self.path()?, _idle_control: control })
            }
            Err(error) => {
                // Logged once, not for every build.
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "builds have no control group of their own, so their low weight counts against containers only: run \
                         the server on the host itself, as root"
                    );
                }
                None
            }
        }
    }

    /// Creates the group unless it exists, and sets its weights.
    fn create(&self, name: &str) -> io::Result<GroupFiles> {
        let hierarchies = hierarchies(&fs::read_to_string(&self.mounts)?);
        let cpu = of_the_machine(&hierarchies, "cpu");
        let cpu = cpu.ok_or_else(|| io::Error::other("the machine's control groups for CPU are not mounted here"))?;
        let group = cpu.root.join(name);
        let files = if cpu.unified {
            GroupFiles { weight: ("cpu.weight", CPU_WEIGHT.to_string()), usage: group.join("cpu.stat"), cpu: group }
        } else {
            let accounting = hierarchies.iter().find(|hierarchy| hierarchy.controls("cpuacct")).unwrap_or(cpu);
            let usage = accounting.root.join(name).join("cpuacct.usage");
            GroupFiles { weight: ("cpu.shares", CPU_SHARES.to_string()), usage, cpu: group }
        };
        let set = cpu.create_group(name).and_then(|_| files.set_weight());
        set.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", files.cpu.display())))?;
        // Few machines have an I/O scheduler that supports weights.
        if let Some(io) = hierarchies.iter().find(|hierarchy| hierarchy.controls(hierarchy.io_controller()))
            && let Ok(folder) = io.create_group(name)
        {
            for file in ["io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"] {
                let file = folder.join(file);
                let _ = file.exists().then(|| fs::write(file, IO_WEIGHT.to_string()));
            }
        }
        Ok(files)
    }

    /// Removes the group, if no build is in it. Blocks for some seconds if the engine is removing the group of a container in
    /// it.
    pub(super) fn remove(&self) {
        let Some(name) = &self.name else { return };
        for hierarchy in hierarchies(&fs::read_to_string(&self.mounts).unwrap_or_default()) {
            // Most hierarchies have no group of this name.
            remove_group(&hierarchy.root.join(name));
        }
    }
}

/// Removes the control group of a container that was removed. An engine that dies while it starts a container leaves the group behind.
/// Blocks.
pub(super) fn remove_group_of_container(mounts: &Path, parent: &str, id: &str) {
    for hierarchy in hierarchies(&fs::read_to_string(mounts).unwrap_or_default()) {
        // There is none unless it was left, and none with a process in it is removed.
        let _ = fs::remove_dir(hierarchy.root.join(parent.trim_start_matches('/')).join(id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_of_a_container_is_removed_in_all_hierarchies() {
        let (dir, first, _) = machine();
        let group = |tree: &str, id: &str| dir.path().join(tree).join("paas-0-builds").join(id);
        for (tree, id) in [("cpu", "aa"), ("blkio", "aa"), ("cpu", "bb")] {
            fs::create_dir_all(group(tree, id)).unwrap();
        }
        remove_group_of_container(&first, "/paas-0-builds", "aa");
        assert!(!group("cpu", "aa").exists() && !group("blkio", "aa").exists());
        assert!(group("cpu", "bb").exists(), "that of another container");
    }

    fn group(mounts: &Path) -> BuildGroup {
        let group = BuildGroup::new("0", Some(CgroupDriver::CGROUPFS), 2);
        BuildGroup { mounts: mounts.to_owned(), ..group }
    }

    /// A folder with hierarchies of both versions, and a table of mounts for each.
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
        group.activate().map(|active| active.path)
    }

    #[tokio::test]
    async fn groups_of_both_versions_get_weights_and_are_removed() {
        let (dir, first, second) = machine();
        let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
        assert_eq!(path(&group(&first)).as_deref(), Some("/paas-0-builds"));
        assert_eq!(path(&group(&second)).as_deref(), Some("/paas-0-builds"));
        assert_eq!(read("cpu/paas-0-builds/cpu.shares"), "64");
        assert_eq!(read("blkio/paas-0-builds/blkio.weight"), "10");
        assert_eq!(read("v2/paas-0-builds/cpu.weight"), "6");
        // The kernel removes the files of a real group with its folder.
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

    /// Uses the control groups of this machine; tests run as root.
    #[test]
    fn the_kernel_supports_idle_groups() {
        let driver = Some(CgroupDriver::CGROUPFS);
        let group = BuildGroup::new(&format!("unit-{:08x}", rand::random::<u32>()), driver, 2);
        let files = group.create(group.name.as_ref().unwrap()).unwrap();
        let read = |name: &str| fs::read_to_string(files.cpu.join(name)).unwrap().trim().to_owned();
        assert_eq!((read("cpu.idle").as_str(), read(files.weight.0)), ("0", files.weight.1.clone()));
        files.set_idle(true).unwrap();
        assert!(files.is_idle().unwrap());
        files.set_idle(false).unwrap();
        assert_eq!((read("cpu.idle").as_str(), read(files.weight.0)), ("0", files.weight.1.clone()));
        group.remove();
        assert!(!files.cpu.exists());
    }

    #[tokio::test]
    async fn builds_run_in_the_engines_group_where_the_machines_hierarchies_are_not_mounted() {
        let (dir, first, second) = machine();
        fs::remove_file(dir.path().join("cpu/release_agent")).unwrap();
        fs::write(dir.path().join("v2/cgroup.type"), "domain\n").unwrap();
        assert_eq!([path(&group(&first)), path(&group(&second))], [None, None], "a container's root");
        assert_eq!(path(&group(&dir.path().join("missing"))), None);
        let systemd = Some(CgroupDriver::SYSTEMD);
        assert_eq!(path(&BuildGroup::new("0", systemd, 2)), None);
    }
}
