//! The operation that shows an app's log.

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::{Follow, Operation},
    ps,
    time::{Since, Time},
};
use crate::{
    instances::{LogEntry, LogSelection, Logs},
    model::{AppName, ProcessType, Right},
    store::{App, Effect},
};

/// Maximum number of past lines.
const MAX_LINES: u32 = 100_000;

/// Number of past lines unless the caller says from when on.
const DEFAULT_LINES: u32 = 100;

/// Shows what the instances of an app printed, and events.
#[derive(Debug, Clone, Deserialize, JsonSchema, clap::Args)]
#[serde(deny_unknown_fields)]
pub struct ShowLogs {
    /// App.
    pub app: AppName,
    /// Continue with new lines as they are written.
    #[arg(short, long)]
    #[serde(default)]
    pub tail: bool,
    /// Number of past lines; without it 100, or with a period all of it.
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_LINES)))]
    #[schemars(range(max = MAX_LINES))]
    pub num: Option<u32>,
    /// Only lines of this process type; `release` shows releases, and `router` requests that no instance answered.
    #[arg(short, long, value_name = "TYPE")]
    #[serde(rename = "type")]
    pub ps: Option<ProcessType>,
    /// Only lines of this last period, such as 10m or 1h30m, or from this time on.
    #[arg(long, value_name = "PERIOD")]
    pub since: Option<Since>,
}

/// A line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct LogLine {
    /// Time at which it was printed.
    pub time: Time,
    /// Name of the instance that printed it: `web.1`. For events also `release`, `router` or `logs`.
    pub source: String,
    /// Whether it was printed on standard error.
    pub stderr: bool,
    /// Whether it is an event that paas reports about the app, rather than output of the app.
    pub event: bool,
    /// Its text, as it was printed.
    pub text: String,
    /// Whether it is a part of a line over 64 KiB, which goes on in the next one of the same source and stream.
    pub partial: bool,
}

impl From<LogEntry> for LogLine {
    fn from(LogEntry { time, source, stderr, event, text, partial }: LogEntry) -> Self {
        Self { time: Time(time), source, stderr, event, text, partial }
    }
}

impl ShowLogs {
    /// The selection of lines; a number that is too large is refused.
    fn selection(&self) -> Result<LogSelection> {
        let default = if self.since.is_some() { MAX_LINES } else { DEFAULT_LINES };
        let lines = self.num.unwrap_or(default);
        if lines > MAX_LINES {
            return Err(Failure::invalid(format!("{lines} lines are too many; ask for at most {MAX_LINES}")));
        }
        Ok(LogSelection {
            lines: usize::try_from(lines).unwrap_or(usize::MAX),
            source: self.ps.clone(),
            since: self.since.map(|since| since.0),
            follow: self.tail,
        })
    }
}

impl Operation for ShowLogs {
    const NAME: &'static str = "logs";
    const RIGHT: Right = Right::View;
    const EFFECT: Effect = Effect::Read;
    type Target = App;
    type Output = Follow<LogLine>;

    fn target(&self) -> AppName {
        self.app.clone()
    }

    fn audit(&self) -> String {
        self.ps.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    async fn run(self, context: &Context<'_>, app: App) -> Result<Follow<LogLine>> {
        let selection = self.selection()?;
        // Only a warning: earlier releases may have had this process type.
        if let Some(process_type) = &self.ps
            && !Logs::EVENTS.contains(&process_type.as_str())
            && let Some(unknown) = ps::unknown_type(context, &app, [process_type].into_iter()).await?
        {
            context.progress.trouble(unknown).await;
        }
        let entries = context.instances.logs().tail(app.id, selection).await?;
        Ok(Follow(entries.map(LogLine::from).boxed()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_selects_all_its_lines_unless_their_number_is_given() {
        let lines = |num, since: Option<i64>| {
            let since = since.map(Since);
            let show = ShowLogs { app: "a".parse().unwrap(), tail: false, num, ps: None, since };
            show.selection().map(|selection| (selection.lines, selection.since))
        };
        assert_eq!(lines(None, None), Ok((100, None)));
        assert_eq!(lines(None, Some(7)), Ok((100_000, Some(7))));
        assert_eq!(lines(Some(5), Some(7)), Ok((5, Some(7))));
        assert_eq!(lines(Some(0), None), Ok((0, None)));
        let error = lines(Some(100_001), None).unwrap_err();
        assert_eq!(error.to_string(), "100001 lines are too many; ask for at most 100000");
    }
}
