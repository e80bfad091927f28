//! The help text, made of the definitions of the commands.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::command::CommandLine;
use crate::model::Line;

/// The list of all commands, or the help of a command or of a noun's commands.
pub(super) fn help(topic: Option<&str>) -> Result<String, String> {
    let mut all = CommandLine::command();
    all.build();
    let Some(topic) = topic else { return Ok(list(&all)) };
    let mut text = String::new();
    for command in all.get_subcommands_mut() {
        let name = command.get_name().to_owned();
        let matches =
            name == topic || name.split(':').next() == Some(topic) || command.get_all_aliases().any(|a| a == topic);
        if matches {
            let _ = writeln!(text, "{}\n{}", name, command.render_help());
        }
    }
    if text.is_empty() {
        return Err(format!("there is no command or noun {}; `help` lists all", Line::excerpt(topic)));
    }
    Ok(text)
}

/// All commands, a line each, with a blank line between nouns.
fn list(all: &clap::Command) -> String {
    let mut text = "Commands, as `ssh paas@host COMMAND`, `paas -r REMOTE COMMAND` or, on the server's own machine, `paas COMMAND`:\n".to_owned();
    let mut previous = None;
    for command in all.get_subcommands() {
        let (name, about) = (command.get_name(), command.get_about().map(ToString::to_string).unwrap_or_default());
        let noun = name.split_once(':').map_or("", |(noun, _)| noun);
        if previous != Some(noun) {
            text.push('\n');
        }
        previous = Some(noun);
        let _ = writeln!(text, "  {name:<18} {about}");
    }
    text.push_str("\n`help NOUN` and `COMMAND --help` explain more; every command takes --format json.\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_listed_and_explained() {
        CommandLine::command().debug_assert();
        let all = help(None).unwrap();
        for command in CommandLine::command().get_subcommands() {
            let name = command.get_name();
            assert!(all.contains(name), "{name} is not in the list");
            assert!(command.get_about().is_some(), "{name} has no description");
            assert!(help(Some(name)).unwrap().contains("Usage:"), "{name}");
            assert!(command.get_after_help().is_some(), "{name} has no example");
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{name}: {} has no description", argument.get_id());
            }
        }
        assert!(help(Some("ps")).unwrap().contains("ps:scale"));
        assert!(help(Some("nonsense")).is_err());
    }
}
