//! Where builds stand among all that runs on the machine: in a control group of the server's own, beside the engine's.
//!
//! Within the engine's group a build's weight counts against instances only, while the group as a whole weighs as much as
//! each single process of the machine, the router among them: then a build of many short processes makes requests wait for
//! seconds. In a group of the machine's root the small weight counts against everything.
//!
//! Engines that leave control groups to systemd put each container beside the services of the machine, where its own
//! weight does the same.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// CPU: an ordinary process, or group of them, has 1024.
const SHARES: i64 = 64;
/// The same for control groups of version 2, where 100 is ordinary.
const WEIGHT: u32 = 6;
/// Block I/O, where the machine's scheduler knows weights: 100 is ordinary, or 500.
const IO_WEIGHT: u16 = 10;

/// What a build container is told of its weight.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The group that it is put into; the engine's own where there is none.
    pub(super) parent: Option<String>,
    /// Its CPU shares within the group.
    pub(super) shares: i64,
    /// Its weight in block I/O within the group.
    pub(super) io_weight: u16,
}

/// The group of one server's builds, if the engine lets us choose one.
#[derive(Debug)]
pub(super) struct BuildGroup {
    name: Option<String>,
    mounts: PathBuf,
}

impl BuildGroup {
    /// `driver` is the engine's word for who makes its control groups.
    pub(super) fn new(server_id: &str, driver: Option<bollard::models::SystemInfoCgroupDriverEnum>) -> Self {
        let chosen = driver == Some(bollard::models::SystemInfoCgroupDriverEnum::CGROUPFS);
        Self { name: chosen.then(|| format!("paas-{server_id}-builds")), mounts: "/proc/mounts".into() }
    }

    /// The group as the engine calls it.
    pub(super) fn path(&self) -> Option<String> {
        self.name.as_ref().map(|name| format!("/{name}"))
    }

    /// Where the next build goes. The group is made and weighed each time: whoever removed it, the engine would make one
    /// of ordinary weight.
    pub(super) fn place(&self) -> Place {
        let alone = Place { parent: None, shares: SHARES, io_weight: IO_WEIGHT };
        let Some(name) = &self.name else { return alone };
        match self.weigh(name) {
            Ok(()) => Place { parent: self.path(), shares: 1024, io_weight: 100 },
            Err(error) => {
                tracing::warn!(%error, "builds have no control group of their own: their weight counts among containers only");
                alone
            }
        }
    }

    fn weigh(&self, name: &str) -> io::Result<()> {
        let hierarchies = hierarchies(&fs::read_to_string(&self.mounts)?);
        let cpu = hierarchies.iter().find(|one| one.controls("cpu"));
        let cpu = cpu.ok_or_else(|| io::Error::other("no control groups for CPU are mounted"))?;
        let folder = cpu.make(name)?;
        if cpu.unified {
            fs::write(folder.join("cpu.weight"), WEIGHT.to_string())?;
        } else {
            fs::write(folder.join("cpu.shares"), SHARES.to_string())?;
        }
        // Few machines have a scheduler of block I/O that knows weights.
        if let Some(io) = hierarchies.iter().find(|one| one.controls(if one.unified { "io" } else { "blkio" }))
            && let Ok(folder) = io.make(name)
        {
            for file in ["io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"] {
                let _ = fs::OpenOptions::new()
                    .write(true)
                    .open(folder.join(file))
                    .and_then(|mut file| io::Write::write_all(&mut file, IO_WEIGHT.to_string().as_bytes()));
            }
        }
        Ok(())
    }

    /// Removes the group, if no build is in it.
    pub(super) fn remove(&self) {
        let Some(name) = &self.name else { return };
        for one in hierarchies(&fs::read_to_string(&self.mounts).unwrap_or_default()) {
            // Most have none of this name.
            let _ = fs::remove_dir(one.root.join(name));
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
        BuildGroup { name: Some("paas-0-builds".into()), mounts: mounts.to_owned() }
    }

    #[test]
    fn both_versions_of_control_groups_are_weighed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().to_str().unwrap();
        for folder in ["cpu", "blkio", "v2"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let mounts = dir.path().join("mounts");
        fs::write(
            &mounts,
            format!(
                "proc /proc proc rw 0 0\ncgroup {root}/cpu cgroup rw,cpu 0 0\ncgroup {root}/blkio cgroup rw,blkio 0 0\n\
                 cgroup2 {root}/v2 cgroup2 rw 0 0\n"
            ),
        )
        .unwrap();
        let place = group(&mounts).place();
        assert_eq!(place, Place { parent: Some("/paas-0-builds".into()), shares: 1024, io_weight: 100 });
        let shares = dir.path().join("cpu/paas-0-builds/cpu.shares");
        assert_eq!(fs::read_to_string(&shares).unwrap(), "64");
        fs::remove_file(shares).unwrap();
        group(&mounts).remove();
        assert!(!dir.path().join("cpu/paas-0-builds").exists() && !dir.path().join("blkio/paas-0-builds").exists());

        fs::write(&mounts, format!("cgroup2 {root}/v2 cgroup2 rw,nosuid 0 0\n")).unwrap();
        fs::write(dir.path().join("v2/cgroup.controllers"), "cpuset cpu io memory\n").unwrap();
        assert_eq!(group(&mounts).place().parent.as_deref(), Some("/paas-0-builds"));
        assert_eq!(fs::read_to_string(dir.path().join("v2/paas-0-builds/cpu.weight")).unwrap(), "6");
    }

    #[test]
    fn where_there_is_no_group_the_container_itself_weighs_little() {
        let alone = Place { parent: None, shares: 64, io_weight: 10 };
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(group(&dir.path().join("missing")).place(), alone);
        let systemd = Some(bollard::models::SystemInfoCgroupDriverEnum::SYSTEMD);
        assert_eq!(BuildGroup::new("0", systemd).place(), alone);
    }
}
