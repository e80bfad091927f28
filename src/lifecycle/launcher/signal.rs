//! Signals: their names, and sets of them as `/proc` shows them.

use rustix::process::Signal;
use signal_hook::consts::FORBIDDEN;

/// A set of signals; bit 0 is signal 1 (proc_pid_status(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Set(pub(super) u64);

impl Set {
    pub(super) fn contains(self, signal: Signal) -> bool {
        let number = signal.as_raw();
        (1..=64).contains(&number) && self.0 & (1 << (number - 1)) != 0
    }

    /// Whether it has a signal with which programs ask others to end: each program has its own preference.
    pub(super) fn asks_to_end(self) -> bool {
        [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM]
            .into_iter()
            .any(|signal| self.contains(signal))
    }
}

/// Signals that the launcher passes on to the main process when it gets them itself.
pub(super) const PASSED_ON: [Signal; 7] =
    [Signal::HUP, Signal::INT, Signal::QUIT, Signal::USR1, Signal::USR2, Signal::TERM, Signal::WINCH];

/// The first real-time signal that programs may use.
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;

/// Reads a signal as an image's `STOPSIGNAL` names it: `SIGQUIT`, `QUIT`, `3`, `SIGRTMIN+3`. `None` if programs cannot be asked
/// to end with it.
pub(super) fn parse(text: &str) -> Option<Signal> {
    let upper = text.trim().to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let number = match name {
        "HUP" => 1,
        "INT" => 2,
        "QUIT" => 3,
        "TRAP" => 5,
        "ABRT" => 6,
        "BUS" => 7,
        "USR1" => 10,
        "USR2" => 12,
        "PIPE" => 13,
        "ALRM" => 14,
        "TERM" => 15,
        "CONT" => 18,
        "TSTP" => 20,
        "TTIN" => 21,
        "TTOU" => 22,
        "URG" => 23,
        "XCPU" => 24,
        "XFSZ" => 25,
        "VTALRM" => 26,
        "PROF" => 27,
        "WINCH" => 28,
        "POLL" | "IO" => 29,
        "PWR" => 30,
        "SYS" => 31,
        "RTMIN" => FIRST_REAL_TIME,
        "RTMAX" => LAST_REAL_TIME,
        other => match (other.strip_prefix("RTMIN+"), other.strip_prefix("RTMAX-")) {
            (Some(n), _) => FIRST_REAL_TIME.checked_add(n.parse().ok()?)?,
            (None, Some(n)) => LAST_REAL_TIME.checked_sub(n.parse().ok()?)?,
            (None, None) => other.parse().ok()?,
        },
    };
    if (FIRST_REAL_TIME..=LAST_REAL_TIME).contains(&number) {
        #[expect(
            unsafe_code,
            reason = "rustix has no safe way to name a real-time signal; the C library reserves none of these"
        )]
        return Some(unsafe { Signal::from_raw_unchecked(number) });
    }
    // No program can be asked with these: the kernel acts on some of them itself, and the end of a child is another thing.
    let cannot_ask = |signal: &Signal| *signal == Signal::CHILD || FORBIDDEN.contains(&signal.as_raw());
    Signal::from_named_raw(number).filter(|signal| !cannot_ask(signal))
}

/// Whether a `STOPSIGNAL` is that which no process can catch, so that nothing is to be asked.
pub(super) fn is_kill(text: &str) -> bool {
    matches!(text.trim().to_ascii_uppercase().as_str(), "SIGKILL" | "KILL" | "9")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stop_signals_are_read_in_all_their_forms() {
        for text in ["SIGQUIT", "quit", " 3 "] {
            assert_eq!(parse(text), Some(Signal::QUIT), "{text}");
        }
        assert_eq!(parse("SIGRTMIN+3").unwrap().as_raw(), 37);
        assert_eq!(parse("RTMAX-1").unwrap().as_raw(), 63);
        assert_eq!(parse("SIGCONT"), Some(Signal::CONT));
        assert!(is_kill("SIGKILL") && is_kill("9") && !is_kill("SIGTERM"));
        for text in ["", "SIGNONSENSE", "0", "-1", "65", "33", "RTMIN+99", "SIGKILL", "9", "19", "4", "8", "11", "17"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn sets_are_read_as_the_kernel_writes_them() {
        let set = Set(0x4002);
        assert!(set.contains(Signal::TERM) && set.contains(Signal::INT) && !set.contains(Signal::HUP));
        assert!(set.asks_to_end());
        assert!(!Set(1 << 16).asks_to_end(), "SIGCHLD");
    }
}
