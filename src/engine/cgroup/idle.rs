//! Makes the control group of builds idle while the machine has enough CPU time to spare for them.
//!
//! A process with a low weight still keeps a CPU until its time slice ends, so requests wait for some milliseconds. The
//! processes of an idle group (`cpu.idle`, Linux 5.15) are preempted at once, but get almost no CPU time on a busy machine,
//! although a build may be the fix for an app that overloads the machine. So the group is idle only while it still gets its
//! share of CPU time. (Where the engine leaves control groups to systemd, there is no such group, only the weight.)

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// How often the group's CPU time is measured.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// Roughly the share of CPU time that the group gets on a busy machine by its weight. An idle group that gets less than
/// this stops being idle.
const MIN_CPU_SHARE: f64 = 1.0 / 16.0;

/// Files of a control group.
#[derive(Debug)]
pub(super) struct GroupFiles {
    /// Folder of the group in the hierarchy of the CPU controller, with the file `cpu.idle`.
    pub cpu: PathBuf,
    /// Name and contents of the file that sets the group's weight.
    pub weight: (&'static str, String),
    /// File with the CPU time that all processes of the group have used.
    pub usage: PathBuf,
}

impl GroupFiles {
    /// Sets the group's weight and makes it not idle.
    pub(super) fn set_weight(&self) -> io::Result<()> {
        // An idle group has no weight. Kernels before 5.15 do not have this file.
        let idle = self.cpu.join("cpu.idle");
        if idle.exists() {
            fs::write(idle, "0")?;
        }
        fs::write(self.cpu.join(self.weight.0), &self.weight.1)
    }

    /// Makes the group idle, or not idle.
    pub(super) fn set_idle(&self, idle: bool) -> io::Result<()> {
        if idle { fs::write(self.cpu.join("cpu.idle"), "1") } else { self.set_weight() }
    }

    /// Whether the group is idle; an error if it does not exist or the kernel does not support idle groups.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        Ok(fs::read_to_string(self.cpu.join("cpu.idle"))?.trim() == "1")
    }

    /// CPU time that all processes of the group have used.
    fn cpu_time(&self) -> Option<Duration> {
        let text = fs::read_to_string(&self.usage).ok()?;
        if let Ok(nanoseconds) = text.trim().parse() {
            return Some(Duration::from_nanos(nanoseconds));
        }
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        used.parse().ok().map(Duration::from_micros)
    }
}

/// A task that adjusts whether a group is idle. Dropping this ends the task.
#[derive(Debug)]
pub(super) struct IdleControl {
    /// Folder of the group.
    group: PathBuf,
    task: AbortHandle,
}

impl IdleControl {
    /// Starts the task; `cpus` is the CPU limit of one build.
    pub(super) fn start(files: GroupFiles, cpus: u32) -> Self {
        let group = files.cpu.clone();
        let mut switch = IdleSwitch::new(files, cpus, Instant::now());
        let task = tokio::spawn(async move {
            loop {
                tokio::time::sleep(CHECK_INTERVAL).await;
                if let Err(error) = switch.update(Instant::now()) {
                    tracing::trace!(%error, "cannot adjust the idle state of builds");
                }
            }
        });
        Self { group, task: task.abort_handle() }
    }

    /// Whether the group still exists.
    pub(super) fn has_group(&self) -> bool {
        self.group.exists()
    }
}

impl Drop for IdleControl {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Switches a group between idle and not idle, by the CPU time that it gets.
struct IdleSwitch {
    files: GroupFiles,
    cpus: f64,
    /// Time of the last measurement.
    measured_at: Instant,
    /// CPU time that the group had used at the last measurement.
    cpu_time: Duration,
}

impl IdleSwitch {
    fn new(files: GroupFiles, cpus: u32, now: Instant) -> Self {
        let cpu_time = files.cpu_time().unwrap_or_default();
        Self { files, cpus: f64::from(cpus), measured_at: now, cpu_time }
    }

    fn update(&mut self, now: Instant) -> io::Result<()> {
        let cpu_time = self.files.cpu_time().unwrap_or(self.cpu_time);
        let available = (now - self.measured_at).as_secs_f64() * self.cpus;
        let share = cpu_time.saturating_sub(self.cpu_time).as_secs_f64() / available;
        (self.measured_at, self.cpu_time) = (now, cpu_time);
        // Read each time: an earlier task may have made its last change after the weight was set again.
        let is_idle = self.files.is_idle()?;
        // A build that waits for the network also gets little CPU time; it does not matter that its group is not idle.
        let idle = share >= if is_idle { MIN_CPU_SHARE } else { 2.0 * MIN_CPU_SHARE };
        if idle == is_idle { Ok(()) } else { self.files.set_idle(idle) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn group(dir: &Path) -> GroupFiles {
        for (name, text) in [("cpu.idle", "0"), ("cpu.shares", "1024"), ("cpuacct.usage", "0")] {
            fs::write(dir.join(name), text).unwrap();
        }
        GroupFiles { cpu: dir.to_owned(), weight: ("cpu.shares", "64".to_owned()), usage: dir.join("cpuacct.usage") }
    }

    #[test]
    fn builds_are_idle_only_while_they_get_their_share() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let mut now = Instant::now();
        let mut switch = IdleSwitch::new(group(dir.path()), 2, now);
        let mut used = 0;
        // The share of two CPUs that builds get in each interval, and whether they are idle after it.
        for (percent, idle) in [(10, "0"), (100, "1"), (10, "1"), (1, "0"), (10, "0"), (13, "1"), (0, "0")] {
            used += 2 * CHECK_INTERVAL.as_nanos() * percent / 100;
            now += CHECK_INTERVAL;
            fs::write(dir.path().join("cpuacct.usage"), format!("{used}\n")).unwrap();
            switch.update(now).unwrap();
            assert_eq!(read("cpu.idle"), idle, "{percent} percent");
        }
        assert_eq!(read("cpu.shares"), "64");
    }

    #[test]
    fn cpu_time_is_read_in_both_versions() {
        let dir = tempfile::tempdir().unwrap();
        let files = group(dir.path());
        fs::write(&files.usage, "1500000000\n").unwrap();
        assert_eq!(files.cpu_time(), Some(Duration::from_millis(1500)));
        fs::write(&files.usage, "usage_usec 1500000\nuser_usec 1\n").unwrap();
        assert_eq!(files.cpu_time(), Some(Duration::from_millis(1500)));
        fs::remove_file(&files.usage).unwrap();
        assert_eq!(files.cpu_time(), None);
    }

    #[test]
    fn a_kernel_without_idle_groups_has_weights() {
        let dir = tempfile::tempdir().unwrap();
        let files = group(dir.path());
        fs::remove_file(dir.path().join("cpu.idle")).unwrap();
        files.set_weight().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cpu.shares")).unwrap(), "64");
        assert!(!dir.path().join("cpu.idle").exists());
    }
}
