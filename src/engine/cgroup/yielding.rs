//! Builds give way at once to whatever else wakes up, as long as the machine has CPU to spare for them.
//!
//! A small weight alone leaves a build on a CPU until its slice ends, some milliseconds in which requests wait. The kernel's
//! idle groups (`cpu.idle`, Linux 5.15) are sent off at once, but get next to nothing of a machine that is busy, and a
//! push may be what mends that. So the group of builds is idle only while it gets its part all the same. (Where the engine
//! leaves groups to systemd there is no such group, and the weight must do.)

use std::{
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::task::AbortHandle;

/// How often what the group got is looked at.
const PERIOD: Duration = Duration::from_millis(500);
/// What a group that is not idle gets of a busy machine, roughly: less than this, and it is not idle any longer.
const LEAST: f64 = 1.0 / 16.0;

/// One group's files.
#[derive(Debug)]
pub(super) struct Files {
    /// Of the CPU controller, with `cpu.idle`.
    pub cpu: PathBuf,
    /// Its weight while it is not idle: the file's name, and what is in it.
    pub weight: (&'static str, String),
    /// How much CPU time all in it used.
    pub usage: PathBuf,
}

impl Files {
    /// Gives the group its weight.
    pub fn weigh(&self) -> io::Result<()> {
        // An idle group has none. Kernels before 5.15 have no such file.
        let idle = self.cpu.join("cpu.idle");
        if idle.exists() {
            fs::write(idle, "0")?;
        }
        fs::write(self.cpu.join(self.weight.0), &self.weight.1)
    }

    /// Makes the group idle, or gives it its weight.
    pub(super) fn set(&self, idle: bool) -> io::Result<()> {
        if idle { fs::write(self.cpu.join("cpu.idle"), "1") } else { self.weigh() }
    }

    /// Whether it is idle now; an error where there is no such group, or the kernel knows no idle ones.
    pub(super) fn is_idle(&self) -> io::Result<bool> {
        Ok(fs::read_to_string(self.cpu.join("cpu.idle"))?.trim() == "1")
    }

    fn used(&self) -> Option<Duration> {
        let text = fs::read_to_string(&self.usage).ok()?;
        if let Ok(nanoseconds) = text.trim().parse() {
            return Some(Duration::from_nanos(nanoseconds));
        }
        let used = text.lines().find_map(|line| line.strip_prefix("usage_usec "))?;
        used.parse().ok().map(Duration::from_micros)
    }
}

/// Decides until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct Yielding {
    group: PathBuf,
    task: AbortHandle,
}

impl Yielding {
    /// `cpus` is how many a build may have.
    pub(super) fn start(files: Files, cpus: u32) -> Self {
        let group = files.cpu.clone();
        let mut standing = Standing::new(files, cpus, Instant::now());
        let deciding = tokio::spawn(async move {
            loop {
                tokio::time::sleep(PERIOD).await;
                if let Err(error) = standing.decide(Instant::now()) {
                    tracing::trace!(%error, "builds stand as they did");
                }
            }
        });
        Self { group, task: deciding.abort_handle() }
    }

    /// Whether the group is still there.
    pub(super) fn has_group(&self) -> bool {
        self.group.exists()
    }
}

impl Drop for Yielding {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Standing {
    files: Files,
    cpus: f64,
    /// When it was looked at last, and what had been used.
    last: (Instant, Duration),
}

impl Standing {
    fn new(files: Files, cpus: u32, now: Instant) -> Self {
        let last = (now, files.used().unwrap_or_default());
        Self { files, cpus: f64::from(cpus), last }
    }

    fn decide(&mut self, now: Instant) -> io::Result<()> {
        let used = self.files.used().unwrap_or(self.last.1);
        let passed = (now - self.last.0).as_secs_f64() * self.cpus;
        let part = used.saturating_sub(self.last.1).as_secs_f64() / passed;
        self.last = (now, used);
        // Read each time: who decided before may have had the last word after the group was weighed anew.
        let is_idle = self.files.is_idle()?;
        // A build that waits for the network is not idle either, and does not mind.
        let idle = part >= if is_idle { LEAST } else { 2.0 * LEAST };
        if idle == is_idle { Ok(()) } else { self.files.set(idle) }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn group(dir: &Path) -> Files {
        for (name, text) in [("cpu.idle", "0"), ("cpu.shares", "1024"), ("cpuacct.usage", "0")] {
            fs::write(dir.join(name), text).unwrap();
        }
        Files { cpu: dir.to_owned(), weight: ("cpu.shares", "64".to_owned()), usage: dir.join("cpuacct.usage") }
    }

    #[test]
    fn builds_are_idle_only_while_they_get_their_part() {
        let dir = tempfile::tempdir().unwrap();
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
        let mut now = Instant::now();
        let mut standing = Standing::new(group(dir.path()), 2, now);
        let mut used = 0;
        // What of two CPUs the builds get in each period, in percent, and whether they are idle after it.
        for (percent, idle) in [(10, "0"), (100, "1"), (10, "1"), (1, "0"), (10, "0"), (13, "1"), (0, "0")] {
            used += 2 * PERIOD.as_nanos() * percent / 100;
            now += PERIOD;
            fs::write(dir.path().join("cpuacct.usage"), format!("{used}\n")).unwrap();
            standing.decide(now).unwrap();
            assert_eq!(read("cpu.idle"), idle, "{percent} percent");
        }
        assert_eq!(read("cpu.shares"), "64");
    }

    #[test]
    fn both_versions_say_how_much_was_used() {
        let dir = tempfile::tempdir().unwrap();
        let files = group(dir.path());
        fs::write(&files.usage, "1500000000\n").unwrap();
        assert_eq!(files.used(), Some(Duration::from_millis(1500)));
        fs::write(&files.usage, "usage_usec 1500000\nuser_usec 1\n").unwrap();
        assert_eq!(files.used(), Some(Duration::from_millis(1500)));
        fs::remove_file(&files.usage).unwrap();
        assert_eq!(files.used(), None);
    }

    #[test]
    fn a_kernel_without_idle_groups_has_weights() {
        let dir = tempfile::tempdir().unwrap();
        let files = group(dir.path());
        fs::remove_file(dir.path().join("cpu.idle")).unwrap();
        files.weigh().unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("cpu.shares")).unwrap(), "64");
        assert!(!dir.path().join("cpu.idle").exists());
    }
}
