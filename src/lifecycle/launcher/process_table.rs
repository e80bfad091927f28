//! The processes of the container, as `/proc` shows them (proc(5)).

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use super::{program, signal::Set};

/// A process. Its pid may be used again once it has ended; the time of its start, in clock ticks since the system's, may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Id {
    pub(super) pid: i32,
    pub(super) started: u64,
}

/// What the table says of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) id: Id,
    /// Pid of its parent; 0 of a process that was put into the container from outside, such as the command of `enter`.
    pub(super) parent: i32,
    /// Its process group.
    pub(super) group: i32,
    /// Whether a signal or a tracer has stopped it.
    pub(super) stopped: bool,
    /// Whether it is a shell or a package manager, which runs other programs and has nothing of its own to do at the end.
    pub(super) wrapper: bool,
    /// Inode of the pipe from which it reads its standard input.
    pub(super) input: Option<u64>,
    /// Inodes of the pipes to which it writes.
    pub(super) outputs: HashSet<u64>,
}

/// All processes that run, by pid, without the launcher.
#[derive(Debug, Clone, Default)]
pub(super) struct Table(pub(super) BTreeMap<i32, Process>);

/// The signals of a process, and whether it has nothing to do.
#[derive(Debug, Clone, Copy)]
pub(super) struct Signals {
    /// Sent to it, but not delivered yet.
    pub(super) pending: Set,
    pub(super) blocked: Set,
    pub(super) ignored: Set,
    pub(super) caught: Set,
}

impl Table {
    /// The processes that run now.
    pub(super) fn read() -> Self {
        let own = std::process::id().cast_signed();
        let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
        let pids = names.filter_map(|name| name.to_str()?.parse::<i32>().ok()).filter(|pid| *pid != own);
        Self(pids.filter_map(process).map(|process| (process.id.pid, process)).collect())
    }

    pub(super) fn contains(&self, id: Id) -> bool {
        self.0.get(&id.pid).is_some_and(|process| process.id == id)
    }

    /// The ancestors of a process that run, from its parent on.
    pub(super) fn ancestors(&self, process: &Process) -> Vec<&Process> {
        let parent = |of: &Process| self.0.get(&of.parent);
        // A process that is replaced while the table is read might make a circle.
        std::iter::successors(parent(process), |process| parent(process)).take(self.0.len()).collect()
    }

    /// Whether the process is a job of its parent: in a process group of its own, as shells with job control, `su`, `sudo` and
    /// many supervisors start their children.
    pub(super) fn is_job(&self, process: &Process) -> bool {
        self.0.get(&process.parent).is_some_and(|parent| parent.group != process.group)
    }

    /// Whether a process was put into the container from outside.
    pub(super) fn is_foreign(&self, process: &Process) -> bool {
        self.ancestors(process).last().unwrap_or(&process).parent == 0
    }

    /// Whether the container is kept for a process: all but those from outside, such as the shell of `enter`.
    pub(super) fn has_own_processes(&self) -> bool {
        self.0.values().any(|process| !self.is_foreign(process))
    }
}

/// One process; `None` if it has ended.
pub(super) fn process(pid: i32) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let stat = Stat::read(&folder)?;
    let fd = |number: &str| fs::read_link(folder.join("fd").join(number)).ok().and_then(|target| pipe(&target));
    let mut outputs = HashSet::new();
    for entry in fs::read_dir(folder.join("fd")).into_iter().flatten().flatten() {
        // The permissions of the link are those of the open file: readable, writable.
        let writable = entry.path().symlink_metadata().is_ok_and(|link| link.permissions().mode() & 0o200 != 0);
        if writable {
            outputs.extend(fs::read_link(entry.path()).ok().and_then(|target| pipe(&target)));
        }
    }
    let words = fs::read(folder.join("cmdline")).unwrap_or_default();
    Some(Process {
        id: Id { pid, started: stat.started },
        parent: stat.parent,
        group: stat.group,
        stopped: matches!(stat.state, 'T' | 't'),
        wrapper: program::is_wrapper(&stat.name, &words),
        input: fd("0"),
        outputs,
    })
}

/// The inode of `pipe:[INODE]`.
fn pipe(target: &Path) -> Option<u64> {
    target.to_str()?.strip_prefix("pipe:[")?.strip_suffix(']')?.parse().ok()
}

/// What `/proc/PID/stat` says.
struct Stat {
    name: String,
    state: char,
    parent: i32,
    group: i32,
    started: u64,
}

impl Stat {
    /// `None` if the process has ended.
    fn read(folder: &Path) -> Option<Self> {
        let stat = Self::parse(&String::from_utf8_lossy(&fs::read(folder.join("stat")).ok()?))?;
        (!matches!(stat.state, 'Z' | 'X')).then_some(stat)
    }

    fn parse(text: &str) -> Option<Self> {
        // The name may contain anything, parentheses too.
        let (head, tail) = text.rsplit_once(')')?;
        let name = head.split_once('(')?.1.to_owned();
        let fields: Vec<_> = tail.split_ascii_whitespace().collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        let state = match fields.first()?.chars().next()? {
            // The first thread has ended, others have not.
            'Z' if threads > 1 => 'S',
            state => state,
        };
        let (parent, group) = (fields.get(1)?.parse().ok()?, fields.get(2)?.parse().ok()?);
        Some(Self { name, state, parent, group, started: fields.get(19)?.parse().ok()? })
    }
}

/// The signals of a process; `None` if it has ended.
pub(super) fn signals(id: Id) -> Option<Signals> {
    let folder = Path::new("/proc").join(id.pid.to_string());
    Stat::read(&folder).filter(|stat| stat.started == id.started)?;
    let text = String::from_utf8_lossy(&fs::read(folder.join("status")).ok()?).into_owned();
    let set = |key: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(":"))?;
        u64::from_str_radix(value.trim(), 16).ok().map(Set)
    };
    Some(Signals {
        pending: Set(set("ShdPnd")?.0 | set("SigPnd")?.0),
        blocked: set("SigBlk")?,
        ignored: set("SigIgn")?,
        caught: set("SigCgt")?,
    })
}

/// Whether all threads of a process wait for something, or it has ended.
pub(super) fn all_threads_sleep(id: Id) -> bool {
    threads(id).all(|state| !matches!(state, 'R' | 'D'))
}

/// Whether all threads of a process are stopped, or it has ended.
pub(super) fn has_stopped(id: Id) -> bool {
    threads(id).all(|state| matches!(state, 'T' | 't'))
}

/// States of the threads of a process.
fn threads(id: Id) -> impl Iterator<Item = char> {
    let folder = Path::new("/proc").join(id.pid.to_string()).join("task");
    let threads = fs::read_dir(folder).into_iter().flatten().flatten();
    threads.filter_map(|thread| Stat::read(&thread.path())).map(|stat| stat.state)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_are_read() {
        let line = "12 (a) (b) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 4711 1 1";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((stat.name.as_str(), stat.state, stat.parent, stat.started), ("a) (b", 'S', 1, 4711));
        assert!(Stat::parse("12 (cut").is_none());
        assert_eq!(Stat::parse(&line.replace(" S ", " Z ")).unwrap().state, 'S', "other threads run");
    }

    #[test]
    fn the_table_has_the_processes_of_this_machine() {
        let mut child = std::process::Command::new("/bin/sh")
            .args(["-c", "trap '' USR1; echo; read line; exit"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        // It has set its traps.
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let table = Table::read();
        let process = &table.0[&child.id().cast_signed()];
        assert!(process.wrapper && !process.stopped && process.input.is_some(), "{process:?}");
        assert!(!process.outputs.is_empty(), "standard output is a pipe");
        assert_eq!(process.parent, std::process::id().cast_signed());
        let signals = signals(process.id).unwrap();
        assert!(signals.ignored.contains(rustix::process::Signal::USR1));
        assert!(!signals.ignored.contains(rustix::process::Signal::TERM));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(super::signals(process.id).is_none());
        assert!(!Table::read().contains(process.id));
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{check, text_near};

    #[test]
    fn lines_of_processes_are_read_whatever_their_names_are() {
        let line = "12 (a) (b) S 1 12 12 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 3 0 4711 1 1";
        check(text_near(&[line, "12 (cut", ") ("]), |text| drop(Stat::parse(&text)));
        check(text_near(&["node", "a) (b", ")"]), |name| {
            let stat = Stat::parse(&line.replace("a) (b", &name)).unwrap();
            assert_eq!((stat.name, stat.state, stat.parent, stat.started), (name, 'S', 1, 4711));
        });
    }
}
