//! The terminal of this process, which a program on the server may get.

use std::{
    cell::RefCell,
    io::{self, IsTerminal as _},
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::frames::RequestTerminal;
use crate::model::TerminalSize;

/// The terminal of this process. Its mode is restored when this is dropped.
#[derive(Debug)]
pub struct OwnTerminal {
    /// The mode to restore, while the terminal is in raw mode.
    before: RefCell<Option<Termios>>,
}

impl OwnTerminal {
    /// The terminal, if standard input and output are one.
    pub(super) fn find() -> Option<Self> {
        (io::stdin().is_terminal() && io::stdout().is_terminal()).then(|| Self { before: RefCell::default() })
    }

    pub(super) fn request() -> RequestTerminal {
        let TerminalSize { columns, rows } = Self::size();
        RequestTerminal { name: std::env::var("TERM").unwrap_or_else(|_| "xterm".to_owned()), columns, rows }
    }

    fn size() -> TerminalSize {
        match tcgetwinsize(io::stdout()) {
            Ok(size) => TerminalSize { columns: size.ws_col, rows: size.ws_row },
            Err(_) => TerminalSize { columns: 80, rows: 24 },
        }
    }

    /// Notifications of changes of the size.
    pub(super) fn resizes() -> Option<Signal> {
        signal(SignalKind::window_change()).ok()
    }

    /// Waits for a change of the size; never returns without notifications.
    pub(super) async fn resized(resizes: &mut Option<Signal>) -> Option<TerminalSize> {
        match resizes {
            Some(resizes) => resizes.recv().await.map(|()| Self::size()),
            None => std::future::pending().await,
        }
    }

    /// Hands keys on as they are typed, or has the terminal read lines again.
    pub(super) fn set_raw(&self, raw: bool) {
        let mut before = self.before.borrow_mut();
        match (raw, before.take()) {
            (true, None) => {
                let Ok(mode) = tcgetattr(io::stdin()) else { return };
                let mut changed = mode.clone();
                changed.make_raw();
                if tcsetattr(io::stdin(), OptionalActions::Now, &changed).is_ok() {
                    *before = Some(mode);
                }
            }
            (true, Some(mode)) => *before = Some(mode),
            (false, Some(mode)) => {
                let _ = tcsetattr(io::stdin(), OptionalActions::Now, &mode);
            }
            (false, None) => {}
        }
    }
}

impl Drop for OwnTerminal {
    fn drop(&mut self) {
        self.set_raw(false);
    }
}
