//! Options of this program among the words of a command: `-r NAME`, `--remote NAME`, `-a APP` and `--app APP`, unless the command
//! has an option of that name itself.

use std::vec::IntoIter;

use clap::{ArgAction, Command};

use super::{error::RemoteError, place::Typed};

/// Takes them out of the words. Of a command that runs another one, only before the first word that is no option.
pub(super) fn take(typed: Typed, definition: &Command) -> Result<Typed, RemoteError> {
    let Typed { mut remote, mut app, words } = typed;
    let Some(command) = words.first().and_then(|name| definition.find_subcommand(name)) else {
        return Ok(Typed { remote, app, words });
    };
    let has_long = |name: &str| command.get_arguments().any(|arg| arg.get_long() == Some(name));
    let has_short = |name: char| command.get_arguments().any(|arg| arg.get_short() == Some(name));
    let runs_another = command.get_positionals().any(clap::Arg::is_trailing_var_arg_set);
    let mut rest = words.into_iter();
    let mut kept: Vec<String> = rest.by_ref().take(1).collect();
    while let Some(word) = rest.next() {
        match Word::of(&word) {
            Word::Long("remote", value) if !has_long("remote") => {
                remote = Some(value_of("--remote", value, &mut rest)?);
            }
            Word::Long("app", value) if !has_long("app") => app = Some(value_of("--app", value, &mut rest)?),
            Word::Short('r', value) if !has_short('r') => remote = Some(value_of("-r", value, &mut rest)?),
            Word::Short('a', value) if !has_short('a') => app = Some(value_of("-a", value, &mut rest)?),
            Word::End => {
                kept.push(word);
                break;
            }
            Word::Other if runs_another => {
                kept.push(word);
                break;
            }
            Word::Other => kept.push(word),
            Word::Long(name, value) => {
                let follows = value.is_none() && takes_value(command, |arg| arg.get_long() == Some(name));
                kept.push(word);
                kept.extend(follows.then(|| rest.next()).flatten());
            }
            Word::Short(..) => {
                // Of several in one word, the first that takes a value takes the rest of the word.
                let mut names = word.chars().skip(1);
                let takes = names.find(|name| takes_value(command, |arg| arg.get_short() == Some(*name)));
                let follows = takes.is_some() && names.next().is_none();
                kept.push(word);
                kept.extend(follows.then(|| rest.next()).flatten());
            }
        }
    }
    kept.extend(rest);
    Ok(Typed { remote, app, words: kept })
}

enum Word<'a> {
    /// An option and the value in the same word.
    Long(&'a str, Option<&'a str>),
    /// The same of one letter.
    Short(char, Option<&'a str>),
    /// The end of the options.
    End,
    Other,
}

impl<'a> Word<'a> {
    fn of(word: &'a str) -> Self {
        if word == "--" {
            return Self::End;
        }
        if let Some(option) = word.strip_prefix("--") {
            return option
                .split_once('=')
                .map_or(Self::Long(option, None), |(name, value)| Self::Long(name, Some(value)));
        }
        let mut rest = word.chars();
        match (rest.next(), rest.next()) {
            (Some('-'), Some(name)) => {
                let value = rest.as_str();
                let value = value.strip_prefix('=').unwrap_or(value);
                Self::Short(name, Some(value).filter(|value| !value.is_empty()))
            }
            _ => Self::Other,
        }
    }
}

fn value_of(option: &str, value: Option<&str>, rest: &mut IntoIter<String>) -> Result<String, RemoteError> {
    let value = value.map(str::to_owned).or_else(|| rest.next());
    value.ok_or_else(|| RemoteError::NoValue(option.to_owned()))
}

fn takes_value(command: &Command, is_it: impl Fn(&clap::Arg) -> bool) -> bool {
    let mut found = command.get_arguments().filter(|arg| is_it(arg));
    found.any(|arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    fn taken(line: &str) -> (Option<String>, Option<String>, String) {
        let mut definition = commands::definition();
        definition.build();
        let words = shell_words::split(line).unwrap();
        let Typed { remote, app, words } = take(Typed { words, ..Typed::default() }, &definition).unwrap();
        (remote, app, words.join(" "))
    }

    #[test]
    fn options_of_this_program_are_taken_wherever_they_stand() {
        let both = |rest: &str| (Some("prod".to_owned()), Some("shop".to_owned()), rest.to_owned());
        for line in [
            "ps:scale -r prod -a shop web=3",
            "ps:scale web=3 --app shop --remote=prod",
            "ps:scale -rprod web=3 --app=shop",
        ] {
            assert_eq!(taken(line), both("ps:scale web=3"), "{line}");
        }
        assert_eq!(taken("logs -n 5 -r prod -t -a shop"), both("logs -n 5 -t"));
        assert_eq!(taken("run -a shop -r prod ls -a -r x"), both("run ls -a -r x"));
    }

    #[test]
    fn options_and_values_of_the_command_stay() {
        let none = |line: &str| (None, None, line.to_owned());
        for line in [
            "ssh-keys:add ann --app shop",
            "run shop ls -a x",
            "run shop -- ls -r x",
            "config:set shop -- -a=1",
            "logs shop -p -r",
            "nonsense -r prod",
        ] {
            assert_eq!(taken(line), none(line), "{line}");
        }
        let mut definition = commands::definition();
        definition.build();
        let words = vec!["ps:scale".to_owned(), "-r".to_owned()];
        let error = take(Typed { words, ..Typed::default() }, &definition).unwrap_err();
        assert_eq!(error.to_string(), "-r needs a value; write -r NAME");
    }
}
