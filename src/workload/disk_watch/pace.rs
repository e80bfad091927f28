//! When to look at the free space, and when to count files, which costs more: only when the disk has lost space since the last
//! count, and for a small part of the time, except when the disk is about to be full.

use std::time::Duration;

use tokio::time::Instant;

use crate::data_dir::FreeSpace;

/// Time between two looks while the disk loses nothing noticeable.
pub(super) const CALM_INTERVAL: Duration = Duration::from_secs(1);
/// Time between two looks while it does.
const FAST_INTERVAL: Duration = Duration::from_millis(100);
/// Space that the disk has lost since the last count, in bytes, from which on files are counted again.
const NOTICEABLE: u64 = 64 << 20;
/// The same as a number of files and folders.
const NOTICEABLE_FILES: u64 = 16_384;
/// Longest time between two counts.
const MAX_INTERVAL: Duration = Duration::from_mins(10);
/// Time between two counts where the free space is not known.
const BLIND_INTERVAL: Duration = Duration::from_secs(30);
/// Time between two counts, as a multiple of what the last one took.
const REST: u32 = 10;
/// Longest such time.
const MAX_REST: Duration = Duration::from_secs(30);
/// Part of the free space that the disk may lose meanwhile.
const REST_LOSS: u64 = 16;

/// Remembers the last count.
#[derive(Debug, Default)]
pub(super) struct Pace {
    last: Option<Count>,
    /// Whether the disk has lost noticeable space when it was last looked at.
    losing: bool,
}

#[derive(Debug)]
struct Count {
    /// Most that was free since the count began.
    free: Option<FreeSpace>,
    ended: Instant,
    took: Duration,
}

impl Pace {
    /// Whether to count now that the disk has this much left.
    pub(super) fn is_due(&mut self, free: Option<FreeSpace>, now: Instant) -> bool {
        self.losing = false;
        let Some(last) = &mut self.last else { return true };
        let since = now.saturating_duration_since(last.ended);
        let rested = since >= (last.took * REST).min(MAX_REST);
        let Some((before, free)) = last.free.zip(free) else { return rested && since >= BLIND_INTERVAL };
        // What others free must not hide what is written later.
        let most = FreeSpace { bytes: before.bytes.max(free.bytes), files: before.files.max(free.files) };
        last.free = Some(most);
        let (bytes, files) = (most.bytes - free.bytes, most.files - free.files);
        self.losing = bytes >= NOTICEABLE || files >= NOTICEABLE_FILES;
        let filling = bytes >= most.bytes / REST_LOSS || files >= most.files / REST_LOSS;
        (self.losing && (rested || filling)) || (rested && since >= MAX_INTERVAL)
    }

    /// A count that began with this much left has ended.
    pub(super) fn counted(&mut self, free: Option<FreeSpace>, began: Instant, ended: Instant) {
        self.last = Some(Count { free, ended, took: ended.saturating_duration_since(began) });
    }

    /// Time until the next look.
    pub(super) fn next_look(&self) -> Duration {
        if self.losing { FAST_INTERVAL } else { CALM_INTERVAL }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    #[test]
    fn files_are_counted_when_the_disk_has_lost_space() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let left = |bytes| Some(FreeSpace { bytes, files: 1_000_000 });
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(pace.is_due(left(9 * GIB), at(0)), "never counted");
        pace.counted(left(9 * GIB), at(0), at(1));
        assert!(!pace.is_due(left(9 * GIB - NOTICEABLE), at(10)), "it rests for ten times as long as it counted");
        assert_eq!(pace.next_look(), FAST_INTERVAL);
        assert!(pace.is_due(left(8 * GIB), at(10)), "but not while the disk fills");
        assert!(!pace.is_due(left(9 * GIB - NOTICEABLE + 1), at(11)));
        assert_eq!(pace.next_look(), CALM_INTERVAL);
        assert!(pace.is_due(left(9 * GIB - NOTICEABLE), at(11)));
        assert!(!pace.is_due(left(10 * GIB), at(12)), "somebody freed space");
        assert!(pace.is_due(left(10 * GIB - NOTICEABLE), at(13)), "and something was written since");
        pace.counted(left(GIB), at(14), at(14));
        assert!(!pace.is_due(left(GIB), at(14 + 599)) && pace.is_due(left(GIB), at(14 + 600)));
        pace.counted(left(9 * GIB), at(0), at(100));
        let lost = left(9 * GIB - NOTICEABLE);
        assert!(!pace.is_due(lost, at(129)) && pace.is_due(lost, at(130)), "it does not rest for longer");
        pace.counted(None, at(20), at(20));
        assert!(!pace.is_due(None, at(49)) && pace.is_due(None, at(50)));
    }

    #[test]
    fn empty_files_are_noticed_and_a_file_system_that_does_not_count_them_is_not_full() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let free = |files| Some(FreeSpace { bytes: GIB, files });
        pace.counted(free(1_000_000), start, start);
        assert!(!pace.is_due(free(1_000_000 - NOTICEABLE_FILES + 1), start));
        assert!(pace.is_due(free(1_000_000 - NOTICEABLE_FILES), start));
        pace.counted(free(0), start, start);
        assert!(!pace.is_due(free(0), start));
    }
}
