//! Completion scripts for shells, made of the definitions of the commands.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::command::CommandLine;

/// A shell for which there is a completion script.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shell {
    /// GNU bash.
    Bash,
    /// zsh.
    Zsh,
}

/// The completion script of `paas`: its own subcommands, and the commands that the server runs.
pub fn completions(shell: Shell, program: clap::Command) -> String {
    let mut server = CommandLine::command();
    let mut program = program;
    server.build();
    program.build();
    let mut commands: Vec<_> = program.get_subcommands().chain(server.get_subcommands()).map(Completed::new).collect();
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    commands.dedup_by(|a, b| a.name == b.name);
    match shell {
        Shell::Bash => bash(&commands),
        Shell::Zsh => zsh(&commands),
    }
}

/// What can be completed of a command.
struct Completed {
    name: String,
    about: String,
    options: Vec<String>,
}

impl Completed {
    fn new(command: &clap::Command) -> Self {
        let option = |arg: &clap::Arg| arg.get_long().filter(|_| !arg.is_hide_set()).map(|long| format!("--{long}"));
        Self {
            name: command.get_name().to_owned(),
            about: command.get_about().map(ToString::to_string).unwrap_or_default(),
            options: command.get_arguments().filter_map(option).collect(),
        }
    }
}

fn names(commands: &[Completed]) -> impl Iterator<Item = &str> {
    commands.iter().map(|command| command.name.as_str())
}

/// bash splits words at colons, so the script reads the line itself, and offers only what follows the last colon.
fn bash(commands: &[Completed]) -> String {
    let mut options = String::new();
    for command in commands.iter().filter(|command| !command.options.is_empty()) {
        let _ = writeln!(options, "        {}) candidates='{}' ;;", command.name, command.options.join(" "));
    }
    let all = names(commands).collect::<Vec<_>>().join(" ");
    format!(
        "# Completion of paas for bash: source <(paas completions bash)\n\
         _paas() {{\n\
         \x20   local -a words\n\
         \x20   local line=${{COMP_LINE:0:COMP_POINT}} current candidates=''\n\
         \x20   read -ra words <<<\"$line\"\n\
         \x20   [[ $line == *' ' ]] && words+=('')\n\
         \x20   current=${{words[-1]}}\n\
         \x20   if (( ${{#words[@]}} == 2 )); then\n\
         \x20       candidates='{all}'\n\
         \x20   elif [[ $current == -* ]]; then\n\
         \x20       case ${{words[1]}} in\n\
         {options}\
         \x20       esac\n\
         \x20   fi\n\
         \x20   mapfile -t COMPREPLY < <(compgen -W \"$candidates\" -- \"$current\")\n\
         \x20   if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then\n\
         \x20       COMPREPLY=(\"${{COMPREPLY[@]#\"${{current%:*}}:\"}}\")\n\
         \x20   fi\n\
         }}\n\
         complete -o default -F _paas paas\n"
    )
}

/// In the lists of zsh, a colon separates a name from its description.
fn zsh(commands: &[Completed]) -> String {
    let (mut described, mut options) = (String::new(), String::new());
    for Completed { name, about, options: of_command } in commands {
        let (name, about) = (name.replace(':', "\\:"), about.replace('\'', "'\\''"));
        let _ = writeln!(described, "        '{name}:{about}'");
        if !of_command.is_empty() {
            let _ = writeln!(options, "        {name}) compadd -- {} ;;", of_command.join(" "));
        }
    }
    format!(
        "#compdef paas\n\
         # Completion of paas for zsh: paas completions zsh > a folder of $fpath, as _paas\n\
         _paas() {{\n\
         \x20   local -a commands=(\n\
         {described}\
         \x20   )\n\
         \x20   if (( CURRENT == 2 )); then\n\
         \x20       _describe -t commands command commands\n\
         \x20       return\n\
         \x20   fi\n\
         \x20   if [[ $words[CURRENT] != -* ]]; then\n\
         \x20       _files\n\
         \x20       return\n\
         \x20   fi\n\
         \x20   case $words[2] in\n\
         {options}\
         \x20   esac\n\
         }}\n\
         if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _paas \"$@\"; else compdef _paas paas; fi\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn program() -> clap::Command {
        clap::Command::new("paas").subcommand(clap::Command::new("server").about("Runs the server's part."))
    }

    fn run(shell: &str, script: &str) -> String {
        let output = Command::new(shell).args(["-c", script]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{}", text(&output.stderr));
        text(&output.stdout)
    }

    fn in_bash(line: &str) -> Vec<String> {
        let script = completions(Shell::Bash, program());
        let ask = format!(
            "{script}\nCOMP_LINE='{line}' COMP_POINT={}\n_paas; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len()
        );
        run("bash", &ask).lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }

    #[test]
    fn bash_completes_commands_with_colons_and_options() {
        assert_eq!(in_bash("paas ps:sc"), ["scale"]);
        assert!(in_bash("paas ps:").contains(&"restart".to_owned()));
        assert_eq!(in_bash("paas ser"), ["server"]);
        assert!(in_bash("paas ").contains(&"apps:list".to_owned()));
        assert_eq!(in_bash("paas apps:destroy my-app --for"), ["--force", "--format"]);
        assert_eq!(in_bash("paas apps:destroy my-app").len(), 0);
    }

    #[test]
    fn zsh_completes_commands_with_colons_and_options() {
        let script = completions(Shell::Zsh, program());
        let ask = |words: &str, current: u32| {
            let stubs =
                "compdef() {}; _describe() { print -rl -- $commands }; _files() {}; compadd() { print -rl -- $@ }";
            run("zsh", &format!("{stubs}\n{script}\nwords=({words}); CURRENT={current}; _paas"))
        };
        let commands = ask("paas ''", 2);
        assert!(commands.contains("ps\\:scale:Set the number of instances"), "{commands}");
        assert!(commands.contains("server:Runs the server's part."), "{commands}");
        assert!(ask("paas apps:destroy my-app --f", 4).lines().any(|option| option == "--force"));
    }
}
