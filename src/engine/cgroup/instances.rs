//! The control group of instances and tasks: it leaves the machine its share of the memory, and has a group for each owner, so
//! that one who uses up memory has own processes killed, and nobody else's.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use bollard::models::SystemInfoCgroupDriverEnum as CgroupDriver;

use crate::cgroup::{Hierarchy, hierarchies, of_the_machine, remove_group_and_below};

/// CPU weight of all instances and tasks together, in the unit of version 1: the default of a process or group is 1024. An
/// engine that is busy with many starts must not slow the apps down, while it needs some time, too.
const CPU_SHARES: u32 = 4096;
/// The same CPU weight in the unit of version 2, whose default is 100.
const CPU_WEIGHT: u32 = 400;

/// The control group of one owner's containers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnerGroup {
    /// Name, unique among the owners of a server: letters, digits and hyphens.
    pub name: String,
    /// Memory that the containers may use together, in MiB; `None` for any amount.
    pub memory_mib: Option<u64>,
}

/// The control group of one server's instances and tasks.
#[derive(Debug)]
pub(in crate::engine) struct InstanceGroup {
    /// Name of the group; `None` if the engine does not let us choose one.
    name: Option<String>,
    /// Table of mounts.
    mounts: PathBuf,
    /// Memory that all containers may use together, in MiB.
    memory_mib: u64,
    /// Whether a warning that there is no group was logged.
    warned: AtomicBool,
}

impl InstanceGroup {
    /// `driver` is the engine's control group driver.
    pub(in crate::engine) fn new(server_id: &str, driver: Option<CgroupDriver>, memory_mib: u64) -> Self {
        let can_choose = driver == Some(CgroupDriver::CGROUPFS);
        Self {
            name: can_choose.then(|| format!("paas-{server_id}-instances")),
            mounts: "/proc/mounts".into(),
            memory_mib,
            warned: AtomicBool::new(false),
        }
    }

    /// Memory that all containers may use together, in MiB.
    pub(in crate::engine) fn memory_mib(&self) -> u64 {
        self.memory_mib
    }

    /// Prepares the group of an owner, and returns its path in requests to the engine; `None` if the container must run in the
    /// engine's own group. Groups are created again after a restart of the machine, and limits may have changed. Blocks.
    pub(in crate::engine) fn prepare(&self, owner: &OwnerGroup) -> Option<String> {
        let name = self.name.as_ref()?;
        match self.create(name, owner) {
            Ok(()) => {
                self.warned.store(false, Ordering::Relaxed);
                Some(format!("/{name}/{}", owner.name))
            }
            Err(error) => {
                // Logged once, not for every container.
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "instances have no control group of their own, so their memory is limited for each of them only: run \
                         the server on the host itself, as root"
                    );
                }
                None
            }
        }
    }

    fn create(&self, name: &str, owner: &OwnerGroup) -> io::Result<()> {
        let hierarchies = hierarchies(&fs::read_to_string(&self.mounts)?);
        let memory = of_the_machine(&hierarchies, "memory");
        let memory =
            memory.ok_or_else(|| io::Error::other("the machine's control groups for memory are not mounted here"))?;
        let all = memory.create_group(name)?;
        limit(memory, &all, Some(self.memory_mib))?;
        memory.delegate(&all);
        weigh(&hierarchies, name)?;
        let of_owner = Hierarchy::create_below(&all, &owner.name)?;
        // A limit that was lowered below what is used is reached step by step, as containers end.
        limit(memory, &of_owner, owner.memory_mib.map(|limit| limit.max(used_mib(memory, &of_owner))))
    }

    /// Removes the groups, if no container is in them. Blocks for some seconds if the engine is removing the group of a container
    /// in them.
    pub(in crate::engine) fn remove(&self) {
        let Some(name) = &self.name else { return };
        for hierarchy in hierarchies(&fs::read_to_string(&self.mounts).unwrap_or_default()) {
            remove_group_and_below(&hierarchy.root.join(name));
        }
    }
}

/// Memory that a group uses, in MiB, rounded up.
fn used_mib(hierarchy: &Hierarchy, group: &Path) -> u64 {
    let file = group.join(if hierarchy.unified { "memory.current" } else { "memory.usage_in_bytes" });
    let used = fs::read_to_string(file).ok().and_then(|used| used.trim().parse::<u64>().ok());
    used.unwrap_or(0).div_ceil(1 << 20)
}

/// Limits the memory of a group, in MiB, unless it is limited so already.
fn limit(hierarchy: &Hierarchy, group: &Path, mebibytes: Option<u64>) -> io::Result<()> {
    let (file, unlimited) = if hierarchy.unified { ("memory.max", "max") } else { ("memory.limit_in_bytes", "-1") };
    set(&group.join(file), &mebibytes.map_or_else(|| unlimited.to_owned(), |mebibytes| (mebibytes << 20).to_string()))
}

/// Lets all containers together weigh more than one other process of the machine. Those of an owner weigh as much as those of
/// another, however many they are.
fn weigh(hierarchies: &[Hierarchy], name: &str) -> io::Result<()> {
    // Without the controller for CPU, no group has a weight.
    let Some(cpu) = of_the_machine(hierarchies, "cpu") else { return Ok(()) };
    let group = cpu.create_group(name)?;
    let (file, weight) = if cpu.unified { ("cpu.weight", CPU_WEIGHT) } else { ("cpu.shares", CPU_SHARES) };
    set(&group.join(file), &weight.to_string())
}

/// Writes a file of a group, unless it has this value.
fn set(file: &Path, wanted: &str) -> io::Result<()> {
    if fs::read_to_string(file).is_ok_and(|set| set.trim() == wanted) {
        return Ok(());
    }
    fs::write(file, wanted).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", file.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(name: &str, memory_mib: Option<u64>) -> OwnerGroup {
        OwnerGroup { name: name.to_owned(), memory_mib }
    }

    #[test]
    fn groups_of_both_versions_are_limited_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for folder in ["memory", "cpu", "v2"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        fs::write(dir.path().join("memory/release_agent"), "").unwrap();
        fs::write(dir.path().join("cpu/release_agent"), "").unwrap();
        fs::write(dir.path().join("v2/cgroup.controllers"), "cpu memory\n").unwrap();
        let mounts = dir.path().join("mounts");
        let first =
            format!("cgroup {root}/memory cgroup rw,memory 0 0\ncgroup {root}/cpu cgroup rw,relatime,cpu 0 0\n");
        let second = format!("cgroup2 {root}/v2 cgroup2 rw,nosuid 0 0\n");
        for (table, folder, file, weight, weighs) in [
            (first, "memory", "memory.limit_in_bytes", "cpu/paas-0-instances/cpu.shares", "4096"),
            (second, "v2", "memory.max", "v2/paas-0-instances/cpu.weight", "400"),
        ] {
            fs::write(&mounts, table).unwrap();
            let group = InstanceGroup::new("0", Some(CgroupDriver::CGROUPFS), 1024);
            let group = InstanceGroup { mounts: mounts.clone(), ..group };
            assert_eq!(group.prepare(&owner("owner-7", Some(64))).as_deref(), Some("/paas-0-instances/owner-7"));
            let all = dir.path().join(folder).join("paas-0-instances");
            let read = |path: &Path| fs::read_to_string(path.join(file)).unwrap();
            assert_eq!((read(&all), read(&all.join("owner-7"))), ("1073741824".into(), "67108864".into()));
            let weight = dir.path().join(weight);
            assert_eq!(fs::read_to_string(&weight).unwrap(), weighs);
            group.prepare(&owner("owner-7", None)).unwrap();
            assert!(["-1", "max"].contains(&&*read(&all.join("owner-7"))));
            // The kernel removes the files of a real group with its folder.
            for file in [weight, all.join(file), all.join("owner-7").join(file), all.join("cgroup.subtree_control")] {
                let _ = fs::remove_file(file);
            }
            group.remove();
            assert!(!all.exists());
        }
    }

    /// Uses the control groups of this machine; tests run as root.
    #[test]
    fn the_kernel_limits_the_memory_of_an_owner() {
        let id = format!("unit-{:08x}", rand::random::<u32>());
        let group = InstanceGroup::new(&id, Some(CgroupDriver::CGROUPFS), 512);
        group.prepare(&owner("owner-1", Some(16))).unwrap();
        let hierarchies = hierarchies(&fs::read_to_string("/proc/mounts").unwrap());
        let memory = of_the_machine(&hierarchies, "memory").unwrap();
        let folder = memory.root.join(format!("paas-{id}-instances/owner-1"));
        let procs = folder.join("cgroup.procs");
        let script = format!("echo $$ > {} && head -c 64M /dev/zero | tail", procs.display());
        let ended = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        assert!(!ended.status.success(), "64 MiB do not fit into 16");
        // A limit that is lowered below what is used takes nothing out of the group, and kills nothing.
        group.prepare(&owner("owner-1", Some(64))).unwrap();
        let file = format!("/dev/shm/paas-{id}");
        let script = format!("echo $$ > {} && head -c 24M /dev/zero >{file}", procs.display());
        assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
        assert!(group.prepare(&owner("owner-1", Some(8))).is_some());
        assert!((24..64).contains(&used_mib(memory, &folder)));
        fs::remove_file(file).unwrap();
        group.remove();
        assert!(!folder.exists());
    }

    #[test]
    fn containers_stay_in_the_engines_group_where_it_cannot_be_chosen() {
        let group = InstanceGroup::new("0", Some(CgroupDriver::SYSTEMD), 1024);
        assert_eq!(group.prepare(&owner("owner-7", None)), None);
    }
}
