//! The operation that shows an app's log.

use futures_util::StreamExt as _;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    context::Context,
    failure::{Failure, Result},
    operation::{Follow, Operation},
    time::{Since, Time},
};
use crate::{
    instances::{LogEntry, LogSelection, Logs},
    model::{AppName, LogSource, Right},
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
    /// Only lines of this process type or instance (web, web.1); `release` shows releases, and `router` requests that no
    /// instance answered.
    #[arg(short, long, value_name = "TYPE|INSTANCE")]
    #[serde(rename = "type")]
    pub ps: Option<LogSource>,
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
        if let Some(source) = &self.ps
            && !Logs::EVENTS.contains(&source.as_str())
            && let Some(unknown) = unknown_source(context, &app, source).await?
        {
            return Err(Failure::not_found(unknown));
        }
        let entries = context.instances.logs().tail(app.id, selection).await?;
        Ok(Follow(entries.map(LogLine::from).boxed()))
    }
}

/// An error message, if neither the app nor its log has this process type or instance.
async fn unknown_source(context: &Context<'_>, app: &App, source: &LogSource) -> Result<Option<String>> {
    let Some(release) = context.current_release(app).await? else { return Ok(None) };
    let types: Vec<_> = release.processes.iter().map(|spec| spec.process.process_type.as_str()).collect();
    let instances: Vec<_> = context.instances.report(app.id).await?.into_iter().map(|row| row.name).collect();
    if types.contains(&source.as_str()) || instances.iter().any(|name| source.includes(name)) {
        return Ok(None);
    }
    // An earlier release, or a larger formation, may have had it.
    let last = LogSelection { lines: 1, source: Some(source.clone()), ..LogSelection::default() };
    let mut lines = std::pin::pin!(context.instances.logs().tail(app.id, last).await?);
    if lines.next().await.is_some() {
        return Ok(None);
    }
    let of_known_type = source.as_str().rsplit_once('.').is_some_and(|(name, _)| types.contains(&name));
    let (what, known) =
        if of_known_type { ("instance", instances.join(", ")) } else { ("process type", types.join(", ")) };
    let known = if known.is_empty() { "none now".to_owned() } else { known };
    Ok(Some(format!("{} has no {what} {source}; it has: {known}", app.name)))
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
