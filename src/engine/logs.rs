//! Logs of containers.

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;

use super::{
    error::{Act, EngineError, Result},
    handle::Containers,
    id::ContainerId,
};

/// One line of a container's log; a line over 16 KiB is split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Whether the line is from standard error.
    pub stderr: bool,
    /// Time at which the engine received the line.
    pub time: Timestamp,
    /// Text of the line, unchanged but without the line ending.
    pub text: String,
}

/// Selects lines of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Only lines after this time.
    pub since: Option<Timestamp>,
    /// Whether to wait for new lines until the container ends.
    pub follow: bool,
    /// Of the existing lines, only this many of the last ones.
    pub tail: Option<u32>,
}

impl Containers {
    /// Lines of a container's log, oldest first.
    pub fn logs(
        &self,
        id: &ContainerId,
        options: LogOptions,
    ) -> impl Stream<Item = Result<LogLine>> + Send + Unpin + use<> {
        let mut query = LogsOptionsBuilder::new().stdout(true).stderr(true).timestamps(true).follow(options.follow);
        if let Some(since) = options.since {
            query = query.since(i32::try_from(since.as_second()).unwrap_or(i32::MAX));
        }
        if let Some(tail) = options.tail {
            query = query.tail(&tail.to_string());
        }
        let what = format!("container {id}");
        let logs = self.0.docker().logs(id.as_str(), Some(query.build()));
        Box::pin(logs.filter_map(move |output| {
            let line = match output {
                Ok(output) => read(output).filter(|line| options.since.is_none_or(|since| line.time > since)).map(Ok),
                Err(e) => Some(Err(EngineError::docker(Act::ReadLog, what.as_str())(e))),
            };
            std::future::ready(line)
        }))
    }

    /// The last lines of a container's log, at most `max`; empty if the log cannot be read.
    pub async fn last_lines(&self, id: &ContainerId, max: u32) -> Vec<String> {
        let options = LogOptions { since: None, follow: false, tail: Some(max) };
        let lines = self.logs(id, options).filter_map(|line| std::future::ready(line.ok().map(|line| line.text)));
        lines.collect().await
    }
}

fn read(output: LogOutput) -> Option<LogLine> {
    let (stderr, bytes) = match output {
        LogOutput::StdErr { message } => (true, message),
        LogOutput::StdOut { message } | LogOutput::Console { message } => (false, message),
        LogOutput::StdIn { .. } => return None,
    };
    let text = String::from_utf8_lossy(&bytes);
    let (time, text) = text.split_once(' ').unwrap_or((text.trim_end(), ""));
    let text = text.strip_suffix('\n').unwrap_or(text);
    Some(LogLine { stderr, time: time.parse().ok()?, text: text.strip_suffix('\r').unwrap_or(text).to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_into_time_and_text() {
        let message = "2026-01-02T03:04:05.123456789Z hello  world\r\n".into();
        let line = read(LogOutput::StdErr { message }).unwrap();
        assert_eq!((line.stderr, line.text.as_str()), (true, "hello  world"));
        assert_eq!(line.time.as_second(), 1_767_323_045);
        let empty = read(LogOutput::StdOut { message: "2026-01-02T03:04:05Z \n".into() }).unwrap();
        assert_eq!(empty.text, "");
        assert!(read(LogOutput::StdOut { message: "garbage".into() }).is_none());
    }
}
