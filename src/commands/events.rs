//! The commands `events` and `events:…`.

use std::fmt::Write as _;

use clap::Subcommand;

use super::{output::Text, session::Session};
use crate::operations::{EventInfo, EventsSwitch, Result, ShowEvents, SwitchEventsOff, SwitchEventsOn};

/// The commands of the audit log.
#[derive(Debug, Subcommand)]
pub(super) enum EventsCommand {
    /// Show who did what and when: of an app, or of all that you operate.
    #[command(name = "events", alias = "events:list", after_help = "Example: events my-app --since 2d -t")]
    Show(ShowEvents),
    /// Record operations again (admins only).
    #[command(name = "events:on", after_help = "Example: events:on")]
    On(SwitchEventsOn),
    /// Record no more operations, except that this was switched (admins only).
    #[command(name = "events:off", after_help = "Example: events:off")]
    Off(SwitchEventsOff),
}

pub(super) async fn run(session: &Session<'_>, command: EventsCommand) -> Result {
    use EventsCommand as C;
    match command {
        C::Show(show) => session.follow(show).await,
        C::On(on) => session.answer(on).await,
        C::Off(off) => session.answer(off).await,
    }
}

impl Text for EventInfo {
    fn text(&self) -> String {
        let mut text = format!("{} {} {}", self.started_at, self.user, self.operation);
        if let Some(app) = &self.app {
            let _ = write!(text, " {app}");
        }
        if !self.detail.is_empty() {
            let _ = write!(text, " {}", self.detail);
        }
        let _ = write!(text, ": {}", self.outcome.as_str().replace('_', " "));
        if let Some(message) = &self.message {
            let _ = write!(text, ": {message}");
        }
        let from = [self.address.as_deref(), self.fingerprint.as_deref()].into_iter().flatten().collect::<Vec<_>>();
        if !from.is_empty() {
            let _ = write!(text, " ({})", from.join(", "));
        }
        text.push('\n');
        text
    }
}

impl Text for EventsSwitch {
    fn text(&self) -> String {
        let what = if self.on { "are recorded" } else { "are no longer recorded; events:on changes that" };
        format!("-----> Operations {what}\n")
    }
}
