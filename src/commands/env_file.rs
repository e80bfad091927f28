//! Config vars as text: what `config:export` prints and `config:import` reads.

use std::fmt::Write as _;

use serde_json::Value;

use crate::{
    model::{ConfigKey, Secret},
    store::ConfigVars,
};

/// How config vars are written. `Shell` and `Env` are read alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Notation {
    /// Commands for a POSIX shell: export NAME='value'.
    Shell,
    /// One JSON object.
    Json,
    /// Lines of a .env file: NAME="value".
    Env,
}

/// Text that cannot be read; prints as one line, which never repeats a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidVars {
    /// A line has no `=`.
    #[error("line {0} is not NAME=value; write it so, or begin a comment with #")]
    NoAssignment(usize),
    /// The text before `=` is no name. It is not repeated: it may belong to a value of several lines without quotes.
    #[error("line {0} begins with an invalid name; {rule}", rule = .1)]
    Name(usize, &'static str),
    /// A quote is not closed.
    #[error("line {0} opens a quote that is never closed; close it, or put the value into the other kind of quotes")]
    OpenQuote(usize),
    /// Text follows the closing quote.
    #[error("line {0} has text after the closing quote; put the whole value into one pair of quotes")]
    AfterQuote(usize),
    /// The text is not JSON.
    #[error("line {0} is not valid JSON; write one object of strings")]
    Json(usize),
    /// The JSON document is not an object.
    #[error("the JSON document is not an object; write one object of strings")]
    NotAnObject,
    /// A key of the JSON object is no name.
    #[error("key {0} of the JSON object is an invalid name; {rule}", rule = .1)]
    JsonName(usize, &'static str),
    /// A value of the JSON object is not a string.
    #[error("the value of {0} is not a string; put it into quotes")]
    NotAString(ConfigKey),
}

/// Writes config vars.
pub(super) fn export<'a>(vars: impl Iterator<Item = (&'a ConfigKey, &'a Secret)>, notation: Notation) -> String {
    let mut text = String::new();
    match notation {
        Notation::Shell => {
            for (name, value) in vars {
                let _ = writeln!(text, "export {name}='{}'", value.expose().replace('\'', r"'\''"));
            }
        }
        Notation::Env => {
            for (name, value) in vars {
                let _ = writeln!(text, "{name}=\"{}\"", escape(value.expose()));
            }
        }
        Notation::Json => {
            let object = vars.map(|(name, value)| (name.to_string(), Value::from(value.expose()))).collect();
            let _ = writeln!(text, "{:#}", Value::Object(object));
        }
    }
    text
}

/// The text between double quotes that [`import`] reads as this value.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '\\' | '"' | '$' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// Reads config vars; the last value of a name counts. Without a notation, text that begins with `{` is JSON.
///
/// Lines of a shell script or a `.env` file are `NAME=value`, with or without `export` before it. A value without quotes
/// ends at the line's end, or where a space and `#` begin a comment. One in quotes may have several lines; in double
/// quotes, `\n`, `\r`, `\t`, `\\`, `\"`, `\$` and `` \` `` are escapes. Nothing is substituted: `$` is an ordinary character.
pub(super) fn import(text: &str, notation: Option<Notation>) -> Result<ConfigVars, InvalidVars> {
    match notation {
        Some(Notation::Json) => read_json(text),
        None if text.trim_start().starts_with('{') => read_json(text),
        None | Some(Notation::Shell | Notation::Env) => Reader { rest: text, line: 1 }.read(),
    }
}

fn read_json(text: &str) -> Result<ConfigVars, InvalidVars> {
    let value: Value = serde_json::from_str(text).map_err(|error| InvalidVars::Json(error.line()))?;
    let Value::Object(object) = value else { return Err(InvalidVars::NotAnObject) };
    let read = |(number, (name, value)): (usize, (String, Value))| {
        let name = name.parse::<ConfigKey>().map_err(|error| InvalidVars::JsonName(number, error.rule))?;
        match value {
            Value::String(value) => Ok((name, Secret::new(value))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                Err(InvalidVars::NotAString(name))
            }
        }
    };
    (1..).zip(object).map(read).collect()
}

/// Reads lines of a shell script or a `.env` file.
struct Reader<'a> {
    rest: &'a str,
    /// Number of the line in which `rest` begins.
    line: usize,
}

impl<'a> Reader<'a> {
    fn read(mut self) -> Result<ConfigVars, InvalidVars> {
        let mut vars = ConfigVars::new();
        loop {
            self.take_while(char::is_whitespace);
            match self.rest.chars().next() {
                None => return Ok(vars),
                Some('#') => {
                    self.take_line();
                }
                Some(_) => {
                    let name = self.name()?;
                    vars.insert(name, Secret::new(self.value()?));
                }
            }
        }
    }

    /// Reads `NAME=`.
    fn name(&mut self) -> Result<ConfigKey, InvalidVars> {
        let line = self.line;
        if let Some(rest) = self.rest.strip_prefix("export")
            && rest.starts_with(is_blank)
        {
            self.rest = rest;
        }
        let text = self.take_while(|c| c != '=' && c != '\n');
        if !self.take('=') {
            return Err(InvalidVars::NoAssignment(line));
        }
        text.trim_matches(is_blank).parse::<ConfigKey>().map_err(|error| InvalidVars::Name(line, error.rule))
    }

    fn value(&mut self) -> Result<String, InvalidVars> {
        let line = self.line;
        let blanks = self.take_while(is_blank);
        if !self.rest.starts_with(['\'', '"']) {
            let text = self.take_line();
            let is_comment = |at: usize| if at == 0 { !blanks.is_empty() } else { text[..at].ends_with(is_blank) };
            let end = text.match_indices('#').map(|(at, _)| at).find(|at| is_comment(*at));
            return Ok(text[..end.unwrap_or(text.len())].trim_end().to_owned());
        }
        let mut value = String::new();
        // Parts follow each other without a space: a shell writes a single quote as '\''.
        loop {
            if self.take('\'') {
                value.push_str(self.take_while(|c| c != '\''));
                if !self.take('\'') {
                    return Err(InvalidVars::OpenQuote(line));
                }
            } else if self.take('"') {
                self.double_quoted(&mut value).ok_or(InvalidVars::OpenQuote(line))?;
            } else if self.rest.starts_with("\\'") || self.rest.starts_with("\\\"") {
                self.take('\\');
                value.extend(self.next());
            } else {
                break;
            }
        }
        let ended = self.line;
        let after = self.take_line().trim_end();
        let is_comment = after.starts_with(is_blank) && after.trim_start().starts_with('#');
        if after.is_empty() || is_comment { Ok(value) } else { Err(InvalidVars::AfterQuote(ended)) }
    }

    /// Appends what is between double quotes; `None` if they are not closed.
    fn double_quoted(&mut self, value: &mut String) -> Option<()> {
        loop {
            match self.next()? {
                '"' => return Some(()),
                '\\' => match self.next()? {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    c @ ('\\' | '"' | '$' | '`') => value.push(c),
                    // A shell joins the lines.
                    '\n' => {}
                    c => value.extend(['\\', c]),
                },
                c => value.push(c),
            }
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next()?;
        self.rest = chars.as_str();
        self.line += usize::from(next == '\n');
        Some(next)
    }

    /// Skips this character, if it comes next.
    fn take(&mut self, expected: char) -> bool {
        let found = self.rest.starts_with(expected);
        if found {
            self.next();
        }
        found
    }

    fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.line += taken.matches('\n').count();
        self.rest = rest;
        taken
    }

    /// The rest of the line, without its end.
    fn take_line(&mut self) -> &'a str {
        let line = self.take_while(|c| c != '\n');
        self.take('\n');
        line
    }
}

fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t')
}

#[cfg(test)]
mod tests;
