//! What of a command is told to those who may not see its arguments.

use crate::model::TaskCommand;

/// What is shown in place of a command whose program cannot be told for certain.
const HIDDEN: &str = "…";

/// The program of a command, without its arguments and without variables that are set for it (`NAME=VALUE`): both may hold
/// secrets.
pub(super) fn program(command: &[String]) -> String {
    let split = match command {
        [line] => shell_words::split(line).ok(),
        words => Some(words.to_vec()),
    };
    let Some(words) = split else { return HIDDEN.to_owned() };
    let assigned = words.iter().take_while(|word| is_assignment(word)).count();
    let (assignments, rest) = words.split_at(assigned);
    // In a line for the shell, the word that follows one of these may be a part of the value.
    let is_certain = !assignments.iter().any(|word| word.contains(['$', '`', ';', '&', '|', '(', ')', '<', '>']));
    match rest.first() {
        Some(program) if is_certain && is_plain(program) => program.clone(),
        None if assignments.is_empty() => String::new(),
        Some(_) | None => HIDDEN.to_owned(),
    }
}

fn is_assignment(word: &str) -> bool {
    let name = word.split_once('=').map_or("", |(name, _)| name);
    let first = name.chars().next();
    first.is_some_and(|c| !c.is_ascii_digit()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Whether this can be nothing but the name or path of a program.
fn is_plain(word: &str) -> bool {
    word.chars().all(|c| c.is_alphanumeric() || "._/+-".contains(c))
}

/// A command as it is shown to those who may not see its arguments.
pub(super) fn without_arguments(command: &TaskCommand) -> String {
    let program = match command {
        TaskCommand::Process(process_type) => return process_type.to_string(),
        TaskCommand::Words(words) => program(words),
        TaskCommand::Script(line) => program(std::slice::from_ref(line)),
    };
    if program == HIDDEN || program == command.to_string() { program } else { format!("{program} {HIDDEN}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn the_program_of_a_command_is_told_without_secrets() {
        for (command, expected) in [
            (&["psql"][..], "psql"),
            (&["/usr/bin/psql", "--password", "hunter2"], "/usr/bin/psql"),
            (&["PGPASSWORD=hunter2 psql -c x"], "psql"),
            (&["A=1 PGPASSWORD='hunter2 hunter2' psql"], "psql"),
            (&["PGPASSWORD=hunter2", "psql", "app"], "psql"),
            (&["curl https://ann:hunter2@host"], "curl"),
            (&["https://ann:hunter2@host"], "…"),
            (&["-- hunter2"], "--"),
            (&["PGPASSWORD=hunter2"], "…"),
            (&["PGPASSWORD=$(echo hunter2 x) psql"], "…"),
            (&["A=1;psql hunter2"], "…"),
            (&["A=`cat f` hunter2"], "…"),
            (&["(echo hunter2)"], "…"),
            (&["a-b=hunter2"], "…"),
            (&["it's hunter2"], "…"),
            (&[], ""),
            (&[" "], ""),
        ] {
            assert_eq!(program(&owned(command)), expected, "{command:?}");
        }
    }

    #[test]
    fn arguments_are_left_out_and_marked() {
        let script = |line: &str| without_arguments(&TaskCommand::Script(line.to_owned()));
        assert_eq!(script("psql"), "psql");
        assert_eq!(script("PGPASSWORD=hunter2 psql"), "psql …");
        assert_eq!(script("A=$(hunter2) psql"), "…");
        assert_eq!(without_arguments(&TaskCommand::Words(owned(&["ls", "-l"]))), "ls …");
        assert_eq!(without_arguments(&TaskCommand::Process("console".parse().unwrap())), "console");
    }
}
