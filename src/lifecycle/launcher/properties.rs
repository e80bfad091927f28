use super::signal;
use crate::properties::{check, text_near};

#[test]
fn stop_signals_are_signals_that_programs_can_be_asked_with() {
    check(text_near(&["SIGQUIT", "quit", " 3 ", "SIGRTMIN+3", "RTMAX-1", "64", "SIGKILL"]), |text| {
        let Some(signal) = signal::parse(&text) else { return };
        let number = signal.as_raw();
        assert!((1..=31).contains(&number) || (34..=64).contains(&number), "{number}");
        assert!(!signal::is_kill(&text) && ![9, 17, 19].contains(&number), "{number}");
        assert_eq!(signal::parse(&number.to_string()), Some(signal));
    });
}
