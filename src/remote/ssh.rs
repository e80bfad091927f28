//! A command that is run over the person's own ssh.

use std::{
    io::{self, IsTerminal as _},
    os::unix::process::CommandExt as _,
    process::{Command, Output, Stdio},
};

use super::{address::RemoteAddress, error::RemoteError};

/// Commands that use a terminal if the person has one.
const AT_TERMINAL: [&str; 4] = ["run", "enter", "ps:top", "registry:login"];

/// A command that is run over ssh.
#[derive(Debug)]
pub struct RemoteCommand {
    arguments: Vec<String>,
    uses_terminal: bool,
    /// Which app was chosen, and why, if the person did not name it.
    notice: Option<String>,
}

impl RemoteCommand {
    pub(super) fn new(address: &RemoteAddress, words: &[String], notice: Option<String>) -> Self {
        let mut arguments = Vec::new();
        if let Some(port) = address.port() {
            arguments.extend(["-p".to_owned(), port.to_string()]);
        }
        arguments.extend(["--".to_owned(), address.destination(), command_line(words)]);
        let uses_terminal = words.first().is_some_and(|command| AT_TERMINAL.contains(&command.as_str()));
        Self { arguments, uses_terminal, notice }
    }

    /// Tells which app was chosen, and becomes ssh, so that streams, signals and exit status are its own. Returns only if that fails.
    pub fn run(self) -> RemoteError {
        self.tell();
        let terminal = self.uses_terminal && io::stdin().is_terminal() && io::stdout().is_terminal();
        let mut command = Command::new("ssh");
        command.arg(if terminal { "-t" } else { "-T" }).args(self.arguments);
        cannot_start(command.exec())
    }

    /// Runs it and returns its output; what it says on standard error is shown.
    pub(super) fn output(self) -> Result<Output, RemoteError> {
        self.tell();
        let mut command = Command::new("ssh");
        command.arg("-T").args(self.arguments).stderr(Stdio::inherit()).output().map_err(cannot_start)
    }

    fn tell(&self) {
        if let Some(notice) = &self.notice {
            eprintln!("       {notice}");
        }
    }
}

fn cannot_start(source: io::Error) -> RemoteError {
    RemoteError::Start { program: "ssh".to_owned(), source }
}

/// The line that the server splits into these words again. Every word but the command has quotes: the words of `run APP sh -c
/// SCRIPT …` are taken for one script that has lost its quotes, if it has none.
fn command_line(words: &[String]) -> String {
    let mut line = String::new();
    for word in words {
        let quoted = shell_words::quote(word);
        if line.is_empty() {
            line.push_str(&quoted);
        } else if quoted == word.as_str() {
            line.push_str(" '");
            line.push_str(word);
            line.push('\'');
        } else {
            line.push(' ');
            line.push_str(&quoted);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn words_arrive_unchanged() {
        for all in [
            words(&["config:set", "shop", "A=it's \"$HOME\" \\ `x`", "B=", "", "C=a\nb\tc", "D=ü*?~!#;&|<>(){}[]"]),
            words(&["run", "shop", "sh", "-c", "exit", "7"]),
            words(&["-oProxyCommand=x"]),
        ] {
            assert_eq!(shell_words::split(&command_line(&all)).unwrap(), all);
        }
        assert_eq!(command_line(&words(&["run", "shop", "sh", "-c", "exit", "7"])), "run 'shop' 'sh' '-c' 'exit' '7'");
    }

    #[test]
    fn ssh_gets_its_options_before_the_destination() {
        let command = RemoteCommand::new(&"ssh://paas@host:2222".parse().unwrap(), &words(&["version"]), None);
        assert_eq!(command.arguments, ["-p", "2222", "--", "paas@host", "version"]);
        let command = RemoteCommand::new(&"ssh://host".parse().unwrap(), &words(&["run", "x", "sh"]), None);
        assert_eq!(command.arguments, ["--", "host", "run 'x' 'sh'"]);
        assert!(command.uses_terminal);
    }
}
