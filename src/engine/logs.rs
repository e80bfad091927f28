//! What an instance printed.

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;

use super::{ContainerId, Engine, EngineError, Result};

/// One line that an instance printed; a line over 16 KiB comes in parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Whether it came on standard error.
    pub stderr: bool,
    /// When.
    pub time: Timestamp,
    /// The line, as the app wrote it, without its end.
    pub text: String,
}

/// Which lines.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Those printed after this.
    pub since: Option<Timestamp>,
    /// Whether to go on with lines as they are printed, until the container ends.
    pub follow: bool,
    /// Only the last so many of those printed before now.
    pub tail: Option<u32>,
}

impl Engine {
    /// The lines of a container, oldest first.
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
        let name = id.0.clone();
        let logs = self.docker().logs(id.as_str(), Some(query.build()));
        Box::pin(logs.filter_map(move |output| {
            let line = match output {
                Ok(output) => read(output).filter(|line| options.since.is_none_or(|since| line.time > since)).map(Ok),
                Err(source) => Some(Err(EngineError::CannotReadLogs { name: name.clone(), source })),
            };
            std::future::ready(line)
        }))
    }
}

impl Engine {
    /// What a container said last; nothing if that cannot be read.
    pub async fn last_lines(&self, id: &ContainerId, most: u32) -> Vec<String> {
        let options = LogOptions { since: None, follow: false, tail: Some(most) };
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
