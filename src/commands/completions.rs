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

/// The completion script of `paas`: its own subcommands, and the commands that the server runs, here or on a remote. `paas remote
/// list --names` completes the names of remotes.
pub fn completions(shell: Shell, program: clap::Command) -> String {
    let mut server = CommandLine::command();
    let mut program = program;
    server.build();
    program.build();
    let mut commands: Vec<_> = program.get_subcommands().chain(server.get_subcommands()).map(Completed::new).collect();
    commands.sort_by(|a, b| a.name.cmp(&b.name));
    commands.dedup_by(|a, b| a.name == b.name);
    let own = Completed::new(&program).options.join(" ");
    match shell {
        Shell::Bash => bash(&commands, &own),
        Shell::Zsh => zsh(&commands, &own),
    }
}

/// Options of `paas` that stand before the command with a value, as a pattern of a shell.
const BEFORE: &str = "-r|--remote|-a|--app|--config";
/// What takes the name of a remote: the words before it, as a pattern.
const BEFORE_REMOTE: &str = "-r|--remote";

/// What can be completed of a command.
struct Completed {
    name: String,
    about: String,
    options: Vec<String>,
    /// Names of its subcommands.
    below: Vec<String>,
}

impl Completed {
    fn new(command: &clap::Command) -> Self {
        let option = |arg: &clap::Arg| arg.get_long().filter(|_| !arg.is_hide_set()).map(|long| format!("--{long}"));
        Self {
            name: command.get_name().to_owned(),
            about: command.get_about().map(ToString::to_string).unwrap_or_default(),
            options: command.get_arguments().filter_map(option).collect(),
            below: command
                .get_subcommands()
                .map(clap::Command::get_name)
                .filter(|name| *name != "help")
                .map(str::to_owned)
                .collect(),
        }
    }
}

fn names(commands: &[Completed]) -> impl Iterator<Item = &str> {
    commands.iter().map(|command| command.name.as_str())
}

/// The cases of a `case` on the command for the word after it, where the command has subcommands.
fn cases_below(commands: &[Completed], complete: impl Fn(&str) -> String) -> String {
    let mut cases = String::new();
    for command in commands.iter().filter(|command| !command.below.is_empty()) {
        let _ = writeln!(cases, "            {}) {} ;;", command.name, complete(&command.below.join(" ")));
    }
    cases
}

/// bash splits words at colons, so the script reads the line itself, and offers only what follows the last colon.
fn bash(commands: &[Completed], own: &str) -> String {
    let mut options = String::new();
    for command in commands.iter().filter(|command| !command.options.is_empty()) {
        let _ = writeln!(options, "            {}) candidates='{}' ;;", command.name, command.options.join(" "));
    }
    let below = cases_below(commands, |names| format!("candidates='{names}'"));
    let all = names(commands).collect::<Vec<_>>().join(" ");
    format!(
        "# Completion of paas for bash: source <(paas completions bash)\n\
         _paas() {{\n\
         \x20   local -a words\n\
         \x20   local line=${{COMP_LINE:0:COMP_POINT}} current previous candidates='' at=1 last\n\
         \x20   read -ra words <<<\"$line\"\n\
         \x20   [[ $line == *' ' ]] && words+=('')\n\
         \x20   last=$(( ${{#words[@]}} - 1 ))\n\
         \x20   current=${{words[last]}} previous=${{words[last - 1]}}\n\
         \x20   while (( at < last )); do\n\
         \x20       case ${{words[at]}} in\n\
         \x20           {BEFORE}) at=$(( at + 2 )) ;;\n\
         \x20           -*) at=$(( at + 1 )) ;;\n\
         \x20           *) break ;;\n\
         \x20       esac\n\
         \x20   done\n\
         \x20   if [[ $previous == @({BEFORE_REMOTE}) || \"${{words[at]}} $previous\" == 'remote '@(remove|default) ]]; then\n\
         \x20       candidates=$(paas remote list --names 2>/dev/null)\n\
         \x20   elif [[ $current == -* ]]; then\n\
         \x20       candidates='{own}'\n\
         \x20       case ${{words[at]}} in\n\
         {options}\
         \x20       esac\n\
         \x20   elif (( at == last )); then\n\
         \x20       candidates='{all}'\n\
         \x20   elif (( at + 1 == last )); then\n\
         \x20       case ${{words[at]}} in\n\
         {below}\
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
fn zsh(commands: &[Completed], own: &str) -> String {
    let (mut described, mut options) = (String::new(), String::new());
    for Completed { name, about, options: of_command, .. } in commands {
        let (name, about) = (name.replace(':', "\\:"), about.replace('\'', "'\\''"));
        let _ = writeln!(described, "        '{name}:{about}'");
        if !of_command.is_empty() {
            let _ = writeln!(options, "            {name}) compadd -- {} ;;", of_command.join(" "));
        }
    }
    let below = cases_below(commands, |names| format!("compadd -- {names}"));
    format!(
        "#compdef paas\n\
         # Completion of paas for zsh: paas completions zsh > a folder of $fpath, as _paas\n\
         _paas() {{\n\
         \x20   local -a commands=(\n\
         {described}\
         \x20   )\n\
         \x20   local at=2\n\
         \x20   while (( at < CURRENT )); do\n\
         \x20       case $words[at] in\n\
         \x20           {BEFORE}) at=$(( at + 2 )) ;;\n\
         \x20           -*) at=$(( at + 1 )) ;;\n\
         \x20           *) break ;;\n\
         \x20       esac\n\
         \x20   done\n\
         \x20   if [[ $words[CURRENT-1] == ({BEFORE_REMOTE}) || \"$words[at] $words[CURRENT-1]\" == 'remote '(remove|default) ]]; then\n\
         \x20       compadd -- ${{(f)\"$(paas remote list --names 2>/dev/null)\"}}\n\
         \x20   elif [[ $words[CURRENT] == -* ]]; then\n\
         \x20       case $words[at] in\n\
         {options}\
         \x20           *) compadd -- {own} ;;\n\
         \x20       esac\n\
         \x20   elif (( at == CURRENT )); then\n\
         \x20       _describe -t commands command commands\n\
         \x20   elif (( at + 1 == CURRENT )); then\n\
         \x20       case $words[at] in\n\
         {below}\
         \x20           *) _files ;;\n\
         \x20       esac\n\
         \x20   else\n\
         \x20       _files\n\
         \x20   fi\n\
         }}\n\
         if [[ $zsh_eval_context[-1] == loadautofunc ]]; then _paas \"$@\"; else compdef _paas paas; fi\n"
    )
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    fn program() -> clap::Command {
        let remote =
            clap::Command::new("remote").subcommand(clap::Command::new("add")).subcommand(clap::Command::new("list"));
        let server = clap::Command::new("server").about("Runs the server's part.");
        clap::Command::new("paas").arg(clap::Arg::new("remote").long("remote")).subcommand(server).subcommand(remote)
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
            "{script}\npaas() {{ printf 'prod\\ntest\\n'; }}\nCOMP_LINE='{line}' COMP_POINT={}\n_paas; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
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
    fn bash_completes_remotes_and_what_follows_them() {
        assert_eq!(in_bash("paas -r pr"), ["prod"]);
        assert_eq!(in_bash("paas ps:scale -r "), ["prod", "test"]);
        assert_eq!(in_bash("paas remote default "), ["prod", "test"]);
        assert_eq!(in_bash("paas remote "), ["add", "list"]);
        assert_eq!(in_bash("paas -r prod -a x ps:sc"), ["scale"]);
        assert_eq!(in_bash("paas -r prod apps:destroy --for"), ["--force", "--format"]);
        assert_eq!(in_bash("paas --rem"), ["--remote"]);
    }

    #[test]
    fn zsh_completes_commands_with_colons_and_options() {
        let script = completions(Shell::Zsh, program());
        let ask = |words: &str, current: u32| {
            let stubs =
                "compdef() {}; _describe() { print -rl -- $commands }; _files() {}; compadd() { print -rl -- $@ }";
            let stubs = format!("{stubs}; paas() {{ print -l prod test }}");
            run("zsh", &format!("{stubs}\n{script}\nwords=({words}); CURRENT={current}; _paas"))
        };
        let commands = ask("paas ''", 2);
        assert!(commands.contains("ps\\:scale:Set the number of instances"), "{commands}");
        assert!(commands.contains("server:Runs the server's part."), "{commands}");
        assert!(ask("paas apps:destroy my-app --f", 4).lines().any(|option| option == "--force"));
        assert!(ask("paas -r prod apps:destroy my-app --f", 6).lines().any(|option| option == "--force"));
        assert_eq!(ask("paas -r ''", 3), "--\nprod\ntest\n");
        assert_eq!(ask("paas remote default ''", 4), "--\nprod\ntest\n");
        assert_eq!(ask("paas remote ''", 3), "--\nadd\nlist\n");
        assert!(ask("paas -r prod ''", 4).contains("ps\\:scale"));
    }
}
