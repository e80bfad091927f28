//! Regular expressions over the lines of a log. They match bytes, not characters: what a tool prints need not be UTF-8.

use std::{collections::BTreeMap, error::Error as _};

use regex_automata::{
    Input,
    hybrid::dfa::DFA,
    nfa::thompson::{self, pikevm::PikeVM},
    util::syntax,
};

use crate::model::Line;

/// What a tool printed.
pub(super) struct Log(Vec<u8>);

impl Log {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let mut lines = Vec::with_capacity(bytes.len());
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            match line.strip_suffix(b"\r\n") {
                Some(line) => lines.extend([line, b"\n"].concat()),
                None => lines.extend(line),
            }
        }
        Self(lines)
    }

    fn lines(&self) -> impl Iterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'\n')
    }
}

/// Parts of the first line that a pattern matches.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// First group that is not empty, or the whole match.
    pub(super) it: String,
    /// Named groups.
    pub(super) groups: BTreeMap<String, String>,
}

/// A regular expression that matches within one line.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Finds groups, slowly.
    groups: PikeVM,
    /// Finds out fast that a log does not match. It may also match across lines.
    anywhere: DFA,
}

impl Pattern {
    /// The error is one line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let wrong = |why: &str| {
            let why = Line::beginning(why.trim_start_matches("error: "), 200);
            format!("{:?} is not a valid pattern: {why}", Line::excerpt(text))
        };
        let bytes = syntax::Config::new().unicode(false).utf8(false);
        let groups = PikeVM::builder().syntax(bytes).build(text).map_err(|error| {
            // The parser draws the place of the mistake, and names the mistake in the last line.
            let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
            wrong(why.lines().last().unwrap_or_default())
        })?;
        let no_captures = thompson::Config::new().which_captures(thompson::WhichCaptures::None);
        let anywhere = DFA::builder().syntax(bytes.multi_line(true)).thompson(no_captures).build(text);
        Ok(Self { groups, anywhere: anywhere.map_err(|error| wrong(&error.to_string()))? })
    }

    /// A pattern that matches whole texts only.
    pub(super) fn parse_whole(text: &str) -> Result<Self, String> {
        Self::parse(text)?;
        Self::parse(&format!("^(?:{text})$"))
    }

    pub(super) fn group_names(&self) -> impl Iterator<Item = &str> {
        self.groups.get_nfa().group_info().all_names().filter_map(|(_, _, name)| name)
    }

    /// Searches a log line by line.
    pub(super) fn find(&self, log: &Log) -> Option<Found> {
        self.find_all(log).next()
    }

    /// What each line that the pattern matches has.
    pub(super) fn find_all(&self, log: &Log) -> impl Iterator<Item = Found> {
        let (mut cache, mut captures) = (self.groups.create_cache(), self.groups.create_captures());
        let lines = self.may_match(log).then(|| log.lines()).into_iter().flatten();
        lines.filter_map(move |line| {
            self.groups.captures(&mut cache, line, &mut captures);
            let whole = captures.get_match()?;
            let text = |range| String::from_utf8_lossy(&line[range]).trim_end().to_owned();
            let group = captures.iter().skip(1).flatten().find(|group| !group.is_empty());
            let named = |name: &str| captures.get_group_by_name(name).map(|group| text(group.range()));
            let groups = self.group_names().filter_map(|name| Some((name.to_owned(), named(name)?))).collect();
            Some(Found { it: text(group.unwrap_or(whole.span()).range()), groups })
        })
    }

    fn may_match(&self, log: &Log) -> bool {
        let found = self.anywhere.try_search_fwd(&mut self.anywhere.create_cache(), &Input::new(&log.0).earliest(true));
        !matches!(found, Ok(None))
    }

    pub(super) fn matches(&self, text: &str) -> bool {
        self.groups.is_match(&mut self.groups.create_cache(), text)
    }
}
