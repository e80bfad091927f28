//! From the words of a command line to a command.

use clap::{Parser as _, error::ErrorKind};

use super::{
    command::{Command, CommandLine},
    output::Format,
    suggestion,
};
use crate::model::Line;

/// What the words of a command line mean.
pub(super) enum Parsed {
    Command(Box<Command>),
    /// The help text that was requested.
    Help(String),
    /// An error message of one line.
    Invalid(String),
}

/// Parses the words of a command. The format is known even if the rest is invalid, so that a program can read why.
pub(super) fn parse(mut words: Vec<String>) -> (Format, Parsed) {
    if words.is_empty() || words[0] == "--help" || words[0] == "-h" {
        words = vec!["help".to_owned()];
    }
    if words[0] == "--version" {
        words = vec!["version".to_owned()];
    }
    let format = requested_format(&words);
    let first = words[0].clone();
    match CommandLine::try_parse_from(words) {
        Ok(line) => (line.format, Parsed::Command(Box::new(line.command))),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => (format, Parsed::Help(error.render().to_string())),
        Err(error) if error.kind() == ErrorKind::InvalidSubcommand => {
            (format, Parsed::Invalid(suggestion::unknown(&first)))
        }
        Err(error) => {
            let text = error.render().to_string();
            let is_cause = |line: &&str| !line.starts_with("Usage:") && !line.starts_with("For more information");
            let text: Vec<&str> = text.lines().take_while(is_cause).map(str::trim).collect();
            let text = text.join(" ").trim().trim_start_matches("error: ").to_owned();
            (format, Parsed::Invalid(format!("{}; `help {first}` explains it", Line::sanitize(text.trim()))))
        }
    }
}

/// The value of `--format` among words that may be invalid otherwise.
fn requested_format(words: &[String]) -> Format {
    let values = words.iter().zip(words.iter().skip(1)).filter(|(word, _)| *word == "--format").map(|(_, value)| value);
    let is_json = values.map(String::as_str).chain(words.iter().filter_map(|word| word.strip_prefix("--format=")));
    if is_json.last() == Some("json") { Format::Json } else { Format::Text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(words: &[&str]) -> String {
        match parse(words.iter().map(|w| (*w).to_owned()).collect()).1 {
            Parsed::Invalid(text) => text,
            Parsed::Command(_) | Parsed::Help(_) => panic!("{words:?} was accepted"),
        }
    }

    #[test]
    fn errors_are_one_line() {
        let long = "x".repeat(5000);
        for words in [
            vec!["apps:create"],
            vec!["apps:create", "Bad Name"],
            vec!["apps:create", "a\nb"],
            vec!["apps:create", &long],
            vec!["apps:create", "--nonsense"],
            vec!["config:set", "app"],
            vec!["logs", "app", "-n", "-5"],
            vec!["releases:rollback", "app", "latest"],
            vec!["a\u{1b}[31mb"],
        ] {
            let text = error(&words);
            assert!(!text.contains('\n') && !text.contains('\u{1b}') && text.len() < 5200, "{text}");
        }
        assert!(error(&["apps:create", "Bad Name"]).contains("use 1 to 30 lowercase letters"));
        assert!(error(&["apps:create", "X"]).ends_with("with a letter; `help apps:create` explains it"));
        assert_eq!(error(&["ps:scal", "x"]), "there is no command ps:scal; did you mean ps:scale?");
    }

    #[test]
    fn every_command_takes_help_options() {
        for words in [["ps:scale", "--help"], ["apps:create", "-h"]] {
            assert!(matches!(parse(words.map(str::to_owned).to_vec()).1, Parsed::Help(_)), "{words:?}");
        }
    }
}
