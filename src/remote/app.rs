//! The app of a command, where the command does not name it.

use clap::{Command, error::ErrorKind};

use super::error::RemoteError;

/// Id and name of the argument that is the app.
const APP: &str = "app";

/// Commands whose app is never taken from the folder in which one stands: what they do cannot be undone, and what they create
/// is meant to be named.
const NAMED_ONLY: [&str; 2] = ["apps:create", "apps:destroy"];

/// Commands that need the name of an app or `--all`, which their definitions do not say.
const ONE_OR_ALL: [&str; 5] = ["ps:restart", "ps:rebuild", "ps:stop", "ps:start", "apps:rebase"];

/// Whether a command is about one app, does not name it, and would be valid if it did. What could be read both ways, such as `run
/// ls -l`, names its app.
pub(super) fn is_lacking(words: &[String], definition: &Command) -> bool {
    let Some(command) = words.first().and_then(|name| definition.find_subcommand(name)) else { return false };
    if !takes_app(command) || NAMED_ONLY.contains(&command.get_name()) {
        return false;
    }
    let parse = |words: &[String]| definition.clone().try_get_matches_from(words);
    match parse(words) {
        Ok(matches) => {
            let given = matches.subcommand().map(|(_, given)| given);
            ONE_OR_ALL.contains(&command.get_name())
                && given.is_some_and(|given| !given.contains_id(APP) && !given.get_flag("all"))
        }
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => false,
        Err(_) => parse(&inserted(words.to_vec(), "a".to_owned())).is_ok(),
    }
}

/// The words with this app: as the first argument, or as the option `--app` of a command that has one.
pub(super) fn insert(words: Vec<String>, app: &str, definition: &Command) -> Result<Vec<String>, RemoteError> {
    match words.first().and_then(|name| definition.find_subcommand(name)) {
        // The server says what there is instead.
        None => Ok(words),
        Some(command) if takes_app(command) => Ok(inserted(words, app.to_owned())),
        Some(command) if command.get_arguments().any(|arg| arg.get_long() == Some(APP)) => {
            Ok(inserted(words, format!("--{APP}={app}")))
        }
        Some(command) => Err(RemoteError::NoApp(command.get_name().to_owned())),
    }
}

fn takes_app(command: &Command) -> bool {
    command.get_positionals().next().is_some_and(|first| first.get_id() == APP)
}

/// The words with another one after the command.
fn inserted(mut words: Vec<String>, word: String) -> Vec<String> {
    words.insert(1.min(words.len()), word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands;

    fn definition() -> Command {
        let mut definition = commands::definition();
        definition.build();
        definition
    }

    #[test]
    fn an_app_is_lacking_only_where_nothing_else_can_be_meant() {
        let definition = definition();
        let lacking = |line: &str| is_lacking(&shell_words::split(line).unwrap(), &definition);
        for line in [
            "ps:scale web=3",
            "ps:scale",
            "logs",
            "logs -t",
            "config:set GREETING=hello",
            "config:get GREETING",
            "run bash",
            "enter web.1",
            "url",
            "ps:restart",
            "apps:info --format json",
        ] {
            assert!(lacking(line), "{line}");
        }
        for line in [
            "ps:scale other web=3",
            "ps:scale other",
            "logs other -t",
            "run ls -l",
            "ps:restart --all",
            "ps:restart other",
            "ps:report",
            "apps:list",
            "apps:create",
            "apps:destroy",
            "ps:scale web=many",
            "logs --help",
            "nonsense",
            "users:list",
        ] {
            assert!(!lacking(line), "{line}");
        }
    }

    #[test]
    fn the_lists_name_commands_as_they_are() {
        let definition = definition();
        for name in ONE_OR_ALL {
            let command = definition.find_subcommand(name).unwrap();
            let has = |id: &str| command.get_arguments().any(|arg| arg.get_id() == id);
            assert!(takes_app(command) && has("all"), "{name}");
        }
        for name in NAMED_ONLY {
            assert!(takes_app(definition.find_subcommand(name).unwrap()), "{name}");
        }
    }

    #[test]
    fn an_app_is_inserted_where_the_command_has_it() {
        let definition = definition();
        let with = |line: &str| {
            let words = insert(shell_words::split(line).unwrap(), "shop", &definition);
            words.map(|words| words.join(" ")).map_err(|error| error.to_string())
        };
        assert_eq!(with("ps:scale web=3").unwrap(), "ps:scale shop web=3");
        assert_eq!(with("run --timeout 5 ls").unwrap(), "run shop --timeout 5 ls");
        assert_eq!(with("ssh-keys:add ann").unwrap(), "ssh-keys:add --app=shop ann");
        assert_eq!(with("users:list").unwrap_err(), "users:list is about no app; leave out --app");
        assert_eq!(with("nonsense x").unwrap(), "nonsense x");
    }
}
