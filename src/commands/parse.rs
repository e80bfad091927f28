//! From the words of a command line to a command.

use clap::{
    Arg, ArgMatches, CommandFactory as _, FromArgMatches as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use super::{
    command::{Command, CommandLine},
    output::Format,
    suggestion,
};
use crate::model::{Address, Line};

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
    let mut definition = CommandLine::command();
    let read = definition.try_get_matches_from_mut(&words).and_then(|matches| {
        let line = CommandLine::from_arg_matches(&matches).map_err(|error| error.format(&mut definition));
        line.map(|line| (line, word_that_is_no_pair(&definition, &matches)))
    });
    match read {
        Ok((_, Some(word))) => (format, Parsed::Invalid(no_pair(&word, &words))),
        Ok((line, None)) => (line.format, Parsed::Command(Box::new(line.command))),
        Err(error) if error.kind() == ErrorKind::DisplayHelp => (format, Parsed::Help(error.render().to_string())),
        Err(error) => (format, Parsed::Invalid(explain(&error, &words))),
    }
}

/// Why the words of a command are invalid, on one line.
fn explain(error: &clap::Error, words: &[String]) -> String {
    let first = words.first().map_or_else(String::new, |word| short(word));
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match (error.kind(), context(ContextKind::InvalidArg), context(ContextKind::InvalidValue)) {
        (ErrorKind::MissingSubcommand | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand, ..) => {
            "no command is given; `help` lists all".to_owned()
        }
        (ErrorKind::InvalidSubcommand, ..) => suggestion::unknown(words.first().map_or("", String::as_str)),
        (ErrorKind::UnknownArgument, Some(word), _) if !word.starts_with('-') => {
            let word = short(word);
            format!(
                "{word}: {first} takes no further word; over ssh, the server splits words as a shell does, so quote a text \
                 with spaces for both shells: ssh … \"{first} 'two words'\""
            )
        }
        (ErrorKind::ValueValidation, Some(argument), Some(word)) if argument.contains(PAIR) && !word.contains('=') => {
            no_pair(word, words)
        }
        _ => {
            let mut text = error.render().to_string();
            if let Some(value) = context(ContextKind::InvalidValue) {
                text = text.replace(value, &shown(value));
            }
            for word in words.iter().map(String::as_str).chain(context(ContextKind::InvalidArg)) {
                let shown = shown(word);
                if shown.len() < word.len() {
                    text = text.replace(word, &shown);
                }
            }
            let is_cause = |line: &&str| {
                !["Usage:", "For more information", "tip: to pass"]
                    .iter()
                    .any(|start| line.trim_start().starts_with(start))
            };
            let text: Vec<&str> = text.lines().take_while(is_cause).map(str::trim).collect();
            let text = text.join(" ").trim().trim_start_matches("error: ").to_owned();
            format!("{}; `help {first}` explains it", Line::beginning(text.trim(), MAX_EXPLANATION))
        }
    }
}

/// Maximum length of the explanation of an invalid command, in characters.
const MAX_EXPLANATION: usize = 900;

/// How commands that set config vars name their arguments.
const PAIR: &str = "NAME=VALUE";

/// A word that was given where `NAME=VALUE` is expected.
fn word_that_is_no_pair(definition: &clap::Command, matches: &ArgMatches) -> Option<String> {
    let (name, given) = matches.subcommand()?;
    let is_pair = |arg: &&Arg| arg.get_value_names().is_some_and(|names| names.iter().any(|name| name == PAIR));
    let pairs = definition.find_subcommand(name)?.get_positionals().find(is_pair)?;
    let mut words = given.get_raw(pairs.get_id().as_str())?.filter_map(std::ffi::OsStr::to_str);
    words.find(|word| !word.contains('=')).map(str::to_owned)
}

/// The error message for such a word. It follows a pair if it is the rest of a value with spaces. Values are not repeated.
fn no_pair(word: &str, words: &[String]) -> String {
    let plain: Vec<&str> = words.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let first = short(plain.first().copied().unwrap_or_default());
    let before = plain.iter().take_while(|other| **other != word);
    match before.filter_map(|other| other.split_once('=')).last() {
        Some((name, _)) => {
            let app = plain.get(1).copied().unwrap_or("APP");
            format!(
                "{}: write {PAIR}; a value with spaces needs quotes for both shells: ssh … \"{first} {} {}='two words'\"",
                short(word),
                short(app),
                short(name)
            )
        }
        None => format!("{}: write {PAIR}; `help {first}` explains it", short(word)),
    }
}

/// A word of the user for an error message.
fn short(word: &str) -> String {
    shown(word).chars().take(60).collect()
}

/// What the user sent, for an error message, which may repeat it once more. It may be an address with a password.
fn shown(word: &str) -> String {
    const MAX: usize = 80;
    let text = Line::excerpt(&Address::new(word).to_string());
    if text.chars().count() <= MAX { text } else { text.chars().take(MAX - 1).chain(['…']).collect() }
}

/// The value of `--format` among words that may be invalid otherwise.
pub(super) fn requested_format(words: &[String]) -> Format {
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
            vec!["-\0"],
            vec!["apps:create", "app", &long],
        ] {
            let text = error(&words);
            assert!(!text.contains('\n') && !text.contains('\u{1b}') && text.chars().count() < 1000, "{text}");
        }
        assert!(error(&["apps:create", "Bad Name"]).contains("use 1 to 63 lowercase letters"));
        assert!(error(&["apps:create", "X"]).ends_with("with a letter or digit; `help apps:create` explains it"));
        let address = error(&["buildpacks:add", "app", "ftp://user:s3cret@host/x"]);
        assert!(address.contains("'ftp://host/x'") && !address.contains("s3cret"), "{address}");
        assert_eq!(error(&["ps:scal", "x"]), "there is no command ps:scal; did you mean ps:scale?");
    }

    /// Every word and option of every command gets a text of 100 KB, alone and as a part of a word.
    #[test]
    fn an_error_echoes_at_most_200_characters_of_what_was_sent() {
        const MARK: char = 'ω';
        let long = MARK.to_string().repeat(50_000);
        let shapes = ["L", "web=L", "http://L/L", "10.0.0.0/L:80", "--L"];
        let shapes = shapes.map(|shape| shape.replace('L', &long));
        let mut refused = 0;
        let mut check = |words: Vec<String>| {
            let message = match parse(words.clone()).1 {
                Parsed::Invalid(message) => message,
                Parsed::Command(command) => match *command {
                    Command::Help { topic } => crate::commands::help::help(topic.as_deref()).unwrap_err(),
                    _ => return,
                },
                Parsed::Help(_) => return,
            };
            refused += 1;
            let echoed = message.chars().filter(|c| *c == MARK).count();
            assert!(echoed <= 200, "{echoed} characters in the error of {}", words[0]);
        };
        let definition = CommandLine::command();
        for command in definition.get_subcommands() {
            let positionals = command.get_positionals().count();
            let options = command.get_opts().filter_map(|option| option.get_long());
            let options: Vec<_> = options.map(|name| format!("--{name}=")).collect();
            for shape in &shapes {
                for at in positionals.saturating_sub(1)..=positionals {
                    let mut words = vec![command.get_name().to_owned()];
                    words.extend((0..at).map(|_| "app".to_owned()));
                    words.push(shape.clone());
                    check(words);
                }
            }
            for option in &options {
                let mut words = vec![command.get_name().to_owned(), format!("{option}{long}")];
                words.extend((0..positionals).map(|_| "app".to_owned()));
                check(words);
            }
        }
        check(vec![long]);
        assert!(refused > 200, "{refused}");
    }

    #[test]
    fn a_word_too_many_is_named_with_the_rule_for_quotes() {
        let expected = "app: apps:create takes no further word; over ssh, the server splits words as a shell does, so quote \
                        a text with spaces for both shells: ssh … \"apps:create 'two words'\"";
        assert_eq!(error(&["apps:create", "my", "app"]), expected);
        let address = error(&["apps:create", "my", "https://ann:s3cret@example.com/x?token=s3cret"]);
        assert!(address.starts_with("https://example.com/x?token=xxxxx: apps:create takes no further"), "{address}");
        assert_eq!(error(&["--format", "json"]), "no command is given; `help` lists all");
        assert_eq!(error(&["logs", "app", "-n", "-1"]), "unexpected argument '-1' found; `help logs` explains it");
        let option = error(&["apps:create", "my", "--nonsense"]);
        assert!(option.contains("'--nonsense'") && !option.contains("quote"), "{option}");
    }

    /// A command as config:set, whose values are read later or by clap itself.
    fn set_error(line: &str, checked_by_clap: bool) -> Option<String> {
        let words: Vec<_> = shell_words::split(line).unwrap();
        let mut pairs = Arg::new("pairs").value_name(PAIR).num_args(1..).required(true);
        if checked_by_clap {
            let parse = |text: &str| text.split_once('=').map(|_| text.to_owned()).ok_or("write it as NAME=VALUE");
            pairs = pairs.value_parser(parse);
        }
        let set = clap::Command::new("config:set").arg(Arg::new("app").required(true)).arg(pairs);
        let set = set.arg(Arg::new("encoded").long("encoded").action(clap::ArgAction::SetTrue));
        let mut definition = clap::Command::new("paas").no_binary_name(true).subcommand(set);
        match definition.try_get_matches_from_mut(&words) {
            Ok(matches) => word_that_is_no_pair(&definition, &matches).map(|word| no_pair(&word, &words)),
            Err(error) => Some(explain(&error, &words)),
        }
    }

    #[test]
    fn the_rest_of_a_value_with_spaces_is_named_with_the_rule_for_quotes() {
        for checked_by_clap in [false, true] {
            let error = |line| set_error(line, checked_by_clap);
            let expected = "there: write NAME=VALUE; a value with spaces needs quotes for both shells: ssh … \"config:set app \
                            K='two words'\"";
            assert_eq!(error("config:set app K=hi there").as_deref(), Some(expected));
            assert_eq!(error("config:set --encoded app A=b K=hi there C=d").as_deref(), Some(expected));
            let alone = "K: write NAME=VALUE; `help config:set` explains it";
            assert_eq!(error("config:set app K").as_deref(), Some(alone));
            assert_eq!(error("config:set app K='hi there' L='a=b c'"), None);
        }
        let real = error(&["config:set", "app", "K=hi", "there"]);
        assert!(real.starts_with("there: write NAME=VALUE; a value with spaces needs quotes"), "{real}");
    }

    #[test]
    fn every_command_takes_help_options() {
        for words in [["ps:scale", "--help"], ["apps:create", "-h"]] {
            assert!(matches!(parse(words.map(str::to_owned).to_vec()).1, Parsed::Help(_)), "{words:?}");
        }
    }
}
