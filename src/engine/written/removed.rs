//! Files that are removed but still take space, because a process has them open or mapped.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    cgroup::{Hierarchy, hierarchies},
    engine::attach::is_in_container,
};

/// Number of open files and mappings of a container that are looked at: each costs, and a container may have millions.
const MAX_LOOKED_AT: usize = 65_536;

/// Bytes of the removed files that processes of a container have open, in its own layer and in these folders. `pid` is its first
/// process. 0 if its processes cannot be found here. Blocks.
pub(super) fn removed_files(pid: u32, container: &str, volumes: &[PathBuf]) -> u64 {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let groups = read(format!("/proc/{pid}/cgroup"));
    let files = process_files(&groups, container, &hierarchies(&read("/proc/mounts".to_owned())));
    let processes = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let root = PathBuf::from(format!("/proc/{pid}/root/"));
    let devices: Vec<_> =
        volumes.iter().chain([&root]).filter_map(|path| Some(fs::metadata(path).ok()?.dev())).collect();
    // By number: a file that several processes have takes its space once.
    let mut removed = HashMap::new();
    for file in processes.lines().flat_map(open_files).take(MAX_LOOKED_AT) {
        // It may have been closed meanwhile.
        let Ok(about) = fs::metadata(file) else { continue };
        if about.is_file() && about.nlink() == 0 && devices.contains(&about.dev()) {
            removed.insert(about.ino(), about.blocks().saturating_mul(512));
        }
    }
    removed.into_values().fold(0, u64::saturating_add)
}

/// The files with the processes of a container, in each hierarchy that has a group of it. `groups` are those of one of its
/// processes (cgroups(7)).
fn process_files(groups: &str, container: &str, hierarchies: &[Hierarchy]) -> Vec<PathBuf> {
    let of_group = |line: &str| {
        let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
        let hierarchy = hierarchies.iter().find(|hierarchy| match controllers {
            "" => hierarchy.unified,
            _ => !hierarchy.unified && controllers.split(',').all(|controller| hierarchy.controls(controller)),
        });
        Some(hierarchy?.root.join(group.trim_start_matches('/')).join("cgroup.procs"))
    };
    groups.lines().filter(|line| is_in_container(line, container)).filter_map(of_group).collect()
}

/// Links to what a process has open, and to what it has mapped and is removed.
fn open_files(pid: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let process = Path::new("/proc").join(pid);
    let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
    let maps = fs::read(process.join("maps")).unwrap_or_default();
    let mapped: Vec<_> = String::from_utf8_lossy(&maps).lines().filter_map(removed_mapping).collect();
    open.chain(mapped.into_iter().map(move |range| process.join("map_files").join(range)))
}

/// Name in `/proc/PID/map_files` of a mapping in a line of `/proc/PID/maps`, if its file is removed (proc_pid_maps(5)).
fn removed_mapping(line: &str) -> Option<String> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    // Here the addresses have no zeros in front.
    let [start, end] = [start, end].map(|address| u64::from_str_radix(address, 16).ok());
    rest.ends_with(" (deleted)").then_some(format!("{:x}-{:x}", start?, end?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processes_of_a_container_are_in_its_group() {
        let mounts = "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n";
        let files = |groups: &str| process_files(groups, "0c4f", &hierarchies(mounts));
        assert_eq!(files("8:pids:/paas/0c4f\n0::/\n"), [Path::new("/sys/fs/cgroup/pids/paas/0c4f/cgroup.procs")]);
        let unified = "0::/system.slice/docker-0c4f.scope\n";
        let expected = "/sys/fs/cgroup/unified/system.slice/docker-0c4f.scope/cgroup.procs";
        assert_eq!(files(unified), [Path::new(expected)]);
        assert!(files("8:pids:/paas/1111\n0::/\n").is_empty() && files("nonsense").is_empty());
    }

    #[test]
    fn mappings_of_removed_files_are_found() {
        let line = "00400000-7f0000001000 rw-s 00000000 00:2a 1234   /tmp/big (deleted)";
        assert_eq!(removed_mapping(line).as_deref(), Some("400000-7f0000001000"));
        assert_eq!(removed_mapping("00400000-00401000 r-xp 00000000 08:01 9   /bin/sh"), None);
        assert_eq!(removed_mapping("(deleted)"), None);
    }

    #[test]
    fn what_a_process_has_open_is_listed() {
        let file = tempfile::tempfile().unwrap();
        let ino = file.metadata().unwrap().ino();
        let pid = std::process::id().to_string();
        assert!(open_files(&pid).filter_map(|path| fs::metadata(path).ok()).any(|about| about.ino() == ino));
        assert_eq!(open_files("0").count(), 0);
    }
}
