//! The command `logs`.

use std::fmt::Write as _;

use super::{output::Rendering, session::Session};
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
    let mut printer = Printer { quiet, ..Printer::default() };
    session.follow_as(show, Rendering::Coloured, |line: &LogLine| printer.text(line)).await
}

/// Prints lines, and the parts of a long one without a break.
#[derive(Default)]
struct Printer {
    quiet: bool,
    /// Source and stream of the line whose rest comes.
    begun: Option<(String, bool)>,
}

impl Printer {
    fn text(&mut self, line: &LogLine) -> String {
        let begun = self.begun.take();
        let goes_on = begun.as_ref().is_some_and(|(source, stderr)| *source == line.source && *stderr == line.stderr);
        // Another instance has printed in between.
        let mut text = if begun.is_some() && !goes_on { "\n".to_owned() } else { String::new() };
        if !goes_on && !self.quiet {
            let origin = if line.event { "paas" } else { "app" };
            let _ = write!(text, "{:.3} {origin}[{}]: ", line.time, line.source);
        }
        text.push_str(&line.text);
        if line.partial {
            self.begun = Some((line.source.clone(), line.stderr));
        } else {
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operations::Time;

    #[test]
    fn a_line_is_whole() {
        let time = Time(1_767_323_045_678);
        let text = "red".to_owned();
        let line = LogLine { time, source: "web.1".into(), stderr: false, event: false, text, partial: false };
        let mut printer = Printer::default();
        assert_eq!(printer.text(&line), "2026-01-02T03:04:05.678Z app[web.1]: red\n");
        let event = LogLine { event: true, text: "ü".repeat(8000), ..line };
        assert_eq!(printer.text(&event), format!("2026-01-02T03:04:05.678Z paas[web.1]: {}\n", "ü".repeat(8000)));
        let of = |source: &str, text: &str, partial| LogLine {
            source: source.into(),
            text: text.into(),
            partial,
            ..event.clone()
        };
        let parts = [of("web.1", "a", true), of("web.1", "b", true), of("web.2", "c", false), of("web.1", "d", false)];
        let text: String = parts.iter().map(|line| Printer::text(&mut printer, line)).collect();
        let prefix = "2026-01-02T03:04:05.678Z paas";
        assert_eq!(text, format!("{prefix}[web.1]: ab\n{prefix}[web.2]: c\n{prefix}[web.1]: d\n"));
        printer.quiet = true;
        assert_eq!(parts[..2].iter().chain(&parts[3..]).map(|line| printer.text(line)).collect::<String>(), "abd\n");
    }
}
