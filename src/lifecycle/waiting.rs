//! Lines that show that something long still works: one in ten seconds, and after two minutes one in thirty.

use std::{
    io::{self, Write as _},
    sync::mpsc::{RecvTimeoutError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use crate::model::Line;

/// How long nothing is printed before a line shows that the work goes on.
pub(super) const EVERY: Duration = Duration::from_secs(10);

/// How long nothing is printed before the next line, after this time: what takes long is told less often.
pub(super) fn period(every: Duration, elapsed: Duration) -> Duration {
    if elapsed < every * 12 { every } else { every * 3 }
}

/// Does something, and meanwhile prints from time to time what it has done so far, to the standard error.
pub(super) fn shown<T>(so_far: impl Fn() -> String + Sync, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let (done, ended) = sync_channel::<()>(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            // The receiver moves into this thread; the sender is dropped when the work is done.
            let ended = ended;
            while ended.recv_timeout(period(EVERY, begun.elapsed())) == Err(RecvTimeoutError::Timeout) {
                let _ = writeln!(io::stderr(), "{}", line(&so_far(), begun.elapsed()));
            }
        });
        let done = done;
        let result = act();
        drop(done);
        result
    })
}

/// What is done, and for how long it has been.
pub(super) fn line(text: &str, elapsed: Duration) -> Line {
    let seconds = elapsed.as_secs();
    let elapsed =
        if seconds < 60 { format!("{seconds} s") } else { format!("{} min {} s", seconds / 60, seconds % 60) };
    Line::Detail(Line::sanitize(&format!("{text} ({elapsed})")))
}

/// A size, as `68 MB`; with the total, if it is known, as `30 of 68 MB`.
pub(super) fn size(bytes: u64, total: Option<u64>) -> String {
    const MEGABYTE: u64 = 1_000_000;
    match total {
        Some(total) => format!("{} of {} MB", bytes / MEGABYTE, total.div_ceil(MEGABYTE)),
        None => format!("{} MB", bytes / MEGABYTE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        let shown = |seconds| line("Compiling crates", Duration::from_secs(seconds)).to_string();
        assert_eq!(shown(30), "       Compiling crates (30 s)");
        assert_eq!(shown(150), "       Compiling crates (2 min 30 s)");
        assert_eq!(size(30_900_000, Some(67_100_000)), "30 of 68 MB");
        assert_eq!(size(30_900_000, None), "30 MB");
        assert_eq!(period(EVERY, Duration::from_mins(1)), EVERY);
        assert_eq!(period(EVERY, Duration::from_mins(10)), EVERY * 3);
        assert_eq!(super::shown(|| panic!("nothing is shown of what is done at once"), || 7), 7);
    }
}
