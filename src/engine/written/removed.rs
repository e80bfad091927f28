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
pub(super) const MAX_LOOKED_AT: usize = 1 << 17;

/// Bytes of the removed files that processes of a container have open, in its own layer and in these folders. `pid` is its first
/// process. 0 if its processes cannot be found here, `None` if they have too many files open. Blocks.
pub(super) fn removed_files(pid: u32, container: &str, volumes: &[PathBuf]) -> Option<u64> {
    let read = |path: String| fs::read_to_string(path).unwrap_or_default();
    let groups = read(format!("/proc/{pid}/cgroup"));
    let files = process_files(&groups, container, &hierarchies(&read("/proc/mounts".to_owned())));
    let processes = files.iter().find_map(|file| fs::read_to_string(file).ok()).unwrap_or_default();
    let root = PathBuf::from(format!("/proc/{pid}/root/"));
    let devices: Vec<_> =
        volumes.iter().chain([&root]).filter_map(|path| Some(fs::metadata(path).ok()?.dev())).collect();
    // By number: a file that several processes have takes its space once.
    let mut removed = HashMap::new();
    for (looked_at, file) in processes.lines().flat_map(open_files).enumerate() {
        if looked_at == MAX_LOOKED_AT {
            return None;
        }
        // It may have been closed meanwhile.
        let Ok(about) = fs::metadata(file) else { continue };
        if about.is_file() && about.nlink() == 0 && devices.contains(&about.dev()) {
            removed.insert(about.ino(), about.blocks().saturating_mul(512));
        }
    }
    for (number, bytes) in processes.lines().flat_map(mappings_without_leader).take(MAX_LOOKED_AT) {
        removed.entry(number).or_insert(bytes);
    }
    Some(removed.into_values().fold(0, u64::saturating_add))
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

/// Links to what the threads of a process have open, once if it is the same, and to what it has mapped and is removed.
fn open_files(pid: &str) -> impl Iterator<Item = PathBuf> + use<> {
    let process = Path::new("/proc").join(pid);
    let entries = |folder: PathBuf| fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut first = None;
    let has_own_files = move |thread: &PathBuf| {
        let Some(id) = thread.file_name().and_then(|name| name.to_str()?.parse().ok()) else { return true };
        let first = *first.get_or_insert(id);
        first == id || !have_same_files(first, id)
    };
    let open = entries(process.join("task")).filter(has_own_files).flat_map(move |thread| entries(thread.join("fd")));
    let mapped = removed_mappings(&process.join("maps"));
    let file = move |Mapping { start, end, .. }| process.join("map_files").join(format!("{start:x}-{end:x}"));
    open.chain(mapped.into_iter().map(file))
}

/// Whether two threads have one table of open files, as threads of a process usually do; `false` where the kernel does not tell.
fn have_same_files(one: i32, other: i32) -> bool {
    /// `KCMP_FILES` of kcmp(2).
    const FILES: i32 = 2;
    #[expect(unsafe_code, reason = "rustix has no kcmp, which takes five numbers and touches no memory of the caller")]
    let order = unsafe { libc::syscall(libc::SYS_kcmp, one, other, FILES, 0, 0) };
    order == 0
}

/// Numbers and lengths of the removed files that a process has mapped whose first thread has ended, while others go on. Nothing
/// tells how much of their space is taken.
fn mappings_without_leader(pid: &str) -> impl Iterator<Item = (u64, u64)> + use<> {
    let process = Path::new("/proc").join(pid);
    // A process whose first thread has ended has no program.
    let has_leader = fs::read_link(process.join("exe")).is_ok();
    let threads = fs::read_dir(process.join("task")).into_iter().flatten().flatten().filter(|_| !has_leader);
    // All threads have the same memory.
    let mapped = threads.map(|thread| removed_mappings(&thread.path().join("maps"))).find(|mapped| !mapped.is_empty());
    mapped.unwrap_or_default().into_iter().map(|mapping| (mapping.file, mapping.end - mapping.start))
}

/// A mapping of a removed file (proc_pid_maps(5)).
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    /// Number of the file on its disk.
    file: u64,
}

fn removed_mappings(maps: &Path) -> Vec<Mapping> {
    let maps = fs::read(maps).unwrap_or_default();
    String::from_utf8_lossy(&maps).lines().filter_map(removed_mapping).collect()
}

/// The mapping in a line of `maps`, if its file is removed, and was on a disk.
fn removed_mapping(line: &str) -> Option<Mapping> {
    let (range, rest) = line.split_once(' ')?;
    let (start, end) = range.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    let (file, name) = rest.split_ascii_whitespace().nth(3).zip(rest.strip_suffix(" (deleted)"))?;
    let in_memory = ["/memfd:", "/SYSV", "/dev/"].iter().any(|prefix| name.contains(&format!(" {prefix}")));
    (!in_memory).then_some(Mapping { start: address(start)?, end: address(end)?, file: file.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use std::{
        collections::HashSet,
        io::{BufRead as _, BufReader},
        process::{Command, Stdio},
    };

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
        let mapping = Mapping { start: 0x40_0000, end: 0x7f00_0000_1000, file: 1234 };
        assert_eq!(removed_mapping(line), Some(mapping));
        assert_eq!(removed_mapping("00400000-00401000 rw-s 00000000 00:01 5   /memfd:x (deleted)"), None);
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
        // Other tests run in threads of this process.
        let tables: HashSet<_> = open_files(&pid).filter_map(|path| Some(path.parent()?.to_owned())).collect();
        assert_eq!(tables.iter().filter(|table| table.ends_with("fd")).count(), 1, "{tables:?}");
    }

    /// A thread holds a removed file, and the first thread of its process ends.
    const HOLDER: &str = "
import ctypes, mmap, os, tempfile, threading
def hold():
    file = tempfile.TemporaryFile(dir='/var/tmp')
    os.posix_fallocate(file.fileno(), 0, 1 << 20)
    mapped = mmap.mmap(file.fileno(), 1 << 20)
    print(os.fstat(file.fileno()).st_ino, flush=True)
    threading.Event().wait()
threading.Thread(target=hold).start()
ctypes.CDLL(None).syscall(93 if os.uname().machine == 'aarch64' else 60, 0)
";

    #[test]
    fn what_threads_have_is_listed_when_the_first_one_has_ended() {
        let mut child = Command::new("/usr/bin/python3");
        child.args(["-c", HOLDER]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = child.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let number: u64 = line.trim().parse().unwrap();
        let pid = child.id().to_string();
        // It ends a moment later.
        while fs::read(format!("/proc/{pid}/maps")).is_ok_and(|maps| !maps.is_empty()) {
            std::thread::yield_now();
        }
        let open = open_files(&pid).filter_map(|path| fs::metadata(path).ok()).any(|about| about.ino() == number);
        let mapped = mappings_without_leader(&pid).find(|(file, _)| *file == number);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(open);
        assert_eq!(mapped, Some((number, 1 << 20)));
    }
}
