//! What to suggest for a mistyped command.

use clap::CommandFactory as _;

use super::{command::CommandLine, elsewhere};
use crate::model::Line;

/// The error message for an unknown command.
pub(super) fn unknown(word: &str) -> String {
    let typed = Line::excerpt(word);
    // A command of another platform may differ by one letter from one with another meaning.
    if let Some(answer) = elsewhere::answer(&typed) {
        return answer;
    }
    match suggestion(&typed) {
        Some(command) => format!("there is no command {typed}; did you mean {command}?"),
        None => format!("there is no command {typed}; `help` lists all"),
    }
}

/// The command that was clearly meant: its noun or verb mistyped, the two swapped, or a verb that only one command has.
fn suggestion(typed: &str) -> Option<String> {
    let commands = CommandLine::command();
    let names = commands.get_subcommands().flat_map(|c| std::iter::once(c.get_name()).chain(c.get_all_aliases()));
    let names: Vec<&str> = names.collect();
    let swapped = typed.split_once(':').map(|(first, second)| format!("{second}:{first}"));
    let mistyped = names.iter().filter_map(|name| Some((typing_errors(typed, name)?, *name))).min();
    let mut by_verb = names.iter().filter(|name| name.split_once(':').is_some_and(|(_, verb)| verb == typed));
    let only = by_verb.next().filter(|_| by_verb.next().is_none());
    let found = names.iter().find(|name| swapped.as_deref() == Some(**name)).or(only).copied();
    mistyped.map(|(_, name)| name).or(found).map(str::to_owned)
}

/// How many letters were mistyped, if it is at most one in each word: two in one word can make another verb (`rename`,
/// `rebase`). In a command of fewer than four letters, one can already make another word.
fn typing_errors(typed: &str, name: &str) -> Option<usize> {
    let (typed, name): (Vec<_>, Vec<_>) = (typed.split(':').collect(), name.split(':').collect());
    let errors = typed.iter().zip(&name).map(|(typed, name)| strsim::osa_distance(typed, name));
    let (max, total) = errors.fold((0, 0), |(max, total), errors| (max.max(errors), total + errors));
    let short = name.concat().len() < 4;
    (typed.len() == name.len() && max <= 1 && !short).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn similar_commands_are_suggested() {
        for (typed, command) in [
            ("ps:scal", "ps:scale"),
            ("pss:sacle", "ps:scale"),
            ("app:create", "apps:create"),
            ("scale:ps", "ps:scale"),
            ("scale", "ps:scale"),
            ("lgos", "logs"),
            ("log", "logs"),
            ("stack", "stacks"),
        ] {
            assert_eq!(unknown(typed), format!("there is no command {typed}; did you mean {command}?"));
        }
    }

    #[test]
    fn commands_of_other_platforms_are_answered_before_anything_is_guessed() {
        let answer = unknown("ps:type");
        assert_eq!(answer, "there is no command ps:type; use resource:limit");
    }

    #[test]
    fn dissimilar_commands_are_not_suggested() {
        for typed in ["domain:add", "apps:remove", "add", "mv", "qqqq", "ps:scale:x", ":"] {
            assert_eq!(unknown(typed), format!("there is no command {typed}; `help` lists all"));
        }
    }
}
