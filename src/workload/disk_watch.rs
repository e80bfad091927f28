//! When it is worth while to count what workloads have written: the engine counts the files of a container each time, which
//! costs, so it is asked only when the disk has lost space since.

use std::time::Duration;

use tokio::time::Instant;

/// Space that the disk has lost since the last count, in bytes, from which on the files are counted again.
const NOTICEABLE: u64 = 64 << 20;
/// Longest time between two counts.
const MAX_INTERVAL: Duration = Duration::from_mins(10);
/// Time between two counts where the free space is not known.
const BLIND_INTERVAL: Duration = Duration::from_secs(30);
/// Time between two counts, as a multiple of what the last one took.
const REST: u32 = 10;

/// Interval at which the free space of the disk is read.
pub const DISK_WATCH_INTERVAL: Duration = Duration::from_secs(2);

/// Remembers the last count.
#[derive(Debug, Default)]
pub struct DiskWatch {
    last: Option<Count>,
}

#[derive(Debug)]
struct Count {
    /// Most free space since the count began, in bytes.
    free: Option<u64>,
    ended: Instant,
    took: Duration,
}

impl DiskWatch {
    /// Whether to count now that the disk has this much free space, in bytes.
    pub fn is_due(&mut self, free: Option<u64>, now: Instant) -> bool {
        let Some(last) = &mut self.last else { return true };
        let since = now.saturating_duration_since(last.ended);
        if since < last.took * REST {
            return false;
        }
        let Some((before, free)) = last.free.zip(free) else { return since >= BLIND_INTERVAL };
        // What others free must not hide what is written later.
        last.free = Some(before.max(free));
        before.saturating_sub(free) >= NOTICEABLE || since >= MAX_INTERVAL
    }

    /// A count that began with this much free space has ended.
    pub fn counted(&mut self, free: Option<u64>, began: Instant, ended: Instant) {
        self.last = Some(Count { free, ended, took: ended.saturating_duration_since(began) });
    }
}

/// Why a workload is ended that has written more than it may, and what to do.
pub fn wrote_too_much(bytes: u64, limit_mib: u64) -> (String, &'static str) {
    let reason =
        format!("it wrote {} MiB of files, more than its limit of {limit_mib} MiB (instances.disk_mib)", bytes >> 20);
    (reason, "keep files in a volume (storage:create), or have an admin raise instances.disk_mib in paas.toml")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn files_are_counted_when_the_disk_has_lost_space() {
        let (mut watch, start) = (DiskWatch::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(watch.is_due(Some(GIB), at(0)), "never counted");
        watch.counted(Some(GIB), at(0), at(1));
        assert!(!watch.is_due(Some(0), at(10)), "the engine rests for ten times as long as it counted");
        assert!(!watch.is_due(Some(GIB - NOTICEABLE + 1), at(11)));
        assert!(watch.is_due(Some(GIB - NOTICEABLE), at(11)));
        assert!(!watch.is_due(Some(2 * GIB), at(12)), "somebody freed space");
        assert!(watch.is_due(Some(2 * GIB - NOTICEABLE), at(13)), "and something was written since");
        watch.counted(Some(GIB), at(14), at(14));
        assert!(!watch.is_due(Some(GIB), at(14 + 599)) && watch.is_due(Some(GIB), at(14 + 600)));
        watch.counted(None, at(20), at(20));
        assert!(!watch.is_due(None, at(49)) && watch.is_due(None, at(50)));
    }

    #[test]
    fn the_reason_names_both_numbers() {
        let (reason, _) = wrote_too_much(1500 << 20, 1024);
        assert_eq!(reason, "it wrote 1500 MiB of files, more than its limit of 1024 MiB (instances.disk_mib)");
    }
}
