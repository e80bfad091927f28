//! Logs of containers.

use bollard::{container::LogOutput, query_parameters::LogsOptionsBuilder};
use futures_util::{Stream, StreamExt, stream};
use jiff::{SignedDuration, Timestamp};

use super::{
    error::{Act, EngineError, Result},
    handle::Containers,
    id::ContainerId,
};

/// Longest line that is passed on as a whole, in bytes; a longer one comes in parts of at most this size. The engine itself
/// splits lines after 16 KiB.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Size of the entries into which the engine splits a long line, in bytes; the last one is smaller. All have the time of the
/// first. Only some of its log drivers add a line ending to the last.
const ENGINE_ENTRY_BYTES: usize = 16 << 10;

/// Longest time between a line's own time and that at which the engine writes it into the log.
const MAX_WRITE_DELAY: SignedDuration = SignedDuration::from_secs(60);

/// One line of a container's log, or a part of a long one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// Whether the line is from standard error.
    pub stderr: bool,
    /// Time at which the engine received the line.
    pub time: Timestamp,
    /// Text of the line, unchanged but without the line ending. Bytes that are not UTF-8 are replaced by U+FFFD.
    pub text: String,
    /// Whether the line goes on in the next one from the same stream.
    pub partial: bool,
}

/// How far a log was read: the time of the last line of each stream. The engine reads the two streams side by side, so that
/// only the lines of the same one are in the order of their times.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReadUntil {
    stdout: Option<Timestamp>,
    stderr: Option<Timestamp>,
}

impl ReadUntil {
    /// Takes note of a line that was read.
    pub fn read(&mut self, stderr: bool, time: Timestamp) {
        *(if stderr { &mut self.stderr } else { &mut self.stdout }) = Some(time);
    }

    /// Whether a line of this time was not read yet.
    fn is_before(&self, stderr: bool, time: Timestamp) -> bool {
        let last = if stderr { self.stderr } else { self.stdout };
        last.is_none_or(|last| time > last)
    }

    /// A time from which on a log has all lines that were not read yet.
    fn since(&self) -> Option<Timestamp> {
        let last = self.stdout.max(self.stderr)?;
        last.checked_sub(MAX_WRITE_DELAY).ok()
    }
}

/// Selects lines of a log.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogOptions {
    /// Only lines that were not read yet.
    pub after: ReadUntil,
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
        if let Some(since) = options.after.since() {
            query = query.since(i32::try_from(since.as_second()).unwrap_or(i32::MAX));
        }
        if let Some(tail) = options.tail {
            query = query.tail(&tail.to_string());
        }
        let what = format!("container {id}");
        let logs = self.0.docker().logs(id.as_str(), Some(query.build()));
        let frames = logs.filter_map(move |output| {
            let frame = match output {
                Ok(output) => {
                    Frame::read(output).filter(|frame| options.after.is_before(frame.stderr, frame.time)).map(Ok)
                }
                Err(e) => Some(Err(EngineError::docker(Act::ReadLog, what.as_str())(e))),
            };
            std::future::ready(frame)
        });
        // `None` marks the end, at which what was printed without a line ending is passed on.
        let frames = frames.map(Some).chain(stream::iter([None]));
        let lines = frames.scan(Joiner::default(), |joiner, frame| {
            let lines = match frame {
                Some(Ok(frame)) => joiner.add(frame).map(Ok).collect(),
                Some(Err(error)) => vec![Err(error)],
                None => joiner.end().map(Ok).collect(),
            };
            std::future::ready(Some(stream::iter(lines)))
        });
        Box::pin(lines.flatten())
    }

    /// The last lines of a container's log, at most `max`; empty if the log cannot be read.
    pub async fn last_lines(&self, id: &ContainerId, max: u32) -> Vec<String> {
        let options = LogOptions { tail: Some(max), ..LogOptions::default() };
        let lines = self.logs(id, options).filter_map(|line| std::future::ready(line.ok().map(|line| line.text)));
        lines.collect().await
    }
}

/// What the engine keeps as one entry: a line, or up to 16 KiB of one.
#[derive(Debug, PartialEq, Eq)]
struct Frame {
    stderr: bool,
    time: Timestamp,
    /// Without the line ending.
    bytes: Vec<u8>,
    /// Whether it ends the line.
    ends: bool,
}

impl Frame {
    fn read(output: LogOutput) -> Option<Self> {
        let (stderr, bytes) = match output {
            LogOutput::StdErr { message } => (true, message),
            LogOutput::StdOut { message } | LogOutput::Console { message } => (false, message),
            LogOutput::StdIn { .. } => return None,
        };
        let (time, text) = match bytes.iter().position(|byte| *byte == b' ') {
            Some(at) => (&bytes[..at], &bytes[at + 1..]),
            None => (bytes.trim_ascii_end(), &[][..]),
        };
        let ends = text.ends_with(b"\n") || text.len() < ENGINE_ENTRY_BYTES;
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        Some(Self { stderr, time: std::str::from_utf8(time).ok()?.parse().ok()?, bytes: text.to_owned(), ends })
    }
}

/// Joins the frames of a line.
#[derive(Default)]
struct Joiner {
    stdout: Option<Frame>,
    stderr: Option<Frame>,
}

impl Joiner {
    /// The lines, and parts of lines, that are complete with this frame.
    fn add(&mut self, frame: Frame) -> impl Iterator<Item = LogLine> + use<> {
        let begun = if frame.stderr { &mut self.stderr } else { &mut self.stdout };
        let mut complete = Vec::new();
        let mut line = match begun.take() {
            Some(line) if line.time != frame.time => {
                complete.push(line.to_line(false));
                frame
            }
            Some(mut line) => {
                line.bytes.extend(frame.bytes);
                line.ends = frame.ends;
                line
            }
            None => frame,
        };
        while line.bytes.len() > MAX_LINE_BYTES {
            let rest = line.bytes.split_off(boundary(&line.bytes));
            complete.push(line.to_line(true));
            line.bytes = rest;
        }
        if line.ends {
            complete.push(line.to_line(false));
        } else {
            *begun = Some(line);
        }
        complete.into_iter()
    }

    /// The lines that were not ended.
    fn end(&mut self) -> impl Iterator<Item = LogLine> + use<> {
        [self.stdout.take(), self.stderr.take()].into_iter().flatten().map(|line| line.to_line(false))
    }
}

impl Frame {
    fn to_line(&self, partial: bool) -> LogLine {
        let bytes = if partial { &self.bytes[..] } else { self.bytes.strip_suffix(b"\r").unwrap_or(&self.bytes) };
        LogLine { stderr: self.stderr, time: self.time, text: String::from_utf8_lossy(bytes).into_owned(), partial }
    }
}

/// Where a line that is too long is divided: not within a character.
fn boundary(bytes: &[u8]) -> usize {
    let continues = |at: &usize| bytes[*at] & 0b1100_0000 == 0b1000_0000;
    // A character has at most four bytes.
    (MAX_LINE_BYTES - 3..=MAX_LINE_BYTES).rev().find(|at| !continues(at)).unwrap_or(MAX_LINE_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(text: &[u8]) -> Frame {
        let message = [b"2026-01-02T03:04:05.123456789Z ", text].concat().into();
        Frame::read(LogOutput::StdOut { message }).unwrap()
    }

    #[test]
    fn a_line_is_split_into_time_and_text() {
        let message = "2026-01-02T03:04:05.123456789Z hello  world\r\n".into();
        let line = Joiner::default().add(Frame::read(LogOutput::StdErr { message }).unwrap()).next().unwrap();
        assert_eq!((line.stderr, line.text.as_str(), line.partial), (true, "hello  world", false));
        assert_eq!(line.time.as_second(), 1_767_323_045);
        let empty = Frame::read(LogOutput::StdOut { message: "2026-01-02T03:04:05Z \n".into() }).unwrap();
        assert_eq!((empty.bytes, empty.ends), (vec![], true));
        assert!(Frame::read(LogOutput::StdOut { message: "garbage".into() }).is_none());
    }

    #[test]
    fn each_stream_is_read_on_after_its_own_last_line() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let (early, late) = (time("2026-01-02T03:04:05.1Z"), time("2026-01-02T03:04:05.2Z"));
        let mut until = ReadUntil::default();
        assert!(until.since().is_none() && until.is_before(false, early));
        // Printed later, read first.
        until.read(false, late);
        assert!(until.is_before(true, early), "of the other stream");
        until.read(true, early);
        assert!(!until.is_before(false, late) && !until.is_before(true, early));
        assert!(until.is_before(true, late));
        assert_eq!(until.since(), Some(time("2026-01-02T03:03:05.2Z")));
    }

    #[test]
    fn the_frames_of_a_line_are_joined() {
        let mut joiner = Joiner::default();
        let long = "x".repeat(ENGINE_ENTRY_BYTES - 1);
        let e_acute = "é".as_bytes();
        assert_eq!(joiner.add(frame(&[long.as_bytes(), &e_acute[..1]].concat())).count(), 0);
        let message = "2026-01-02T03:04:05Z between\n".into();
        let other: Vec<_> = joiner.add(Frame::read(LogOutput::StdErr { message }).unwrap()).collect();
        assert_eq!(other[0].text, "between");
        let lines: Vec<_> = joiner.add(frame(&[&e_acute[1..], b" \xff\0b\n"].concat())).collect();
        assert!(lines[0].text == format!("{long}é \u{fffd}\0b"));
        let ended: Vec<_> = joiner.add(frame(b"without a line ending\r")).collect();
        assert_eq!(ended[0].text, "without a line ending");

        assert_eq!(joiner.add(frame(&[long.as_bytes(), b"y"].concat())).count(), 0);
        let message = "2026-01-02T03:04:06Z next\n".into();
        let lines: Vec<_> = joiner.add(Frame::read(LogOutput::StdOut { message }).unwrap()).collect();
        assert!(lines.len() == 2 && lines[0].text == format!("{long}y"), "of another time");
        assert_eq!(joiner.add(frame(&[long.as_bytes(), b"z"].concat())).count(), 0);
        assert!(joiner.end().map(|line| line.text).eq([format!("{long}z")]));
        assert_eq!(joiner.end().count(), 0);
    }

    #[test]
    fn a_very_long_line_comes_in_parts_that_make_up_the_whole() {
        let text = "ü€𝄞x".repeat(20_000);
        let mut joiner = Joiner::default();
        let mut lines = Vec::new();
        for chunk in format!("{text}\n").as_bytes().chunks(ENGINE_ENTRY_BYTES) {
            lines.extend(joiner.add(frame(chunk)));
        }
        assert_eq!(lines.len(), 200_000 / MAX_LINE_BYTES + 1);
        assert!(lines.iter().all(|line| line.text.len() <= MAX_LINE_BYTES));
        assert!(lines.iter().map(|line| line.text.as_str()).collect::<String>() == text);
        let (last, parts) = lines.split_last().unwrap();
        assert!(!last.partial && parts.iter().all(|line| line.partial));
    }
}

#[cfg(test)]
mod properties {
    use proptest::{collection::vec, prelude::any};

    use super::*;
    use crate::properties::{bytes_near, check, check_one_in, text_near};

    #[test]
    fn a_line_is_the_same_in_however_many_entries_it_comes() {
        let lines = ["short", "ä😀", "no text \u{fffd}\r"];
        check_one_in(8, (vec(text_near(&lines), 1..4), 1..40_000usize, 1..20_000usize), |(lines, times, size)| {
            let mut joiner = Joiner::default();
            let mut joined = Vec::new();
            for (line, second) in lines.iter().zip(0..) {
                let bytes = line.replace(['\n', '\r'], "").repeat(times / line.len().max(1) + 1).into_bytes();
                let time = Timestamp::from_second(second).unwrap();
                let chunks: Vec<_> = if bytes.is_empty() { vec![&bytes[..]] } else { bytes.chunks(size).collect() };
                let count = chunks.len();
                for (at, chunk) in chunks.into_iter().enumerate() {
                    joined.extend(joiner.add(Frame {
                        stderr: false,
                        time,
                        bytes: chunk.to_owned(),
                        ends: at + 1 == count,
                    }));
                }
                let parts = std::mem::take(&mut joined);
                assert!(parts.iter().all(|part| part.text.len() <= MAX_LINE_BYTES));
                assert!(parts.iter().enumerate().all(|(at, part)| part.partial == (at + 1 < parts.len())));
                let text: String = parts.into_iter().map(|part| part.text).collect();
                assert_eq!(text.into_bytes(), bytes);
            }
        });
    }

    #[test]
    fn entries_are_read_or_left_out() {
        check(
            (bytes_near(&["2026-01-02T15:04:05.123456789Z hi\n", "2026-01-02T15:04:05Z"]), any::<bool>()),
            |(bytes, stderr)| {
                let message = bytes.into();
                let output = if stderr { LogOutput::StdErr { message } } else { LogOutput::StdOut { message } };
                assert!(Frame::read(output).is_none_or(|frame| frame.stderr == stderr));
            },
        );
    }
}
