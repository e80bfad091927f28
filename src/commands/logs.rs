//! The command `logs`.

use super::{
    output::{Text, printable},
    session::Session,
};
use crate::operations::{LogLine, Result, ShowLogs};

/// The command `logs` and its arguments.
#[derive(Debug, clap::Args)]
pub(super) struct LogsCommand {
    #[command(flatten)]
    show: ShowLogs,
    /// Print the text alone, without time and source.
    #[arg(short, long)]
    quiet: bool,
}

pub(super) async fn run(session: &Session<'_>, LogsCommand { show, quiet }: LogsCommand) -> Result {
    if quiet {
        return session.follow_as(show, |line: &LogLine| format!("{}\n", printable(&line.text))).await;
    }
    session.follow(show).await
}

impl Text for LogLine {
    fn text(&self) -> String {
        let origin = if self.event { "paas" } else { "app" };
        format!("{:.3} {origin}[{}]: {}\n", self.time, self.source, printable(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::Time;

    #[test]
    fn a_line_is_whole_and_contains_no_control_characters() {
        let time = Time(1_767_323_045_678);
        let text = "\u{1b}[31mred\u{7}".to_owned();
        let line = LogLine { time, source: "web.1".into(), stderr: false, event: false, text };
        assert_eq!(line.text(), "2026-01-02T03:04:05.678Z app[web.1]: red\n");
        let event = LogLine { event: true, text: "ü".repeat(8000), ..line };
        assert_eq!(event.text(), format!("2026-01-02T03:04:05.678Z paas[web.1]: {}\n", "ü".repeat(8000)));
        assert_eq!(printable("\u{1b}[1mx\ty\r"), "x    y");
    }
}
