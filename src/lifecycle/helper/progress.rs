//! `bp progress`: passes on what a tool prints, and shows that it still works when it prints nothing that is passed on.

use std::{
    io::{self, Read, Write},
    sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{
    answer::{Answer, wrong},
    pattern::{Log, Pattern},
};
use crate::lifecycle::waiting;

/// Longest line that is kept whole, in bytes.
const MAX_LINE_BYTES: usize = 16 * 1024;

/// Copies the standard input to the standard output.
pub(super) fn progress(words: &[&str]) -> Answer {
    let mut progress = Progress::parse(words).map_err(|why| wrong(format!("bp progress: {why}")))?;
    let (sender, receiver) = sync_channel(64);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sender = sender;
            read(io::stdin().lock(), &sender);
        });
        // Dropped here, so that the thread above ends.
        let receiver = receiver;
        // A reader that has gone is the caller's business, as for any program in a pipe.
        let _ = progress.pass_on(&receiver, &mut io::stdout().lock());
    });
    Ok(String::new())
}

/// What a tool printed up to a line end.
#[derive(Debug, PartialEq, Eq)]
enum Printed {
    Line(Vec<u8>),
    /// A progress bar that the next one overwrites: ended by a carriage return alone.
    Overwritten(Vec<u8>),
}

/// Splits the input into lines, until it ends or nobody listens.
fn read(mut input: impl Read, to: &SyncSender<Printed>) {
    let (mut buffer, mut line, mut returned) = ([0; 8192], Vec::new(), false);
    loop {
        let length = match input.read(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => 0,
        };
        for &byte in &buffer[..length] {
            if byte == b'\n' {
                if to.send(Printed::Line(std::mem::take(&mut line))).is_err() {
                    return;
                }
            } else {
                if returned && to.send(Printed::Overwritten(std::mem::take(&mut line))).is_err() {
                    return;
                }
                if byte != b'\r' && line.len() < MAX_LINE_BYTES {
                    line.push(byte);
                }
            }
            returned = byte == b'\r';
        }
        if length == 0 {
            if !line.is_empty() {
                let _ = to.send(Printed::Line(line));
            }
            return;
        }
    }
}

/// How far the tool has come, and what of its output is passed on.
struct Progress {
    what: String,
    every: Duration,
    hide: Vec<Pattern>,
    /// If there are any, other lines are hidden.
    only: Vec<Pattern>,
    count: Option<Pattern>,
    of: Option<u64>,
    show: Vec<Pattern>,
    counted: u64,
    newest: String,
}

impl Progress {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut progress = Self {
            what: String::new(),
            every: waiting::EVERY,
            hide: Vec::new(),
            only: Vec::new(),
            count: None,
            of: None,
            show: Vec::new(),
            counted: 0,
            newest: String::new(),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().ok_or_else(|| format!("{word} needs a value"));
            match *word {
                "--hide" => progress.hide.push(Pattern::parse(value()?)?),
                "--only" => progress.only.push(Pattern::parse(value()?)?),
                "--count" => progress.count = Some(Pattern::parse(value()?)?),
                "--show" => progress.show.push(Pattern::parse(value()?)?),
                // Without a number, such as that of a file that is missing, the total is unknown.
                "--of" => progress.of = value()?.parse().ok().filter(|total| *total > 0),
                "--every" => {
                    let text = value()?;
                    let seconds = text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
                    progress.every = seconds
                        .map(Duration::from_secs)
                        .ok_or_else(|| format!("--every {text} is no time in seconds"))?;
                }
                option if option.starts_with("--") => return Err(format!("there is no option {option}")),
                text if progress.what.is_empty() => text.clone_into(&mut progress.what),
                text => return Err(format!("{text:?} is one word too many")),
            }
        }
        if progress.what.is_empty() { Err("say WHAT is being done".to_owned()) } else { Ok(progress) }
    }

    fn pass_on(&mut self, from: &Receiver<Printed>, to: &mut impl Write) -> io::Result<()> {
        let begun = Instant::now();
        let mut quiet_since = begun;
        loop {
            let every = waiting::period(self.every, begun.elapsed());
            match from.recv_timeout(every.saturating_sub(quiet_since.elapsed())) {
                Ok(printed) => {
                    if let Some(mut line) = self.passed(printed) {
                        line.push(b'\n');
                        to.write_all(&line)?;
                        to.flush()?;
                        quiet_since = Instant::now();
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if quiet_since.elapsed() >= every {
                writeln!(to, "{}", waiting::line(&self.so_far(), begun.elapsed()))?;
                to.flush()?;
                quiet_since = Instant::now();
            }
        }
    }

    /// Takes note of what was printed; the line, if it is passed on.
    fn passed(&mut self, printed: Printed) -> Option<Vec<u8>> {
        let (line, whole) = match printed {
            Printed::Line(line) => (line, true),
            Printed::Overwritten(line) => (line, false),
        };
        let log = Log::new(&line);
        if self.count.as_ref().is_some_and(|count| count.find(&log).is_some()) {
            self.counted += 1;
        }
        if let Some(found) = self.show.iter().find_map(|show| show.find(&log)) {
            self.newest = found.it;
        }
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.find(&log).is_some());
        (whole && !fits(&self.hide) && (self.only.is_empty() || fits(&self.only))).then_some(line)
    }

    fn so_far(&self) -> String {
        let counted = match (self.count.is_some(), self.of) {
            (true, Some(total)) => format!("{} of {total}", self.counted.min(total)),
            (true, None) => self.counted.to_string(),
            (false, _) => String::new(),
        };
        let known: Vec<_> = [counted, self.newest.clone()].into_iter().filter(|text| !text.is_empty()).collect();
        if known.is_empty() { self.what.clone() } else { format!("{}: {}", self.what, known.join(", ")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Printed> {
        let (sender, receiver) = sync_channel(64);
        read(input, &sender);
        drop(sender);
        receiver.iter().collect()
    }

    #[test]
    fn lines_are_counted_shown_and_hidden() {
        let words = ["--hide", "^ +Compiling", "--count", "^ +Compiling", "--of", "340"];
        let mut progress =
            Progress::parse(&[&words[..], &["--show", "^ +Compiling (.*)", "Compiling crates"]].concat()).unwrap();
        assert_eq!(progress.so_far(), "Compiling crates: 0 of 340");
        let printed = lines(b"   Compiling a v1.0\nwarning: unused\r\n   Compiling b v2.0 (path)\n");
        let passed: Vec<_> = printed.into_iter().filter_map(|line| progress.passed(line)).collect();
        assert_eq!(passed, [b"warning: unused".to_vec()]);
        assert_eq!(progress.so_far(), "Compiling crates: 2 of 340, b v2.0 (path)");

        let mut progress = Progress::parse(&["--only", "ERROR|done", "--hide", "ERROR *$", "Building"]).unwrap();
        let passed: Vec<_> =
            lines(b"info\nERROR \nERROR no\ndone\n").into_iter().filter_map(|line| progress.passed(line)).collect();
        assert_eq!(passed, [b"ERROR no".to_vec(), b"done".to_vec()]);
    }

    #[test]
    fn progress_bars_are_shown_and_not_passed_on() {
        let mut progress = Progress::parse(&["--show", "([0-9]+%)", "Downloading"]).unwrap();
        assert_eq!(progress.so_far(), "Downloading");
        let printed = lines(b" 10%\r 20%\rdone\n\nlast");
        assert_eq!(printed.len(), 5);
        let passed: Vec<_> = printed.into_iter().filter_map(|line| progress.passed(line)).collect();
        assert_eq!(passed, [b"done".to_vec(), Vec::new(), b"last".to_vec()]);
        assert_eq!(progress.so_far(), "Downloading: 20%");
    }

    #[test]
    fn a_line_shows_that_the_tool_still_works() {
        let mut progress = Progress::parse(&["--hide", ".", "Installing"]).unwrap();
        progress.every = Duration::ZERO;
        let (sender, receiver) = sync_channel(64);
        sender.send(Printed::Line(b"noise".to_vec())).unwrap();
        drop(sender);
        let mut output = Vec::new();
        progress.pass_on(&receiver, &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), "       Installing (0 s)\n");
    }

    #[test]
    fn what_is_asked_for_wrongly_is_refused() {
        for words in [&["--of"][..], &[], &["--hide", "(", "x"], &["--every", "0", "x"], &["--loud", "x"], &["x", "y"]]
        {
            assert!(Progress::parse(words).is_err(), "{words:?}");
        }
        assert_eq!(Progress::parse(&["--count", "x", "--of", "", "Work"]).unwrap().so_far(), "Work: 0");
    }
}

#[cfg(test)]
mod properties {
    use super::*;
    use crate::properties::{Arriving, bytes_near, check, cuts};

    #[test]
    fn lines_are_the_same_however_the_output_arrives() {
        let read_all = |input: &mut dyn Read| {
            let (sender, receiver) = sync_channel(4096);
            read(input, &sender);
            drop(sender);
            receiver.iter().collect::<Vec<_>>()
        };
        let samples: [&[u8]; 2] = [b" 10%\r 20%\rdone\r\n\nlast", b"a\r\r\nb\xff\n\r"];
        check((bytes_near(&samples), cuts()), |(output, cuts)| {
            assert_eq!(read_all(&mut Arriving::new(&output, &cuts)), read_all(&mut &output[..]));
        });
    }
}
